#!/usr/bin/env bash
# Boots an emulated board (qemu, Debian's arm64 kernel) with a virtual camera and a real GPIO chip,
# and runs runtime/device/examples/board.rs there: every format, a camera that is unplugged again and
# again, a pin, a pin after a crash. Two minutes; wants apt, qemu-system-arm, cpio and what
# .ci/install-arm installs.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/target/emulated
mkdir -p "$work"
env RUSTC=/usr/bin/rustc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --target aarch64-unknown-linux-gnu -p kinglet-device --example board \
    --target-dir target/arm
cd "$work"
if [ ! -d kernel/boot ]; then
    name=$(apt-cache search --names-only '^linux-image-6\.1\.0-[0-9]+-arm64$' | sort -V | tail -1 | cut -d' ' -f1)
    apt-get download "$name:arm64" busybox-static:arm64
    dpkg -x "$name"_*.deb kernel
    dpkg -x busybox-static_*.deb busybox
fi
rm -rf root
mkdir -p root/bin root/dev root/proc root/sys root/modules
cp busybox/bin/busybox root/bin/
cp ../arm/aarch64-unknown-linux-gnu/release/examples/board root/bin/
# The camera's module and all that it needs, what it needs first.
todo=vivid order=
while [ -n "$todo" ]; do
    next=
    for module in $todo; do
        file=$(find kernel/lib/modules \( -name "$module.ko" -o -name "${module//_/-}.ko" \) | head -1)
        order="$file $order"
        next="$next $(strings -a "$file" | sed -n 's/^depends=//p' | head -1 | tr ',' ' ')"
    done
    todo=$(echo "$next" | xargs)
done
number=10
for file in $(printf '%s\n' $order | awk '!seen[$0]++'); do
    cp "$file" "root/modules/$number-$(basename "$file")"
    number=$((number + 1))
done
cat >root/init <<'INIT'
#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do busybox insmod $module; done
board /dev/video0 gpiochip0:3 12 && echo "BOARD PASSED"
busybox poweroff -f
INIT
chmod +x root/init
(cd root && find . | cpio -o -H newc 2>/dev/null | gzip -1 >../initrd.gz)
timeout 600 qemu-system-aarch64 -M virt -cpu cortex-a72 -m 512 -nic none -nographic \
    -kernel kernel/boot/vmlinuz-* -initrd initrd.gz \
    -append "console=ttyAMA0 rdinit=/init quiet" </dev/null | tr -d '\r' | tee boot.log
grep -q "^BOARD PASSED" boot.log
