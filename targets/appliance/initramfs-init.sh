#!/bin/sh
# The first program: finds a slot whose root is whole, and goes on with it. The slot that the firmware has chosen is
# tried first (kinglet.slot= on the kernel's command line), unless it did not come up three times in a row.
export PATH=/bin:/sbin
/bin/busybox mkdir -p /bin /sbin /proc /sys /dev /slot /root
/bin/busybox --install -s /bin
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sys /sys
mount -t devtmpfs -o nosuid dev /dev 2>/dev/null
exec </dev/console >/dev/console 2>&1

say() {
    read -r up _ </proc/uptime
    echo "[$up] initramfs: $*"
}

# The words of the command line that are for us: the slot, and the signature in the card's partition table.
slot=a
card=
for word in $(cat /proc/cmdline); do # words, not lines
    case $word in
    kinglet.slot=[ab]) slot=${word#*=} ;;
    kinglet.card=*) card=${word#*=} ;;
    esac
done

say "looking for the card"
while read -r module; do
    insmod "/modules/$module.ko" 2>/dev/null
done </modules/order

# The card: $disk, and $parts with a number behind it. It may take a moment until it is there.
find_card() {
    for path in /sys/block/*; do
        name=${path##*/}
        found=$(dd if="/dev/$name" bs=4 skip=110 count=1 2>/dev/null | hexdump -v -e '4/1 "%02x"')
        if [ "$found" = "$card" ]; then
            for parts in "$name" "${name}p"; do
                if [ -e "$path/${parts}2" ]; then
                    disk=/dev/$name
                    parts=/dev/$parts
                    return 0
                fi
            done
        fi
    done
    return 1
}
waited=0
until find_card; do
    waited=$((waited + 1))
    if [ $waited -gt 300 ]; then
        say "there is no card with the signature $card. A restart follows in 60 s"
        sleep 60
        reboot -f
    fi
    usleep 100000
done

# Sector 2040 of the card, which no partition has: for each slot, how often it was started since it was good.
read_tries() {
    # shellcheck disable=SC2046 # words are what is wanted
    set -- $(dd if="$disk" bs=512 skip=2040 count=1 2>/dev/null | head -n 1 | tr -cd 'a-z0-9 ')
    case "$1 $2 $3" in
    "tries "[0-9]" "[0-9]) tries_a=$2 tries_b=$3 ;;
    *) tries_a=0 tries_b=0 ;;
    esac
}
count() {
    if [ "$1" = a ]; then
        tries_a=$((tries_a < 9 ? tries_a + 1 : 9))
    else
        tries_b=$((tries_b < 9 ? tries_b + 1 : 9))
    fi
    printf 'tries %s %s\n' "$tries_a" "$tries_b" |
        dd of="$disk" bs=512 seek=2040 conv=sync,notrunc,fsync 2>/dev/null
}

# Mounts the root of one slot, if every byte of it is as it was made.
try() {
    case $1 in
    a) device=${parts}2 ;;
    *) device=${parts}3 ;;
    esac
    mount -t vfat -o ro,nosuid,nodev,noexec "$device" /slot || {
        say "slot $1: $device cannot be mounted"
        return 1
    }
    want=$(cut -c 1-64 /slot/root.sha256 2>/dev/null)
    have=$(sha256sum /slot/root.squashfs 2>/dev/null | cut -c 1-64)
    if [ "${#want}" = 64 ] && [ "$want" = "$have" ]; then
        if mount -t squashfs -o ro,nodev,loop /slot/root.squashfs /root && [ -x /root/sbin/init ]; then
            return 0
        fi
        umount /root 2>/dev/null
    fi
    say "slot $1: its root is damaged"
    umount /slot
    return 1
}

other() {
    case $1 in
    a) echo b ;;
    *) echo a ;;
    esac
}

# A slot that did not come up three times is tried after the other one.
read_tries
first=$slot
case $slot in
a) [ "$tries_a" -lt 3 ] || [ "$tries_b" -ge 3 ] || first=b ;;
*) [ "$tries_b" -lt 3 ] || [ "$tries_a" -ge 3 ] || first=a ;;
esac
[ "$first" = "$slot" ] || say "slot $slot did not come up three times: the other one"
for choice in "$first" "$(other "$first")"; do
    if try "$choice"; then
        count "$choice"
        say "slot $choice on $device"
        echo "$choice $disk $parts" >/dev/.kinglet
        mount --move /slot /root/boot
        mount --move /proc /root/proc
        mount --move /sys /root/sys
        mount --move /dev /root/dev
        exec switch_root /root /sbin/init
    fi
done
say "no slot has a root that is whole: write the card again. A restart follows in 60 s"
sleep 60
reboot -f
