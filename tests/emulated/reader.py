"""A PC with a card reader, emulated: what is typed there to write a card."""

import os, re, select, subprocess, time

MACHINE = r"""
set -euo pipefail
arch=amd64
. tests/emulated/machine.sh
# The system's disk: the program with its libraries, and the image.
disk=$work/disk
rm -rf "$disk"
mkdir -p "$disk"/{bin,proc,sys,dev,tmp,root}
for file in $(ldd "$TOOLS" | grep -o '/[^ ]*'); do cp --parents -L "$file" "$disk/"; done
cp "$TOOLS" "$disk/bin/kinglet-tools"
cp --sparse=always "$IMAGE" "$disk/root/card.img"
machine ahci sd_mod ext4 crc32c_generic xhci_pci usb_storage <<'INIT'
busybox mkdir -p /new
while [ ! -b /dev/sda ] || [ ! -b /dev/sdb ]; do busybox sleep 0.2; done
busybox mount -t ext4 /dev/sda /new
for name in proc sys dev; do busybox mount --bind /$name /new/$name; done
busybox chroot /new /bin/busybox sh /run
busybox umount /new/proc /new/sys /new/dev /new
busybox poweroff -f
INIT
cp "$work/busybox/bin/busybox" "$disk/bin/"
# Whoever is there is root already.
printf '#!/bin/busybox sh\nexec "$@"\n' >"$disk/bin/sudo"
chmod +x "$disk/bin/sudo"
cp "$COMMANDS" "$disk/run"
rm -f "$work/disk.ext4"
truncate -s $(($(stat -c %s "$IMAGE") + (200 << 20))) "$work/disk.ext4"
PATH=$PATH:/usr/sbin mkfs.ext4 -q -d "$disk" "$work/disk.ext4"
rm -rf "$disk"
"""


def type_there(tools, image, card, work, commands, seconds=1800):
    """Runs the commands with `image` as card.img, and `card`, a file, in the reader; what the screen shows. Asked, it says yes."""
    os.makedirs(work, exist_ok=True)
    with open(f"{work}/commands", "w") as file:
        file.write("export PATH=/bin HOME=/root\ncd /root\n")
        for command in commands:
            file.write(f"echo '$ {command}'\n{command}\necho \"exit code $?\"\n")
    environment = dict(os.environ, work=work, TOOLS=tools, IMAGE=image, COMMANDS=f"{work}/commands")
    subprocess.run(["bash", "-c", MACHINE], env=environment, check=True)
    kernel = subprocess.run(["bash", "-c", f"echo {work}/kernel/boot/vmlinuz-*"], stdout=subprocess.PIPE, text=True, check=True)
    process = subprocess.Popen(
        ["qemu-system-x86_64", "-M", "q35", "-cpu", "max", "-m", "512", "-nic", "none", "-nographic", "-no-reboot",
         "-kernel", kernel.stdout.strip(), "-initrd", f"{work}/initrd.gz", "-append", "console=ttyS0 rdinit=/init quiet",
         "-drive", f"file={work}/disk.ext4,format=raw,if=none,id=system", "-device", "ide-hd,drive=system,bus=ide.0",
         "-device", "qemu-xhci", "-drive", f"file={card},format=raw,if=none,id=card",
         "-device", "usb-storage,drive=card,removable=on"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    said, asked, until = b"", 0, time.time() + seconds
    try:
        while process.poll() is None and time.time() < until:
            if select.select([process.stdout], [], [], 1)[0]:
                said += os.read(process.stdout.fileno(), 65536)
            if said.count(b"Type yes:") > asked:
                asked += 1
                process.stdin.write(b"yes\n")
    finally:
        process.kill()
        process.wait()
    with open(f"{work}/screen.log", "wb") as file:
        file.write(said)
    # What a line shows at last, without colours.
    lines = [line.rstrip("\r").split("\r")[-1] for line in said.decode(errors="replace").split("\n")]
    lines = [re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|c)", "", line).strip() for line in lines]
    return "\n".join(line for line in lines if line)
