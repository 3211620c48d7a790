#!/bin/sh
# What udhcpc calls with what it was given.
# shellcheck disable=SC2154 # udhcpc sets them
. /usr/lib/appliance/common
case $1 in
deconfig)
    ifconfig "$interface" 0.0.0.0
    ;;
bound | renew)
    ifconfig "$interface" "$ip" netmask "${subnet:-255.255.255.0}"
    if [ -n "$router" ]; then
        while route del default dev "$interface" 2>/dev/null; do :; done
        route add default gw "${router%% *}" dev "$interface"
    fi
    : >/run/resolv.part
    for server in $dns; do echo "nameserver $server" >>/run/resolv.part; done
    mv /run/resolv.part /run/resolv.conf
    [ "$1" = renew ] || say "network: $interface has the address $ip"
    ;;
esac
