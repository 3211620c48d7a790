#!/usr/bin/env bash
# An image that is made as Raspberry Pi OS is, of Debian's packages for arm64: the same two partitions, files and names, the
# same first boot (Debian 13: cloud-init and NetworkManager; Debian 12: a script that systemd runs), and a kernel that the
# emulator can start. Raspberry Pi OS itself has a kernel for Raspberry Pis only. What its own packages do and Debian's do not
# is done here: groups and rules for pins, the mount of /boot/firmware before cloud-init looks there.
#
#   tests/emulated/raspios.sh trixie|bookworm     makes target/emulated/raspios-SUITE/SUITE.img.xz, if it is not there
#
# Packages are fetched and unpacked here (debootstrap --foreign) and set up in the emulated machine, so neither a foreign
# processor's programs run here nor is anything mounted. Ten minutes, once. Wants debootstrap, qemu-system-arm, mtools,
# e2fsprogs, fdisk, kmod, cpio; fakeroot for who is not root.
set -euo pipefail
cd "$(dirname "$0")/../.."
suite=$1
[ "$(id -u)" = 0 ] || [ -n "${FAKEROOTKEY:-}" ] || exec fakeroot "$0" "$@"
work=$PWD/target/emulated/raspios-$suite
image=$work/$suite.img
[ ! -f "$image.xz" ] || exit 0
mkdir -p "$work"
. tests/emulated/machine.sh

names=systemd-sysv,systemd-timesyncd,dbus,udev,kmod,network-manager,wpasupplicant,openssh-server,sudo,avahi-daemon
names=$names,iproute2,procps,hostapd,rfkill,dosfstools,e2fsprogs,netbase,tzdata
case $suite in
    trixie) names=$names,cloud-init,netplan.io ;;
    bookworm) names=$names,libpam-systemd ;; # debootstrap does not know that it is the logind that polkitd asks for
    *) echo "trixie or bookworm" >&2; exit 2 ;;
esac
tree=$work/$suite
rm -rf "$tree" "$image"
/usr/sbin/debootstrap --foreign --arch=arm64 --variant=minbase --include="$names" "$suite" "$tree" >"$work/debootstrap.log"

# Modules of the kernel that the emulator starts; /lib is a link to usr/lib there.
kernel
cp -a "$work"/kernel/lib/modules "$tree/usr/lib/"
depmod -b "$tree/usr" -m /lib/modules "$(ls "$work/kernel/lib/modules")" 2>/dev/null ||
    depmod -b "$tree" "$(ls "$work/kernel/lib/modules")"
put() { mkdir -p "$(dirname "$tree/$1")"; cat >"$tree/$1"; }
disk=0x4b696e67
printf '%s\n' "PARTUUID=${disk#0x}-01 /boot/firmware vfat defaults 0 2" "PARTUUID=${disk#0x}-02 / ext4 defaults,noatime 0 1" |
    put etc/fstab
echo raspberrypi | put etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 raspberrypi\n' | put etc/hosts
# The camera, and two radios: the board's, and the router's.
printf 'vivid\nmac80211_hwsim\n' | put etc/modules-load.d/emulated.conf
# As Raspberry Pi OS has it.
echo 'SUBSYSTEM=="gpio", GROUP="gpio", MODE="0660"' | put etc/udev/rules.d/99-com.rules
put setup <<'SETUP'
set -eux
for group in spi i2c gpio; do groupadd --system $group; done
useradd -m -u 1000 -s /bin/bash pi
passwd -l root
echo 'pi ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/010_pi-nopasswd
chmod 440 /etc/sudoers.d/010_pi-nopasswd
systemctl disable hostapd 2>/dev/null || true
rm -rf /var/cache/apt/archives/*.deb /debootstrap /setup
rm -f /etc/ssh/ssh_host_*
SETUP
# Raspberry Pi OS makes its keys at the first boot.
put etc/systemd/system/regenerate_ssh_host_keys.service <<'UNIT'
[Unit]
Before=ssh.service
ConditionFileIsExecutable=/usr/bin/ssh-keygen
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
UNIT
if [ "$suite" = trixie ]; then
    put etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg <<'CONFIG'
datasource_list: [ NoCloud, None ]
datasource:
  NoCloud:
    seedfrom: file:///boot/firmware/
ssh_deletekeys: false
ssh_genkeytypes: []
CONFIG
    put etc/systemd/system/cloud-init-local.service.d/firmware.conf <<'UNIT'
[Unit]
RequiresMountsFor=/boot/firmware
UNIT
    printf 'network:\n  version: 2\n  renderer: NetworkManager\n' | put usr/lib/netplan/00-network-manager-all.yaml
    chmod 600 "$tree/usr/lib/netplan/00-network-manager-all.yaml"
fi
# The neighbour's router, on the second radio: Wi-Fi that the board may join.
put etc/NetworkManager/conf.d/router.conf <<'CONFIG'
[keyfile]
unmanaged-devices=interface-name:wlan1
CONFIG
put etc/hostapd/router.conf <<'CONFIG'
interface=wlan1
ssid=Home
channel=1
hw_mode=g
wpa=2
wpa_key_mgmt=WPA-PSK
rsn_pairwise=CCMP
wpa_passphrase=a passphrase
CONFIG
put etc/systemd/system/router.service <<'UNIT'
[Unit]
After=sys-subsystem-net-devices-wlan1.device
Wants=sys-subsystem-net-devices-wlan1.device
[Service]
ExecStartPre=-/usr/sbin/rfkill unblock wifi
ExecStart=/usr/sbin/hostapd /etc/hostapd/router.conf
Restart=on-failure
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$tree/etc/systemd/system/multi-user.target.wants" "$tree/boot/firmware"
for unit in router regenerate_ssh_host_keys; do
    ln -s "../$unit.service" "$tree/etc/systemd/system/multi-user.target.wants/$unit.service"
done

# Set up in the emulated machine.
rootfs=$work/$suite.ext4
rm -f "$rootfs"
truncate -s 1900M "$rootfs"
/usr/sbin/mkfs.ext4 -q -F -d "$tree" "$rootfs"
rm -rf "$tree"
machine virtio_pci virtio_blk crc32c_generic ext4 <<'INIT'
busybox mkdir -p /new
busybox mount -t ext4 /dev/vda /new
for name in proc sys dev; do busybox mount --bind /$name /new/$name; done
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive
if /bin/busybox chroot /new /debootstrap/debootstrap --second-stage && /bin/busybox chroot /new sh /setup; then
    echo "SET UP"
else
    /bin/busybox tail -30 /new/debootstrap/debootstrap.log
fi
/bin/busybox sync
/bin/busybox poweroff -f
INIT
timeout 3000 qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 1024 -nic none -nographic \
    -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/initrd.gz" -append "console=ttyAMA0 rdinit=/init quiet" \
    -drive "file=$rootfs,format=raw,if=none,id=d,cache=unsafe" -device virtio-blk-pci,drive=d </dev/null |
    sed -u 's/\r$//' >"$work/setup.log"
grep -q '^SET UP' "$work/setup.log" || { tail -40 "$work/setup.log"; exit 1; }
/usr/sbin/e2fsck -fy "$rootfs" >/dev/null || [ $? -le 1 ]

# What starts it: finds the root as the real one does, by the kernel's command line.
machine virtio_pci virtio_blk crc32c_generic ext4 <<'INIT'
busybox mkdir -p /new
while [ ! -b /dev/vda2 ]; do busybox sleep 0.1; done
busybox mount -t ext4 /dev/vda2 /new
busybox umount /proc /sys
busybox mount --move /dev /new/dev
exec /bin/busybox switch_root /new /sbin/init
INIT

# The boot partition, and both in one image.
boot=$work/boot
rm -rf "$boot"
mkdir "$boot"
cp "$work"/kernel/boot/vmlinuz-* "$boot/kernel8.img"
cp "$work/initrd.gz" "$boot/initramfs8"
echo "console=ttyAMA0 root=PARTUUID=${disk#0x}-02 rootfstype=ext4 fsck.repair=yes rootwait net.ifnames=0" >"$boot/cmdline.txt"
printf 'arm_64bit=1\nauto_initramfs=1\n' >"$boot/config.txt"
if [ "$suite" = trixie ]; then
    printf '#cloud-config\n' >"$boot/user-data"
    printf 'network:\n  version: 2\n' >"$boot/network-config"
    printf 'instance-id: rpios-image\n' >"$boot/meta-data"
fi
truncate -s 2048M "$image.part"
printf 'label: dos\nlabel-id: %s\nstart=8M, size=120M, type=c\nstart=128M, type=83\n' "$disk" | /usr/sbin/sfdisk -q "$image.part"
mformat -i "$image.part@@8M" -F -v bootfs -h 64 -s 32 -T $((120 * 2048)) ::
mcopy -i "$image.part@@8M" "$boot"/* ::
dd if="$rootfs" of="$image.part" bs=1M seek=128 conv=notrunc,sparse status=none
xz -1 -T0 <"$image.part" >"$image.xz.part"
rm "$image.part" "$rootfs"
mv "$image.xz.part" "$image.xz"
