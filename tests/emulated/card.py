"""A board that boots from a card in qemu, and is listened to at its serial console."""

import atexit, os, re, signal, socket, subprocess, sys, time, urllib.error, urllib.request

# Who ends the test ends the machines too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
SLOT_A = 17 << 20
# Where Raspberry Pi OS has its boot partition, in the images of raspios.sh.
BOOTFS = 8 << 20
# A decision on the console, with the seconds since the kernel's start.
DECISION = r"\[(\d+\.\d+)\] kinglet: .*\d+\.\d %.*ms"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Machine:
    """Boots `image` as `board` (virt or pi3), from the partition at `boot`; what it says is in `folder`/`name`.log.
    More `options` are qemu's."""

    def __init__(self, board, image, folder, name, boot=SLOT_A, initramfs="initramfs.gz", memory=512, options=()):
        self.board, self.image, self.folder, self.boot = board, image, folder, boot
        self.http, self.ssh, self.said, self.rest = free_port(), free_port(), [], ""
        forward = f"user,id=n,hostfwd=tcp:127.0.0.1:{self.http}-:8080,hostfwd=tcp:127.0.0.1:{self.ssh}-:22"
        line = open(self.from_slot("cmdline.txt")).read().strip()
        if board == "virt":
            machine = ["-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", str(memory), "-serial", "stdio",
                       "-drive", f"file={image},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d",
                       "-netdev", forward, "-device", "virtio-net-pci,netdev=n,romfile="]
        else:
            # Its emulated watchdog restarts at once instead of after 15 s.
            line += " kinglet.watchdog=off"
            dtb = self.from_slot("bcm2837-rpi-3-b.dtb")
            machine = ["-M", "raspi3b", "-serial", "null", "-serial", "stdio", "-dtb", dtb,
                       "-drive", f"file={image},format=raw,if=sd", "-netdev", forward, "-device", "usb-net,netdev=n"]
        self.start = time.time()
        self.log = open(f"{folder}/{name}.log", "w")
        self.qemu = subprocess.Popen(
            ["qemu-system-aarch64", *machine, "-display", "none", "-monitor", "none", *options, "-kernel",
             self.from_slot("kernel8.img"), "-initrd", self.from_slot(initramfs), "-append", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
        atexit.register(self.qemu.kill)
        os.set_blocking(self.qemu.stdout.fileno(), False)

    def from_slot(self, name):
        """A file of the boot partition, as the firmware would read it."""
        path = f"{self.folder}/{self.board}-{name}"
        subprocess.run(["mcopy", "-o", "-i", f"{self.image}@@{self.boot}", f"::{name}", path], check=True)
        return path

    def listen(self):
        self.rest += (self.qemu.stdout.read() or b"").decode(errors="replace").replace("\r", "")
        *lines, self.rest = self.rest.split("\n")
        for text in lines:
            self.said.append(text)
            self.log.write(f"{time.time() - self.start:7.1f} {text}\n")
            self.log.flush()

    def ok(self, what):
        print(f"ok: {self.board}: {what} ({time.time() - self.start:.0f} s)", flush=True)

    def fail(self, what):
        self.listen()
        print("\n".join(self.said[-40:]))
        raise SystemExit(f"FAILED: {self.board}: {what}")

    def wait(self, what, pattern, seconds=600):
        """The first line that matches, once it is there."""
        until = time.time() + seconds
        while time.time() < until:
            self.listen()
            for text in self.said:
                if found := re.search(pattern, text):
                    self.ok(what)
                    return found
            if self.qemu.poll() is not None:
                break
            time.sleep(0.1)
        self.fail(what)

    def ask(self, path, token=None, seconds=300):
        """A page over the forwarded port; again until there is an answer."""
        until = time.time() + seconds
        while True:
            self.listen()
            try:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers=headers)
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()
            except OSError as error:
                if time.time() > until:
                    self.fail(f"{path}: {error}")
                time.sleep(1)

    def run(self, command, **options):
        """Runs a command while the console is listened to: its exit code and all that it printed."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        os.set_blocking(process.stdout.fileno(), False)
        said = b""
        while True:
            ended = process.poll() is not None
            said += process.stdout.read() or b""
            self.listen()
            if ended:
                return process.returncode, said.decode(errors="replace")
            time.sleep(0.1)

    def login(self, host, user):
        """A configuration with which ssh finds the board by a name, with the key `folder`/login; where it is."""
        path = f"{self.folder}/ssh_config"
        with open(path, "w") as file:
            file.write(f"Host {host}\n  HostName 127.0.0.1\n  Port {self.ssh}\n  User {user}\n"
                       f"  IdentityFile {self.folder}/login\n  IdentitiesOnly yes\n"
                       f"  UserKnownHostsFile {self.folder}/known_hosts\n  StrictHostKeyChecking accept-new\n")
        return path

    def stop(self):
        self.qemu.kill()
        self.qemu.wait()
