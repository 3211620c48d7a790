#!/bin/sh
# Runs Kinglet for ever; the pause before it is started again grows to a minute.
. /usr/lib/appliance/common
seconds() { cut -d . -f 1 /proc/uptime; }

# A slot that has stayed up for a minute is good: its count of starts begins again.
good() {
    sleep 60
    read -r slot disk _ </dev/.kinglet
    # shellcheck disable=SC2046 # words are what is wanted
    set -- $(dd if="$disk" bs=512 skip=2040 count=1 2>/dev/null | head -n 1 | tr -cd 'a-z0-9 ')
    case $slot in
    a) set -- 0 "${3:-0}" ;;
    *) set -- "${2:-0}" 0 ;;
    esac
    printf 'tries %s %s\n' "$1" "$2" |
        dd of="$disk" bs=512 seek=2040 conv=sync,notrunc,fsync 2>/dev/null
}

# It starts a program that was pushed by itself.
program=/usr/bin/kinglet
pause=1
# A camera on USB may come a moment later; kinglet waits for it too.
while :; do
    begun=$(seconds)
    good &
    watch=$!
    say "service: $program starts"
    cd /var/lib/kinglet || exit
    # Not at the console: a program at a terminal takes SIGHUP for its end, and is told of no release.
    $program watch --config /etc/kinglet/kinglet.toml </dev/null 2>&1 | named kinglet
    kill $watch 2>/dev/null
    $program watch --config /etc/kinglet/kinglet.toml --release-pins >/dev/null 2>&1
    [ $(($(seconds) - begun)) -lt 60 ] || pause=1
    say "service: kinglet has ended; again in $pause s"
    sleep $pause
    pause=$((pause * 2 < 60 ? pause * 2 : 60))
done
