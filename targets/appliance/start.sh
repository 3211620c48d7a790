#!/bin/sh
# Once, before everything else: modules, the data partition, folders.
. /usr/lib/appliance/common
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,mode=620 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=755,size=16m tmpfs /run
mount -t tmpfs -o nosuid,nodev,mode=1777,size=64m tmpfs /tmp
while read -r module; do
    insmod "/lib/modules/$module.ko" 2>/dev/null
done </lib/modules/order
hostname -F /etc/hostname
ifconfig lo 127.0.0.1 up
read -r slot _ parts </dev/.kinglet

# The data partition is checked at each start. It is made anew only where nothing was ever made.
data=${parts}4
if [ ! -b "$data" ]; then
    data=
elif [ "$(head -c 1048576 "$data" | tr -d '\0' | head -c 1 | wc -c)" = 0 ]; then
    say "start: the data partition was never made: it is made now"
    # Its beginning last: a start that is cut off here begins again.
    image=/usr/lib/appliance/data.ext4.gz
    zcat $image | tail -c +1048577 | dd of="$data" bs=1M seek=1 conv=fsync 2>/dev/null
    zcat $image | head -c 1048576 | dd of="$data" bs=1M conv=notrunc,fsync 2>/dev/null
fi
mounted=no
if [ -n "$data" ]; then
    e2fsck -p "$data" >/run/e2fsck.log 2>&1
    [ $? -lt 4 ] || e2fsck -y "$data" >>/run/e2fsck.log 2>&1
    if mount -t ext4 -o noatime,nosuid,nodev,commit=5 "$data" /data; then
        mounted=yes
    fi
fi
if [ $mounted = no ]; then
    say "start: the data partition cannot be used (${data:-there is none}): nothing will be kept"
    mount -t tmpfs -o nosuid,nodev,mode=755,size=64m tmpfs /data
fi
mkdir -p /data/etc/kinglet /data/var/lib/kinglet /data/var/log/kinglet /data/ssh
chmod 700 /data/ssh
# What is missing is as the image was made with; what is there, is kept.
for file in /usr/share/kinglet/*; do
    [ -e "/data/etc/kinglet/${file##*/}" ] || cp "$file" /data/etc/kinglet/
done
mount --bind /data/etc/kinglet /etc/kinglet
mount --bind /data/var/lib/kinglet /var/lib/kinglet
mount --bind /data/var/log/kinglet /var/log/kinglet
if [ ! -s /etc/kinglet/token ]; then
    umask 077
    head -c 18 /dev/urandom | base64 | tr '+/' '-_' >/etc/kinglet/token.part
    sync
    mv /etc/kinglet/token.part /etc/kinglet/token
    sync
    say "start: the page's token is $(cat /etc/kinglet/token)"
fi
say "start: slot $slot is up, data on ${data:-memory}"
