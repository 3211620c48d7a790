# What an emulated board is made of; sourced by the other scripts, which set $work, a folder.
# Wants apt, qemu-system-arm, cpio and what .ci/install-arm installs.

# cargo for aarch64, static, as .ci/run does it.
cross() {
    env RUSTC=/usr/bin/rustc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --release --target aarch64-unknown-linux-gnu --target-dir target/arm "$@"
}

# Debian's packages (NAME:arm64), unpacked into a folder of $work.
packages() {
    local folder=$1
    shift
    [ ! -d "$work/$folder" ] || return 0
    mkdir -p "$work/debs"
    (cd "$work/debs" && apt-get download "$@")
    local package
    for package in "$@"; do
        for file in "$work/debs/${package%:*}"_*.deb; do dpkg -x "$file" "$work/$folder.part"; done
    done
    mv "$work/$folder.part" "$work/$folder"
}

# More files of the machine, in $work/root: replaced by who has some.
extra() { :; }

# Debian's kernel for $arch (arm64 if it is not set) in $work/kernel.
kernel() {
    local name
    name=$(apt-cache search --names-only "^linux-image-6\\.1\\.0-[0-9]+-${arch:-arm64}\$" | sort -V | tail -1 | cut -d' ' -f1)
    packages kernel "$name:${arch:-arm64}"
}

# $work/root with a shell, the modules named (the virtual camera's if none) and all that they need, what is needed first, and an
# init that goes on with standard input; $work/initrd.gz of it.
machine() {
    kernel
    packages busybox "busybox-static:${arch:-arm64}"
    rm -rf "$work/root"
    mkdir -p "$work"/root/{bin,dev,proc,sys,modules,etc,tmp}
    cp "$work/busybox/bin/busybox" "$work/root/bin/"
    local todo=${*:-vivid} order='' next module file number=10
    while [ -n "$todo" ]; do
        next=
        for module in $todo; do
            file=$(find "$work/kernel/lib/modules" \( -name "$module.ko" -o -name "${module//_/-}.ko" \) | head -1)
            order="$file $order"
            next="$next $(strings -a "$file" | sed -n 's/^depends=//p' | head -1 | tr ',' ' ')"
        done
        todo=$(echo "$next" | xargs)
    done
    for file in $(printf '%s\n' $order | awk '!seen[$0]++'); do
        cp "$file" "$work/root/modules/$number-$(basename "$file")"
        number=$((number + 1))
    done
    cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in /modules/*.ko; do busybox insmod $module; done
INIT
    cat >>"$work/root/init"
    chmod +x "$work/root/init"
    extra
    (cd "$work/root" && find . | cpio -o -H newc 2>/dev/null | gzip -1 >"$work/initrd.gz")
}

# Boots it; more arguments are qemu's.
boot() {
    timeout 900 qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 512 -nic none -nographic \
        -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/initrd.gz" \
        -append "console=ttyAMA0 rdinit=/init quiet" "$@" </dev/null | tr -d '\r'
}
