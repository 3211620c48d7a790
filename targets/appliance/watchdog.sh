#!/bin/sh
# Feeds the watchdog; without one there is nothing to do.
[ -c /dev/watchdog ] || exec sleep 86400
# qemu's Raspberry Pi takes the watchdog's start for its end.
! grep -qw kinglet.watchdog=off /proc/cmdline || exec sleep 86400
exec watchdog -F -t 5 -T 15 /dev/watchdog
