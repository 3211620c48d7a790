#!/bin/sh
# Before the machine goes off: pins safe, data whole.
. /usr/lib/appliance/common
killall kinglet 2>/dev/null
usleep 500000
kinglet watch --config /etc/kinglet/kinglet.toml --release-pins >/dev/null 2>&1
umount /etc/kinglet /var/lib/kinglet /var/log/kinglet 2>/dev/null
umount /data 2>/dev/null || mount -o remount,ro /data
sync
