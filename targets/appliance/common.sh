# shellcheck shell=sh
# What the scripts of the appliance share.
export PATH=/usr/bin:/bin:/sbin:/usr/sbin

# A line on the console, with the seconds since the kernel started.
say() {
    read -r up _ </proc/uptime
    echo "[$up] $*" >/dev/console
}

# The same for each line of standard input.
named() {
    while IFS= read -r line; do
        read -r up _ </proc/uptime
        echo "[$up] $1: $line" >/dev/console
    done
}
