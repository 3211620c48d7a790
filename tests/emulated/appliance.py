"""Boots an appliance's image in qemu and asserts what it says; called by appliance.sh: BOARD IMAGE FOLDER."""

import atexit, os, re, shutil, socket, subprocess, sys, time, urllib.request

board, image, work = sys.argv[1:]
SLOT_A = 17 << 20
DECISION = re.compile(r"\[(\d+\.\d+)\] kinglet: .*\d+\.\d %.*ms")


def from_slot(name):
    """A file of slot a, as the firmware would read it."""
    path = f"{work}/{board}-{name}"
    subprocess.run(["mcopy", "-o", "-i", f"{image}@@{SLOT_A}", f"::{name}", path], check=True)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Machine:
    def __init__(self, card, name):
        self.port, self.said, self.rest = free_port(), [], ""
        forward = f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:8080"
        line = open(from_slot("cmdline.txt")).read().strip()
        if board == "virt":
            machine = ["-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "512", "-serial", "stdio",
                       "-drive", f"file={card},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d",
                       "-netdev", forward, "-device", "virtio-net-pci,netdev=n,romfile="]
        else:
            # Its emulated watchdog restarts at once instead of after 15 s.
            line += " kinglet.watchdog=off"
            machine = ["-M", "raspi3b", "-serial", "null", "-serial", "stdio", "-dtb", from_slot("bcm2837-rpi-3-b.dtb"),
                       "-drive", f"file={card},format=raw,if=sd", "-netdev", forward, "-device", "usb-net,netdev=n"]
        self.start = time.time()
        self.log = open(f"{work}/{name}.log", "w")
        self.qemu = subprocess.Popen(
            ["qemu-system-aarch64", *machine, "-display", "none", "-monitor", "none", "-kernel",
             from_slot("kernel8.img"), "-initrd", from_slot("initramfs.gz"), "-append", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
        atexit.register(self.qemu.kill)
        os.set_blocking(self.qemu.stdout.fileno(), False)

    def listen(self):
        self.rest += (self.qemu.stdout.read() or b"").decode(errors="replace").replace("\r", "")
        *lines, self.rest = self.rest.split("\n")
        for text in lines:
            self.said.append(text)
            self.log.write(f"{time.time() - self.start:7.1f} {text}\n")
            self.log.flush()

    def wait(self, what, pattern, seconds=600):
        """The first line that matches, once it is there."""
        begun = time.time()
        while time.time() - begun < seconds:
            self.listen()
            for text in self.said:
                if found := re.search(pattern, text):
                    print(f"ok: {board}: {what} ({time.time() - self.start:.0f} s)", flush=True)
                    return found
            if self.qemu.poll() is not None:
                break
            time.sleep(0.1)
        print("\n".join(self.said[-40:]))
        raise SystemExit(f"FAILED: {board}: {what}")

    def ask(self, path, token=None, seconds=300):
        """A page over the forwarded port; again until there is an answer."""
        begun = time.time()
        while True:
            self.listen()
            try:
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()
            except OSError as error:
                if time.time() - begun > seconds:
                    raise SystemExit(f"FAILED: {board}: {path}: {error}")
                time.sleep(1)

    def stop(self):
        self.qemu.kill()
        self.qemu.wait()


machine = Machine(image, f"{board}-first")
up = machine.wait("the initramfs has found slot a", r"\[(\d+\.\d+)\] initramfs: slot a on")
token = machine.wait("a token was made", r"token is (\S+)")[1]
root = machine.wait("the root is up, with its data", r"\[(\d+\.\d+)\] start: slot a is up, data on /dev/")
begun = machine.wait("kinglet starts", r"\[(\d+\.\d+)\] service: /usr/bin/kinglet starts")
first = machine.wait("the first decision is on the console", DECISION.pattern)
assert machine.ask("/v1/state")[0] == 401, "without the token nobody is let in"
status, state = machine.ask("/v1/state", token)
assert status == 200 and b"model" in state, (status, state[:300])
print(f"ok: {board}: the page's state: {state[:160].decode(errors='replace')}…")
times = [float(t[1]) for t in (up, root, begun, first)]
names = ["kernel and initramfs", "root, modules, data", "to kinglet's start", "kinglet to its first decision"]
before = 0.0
for name, now in zip(names, times):
    print(f"    {name:<32} {now - before:6.2f} s")
    before = now
print(f"    {'kernel start to first decision':<32} {times[-1]:6.2f} s, in emulation")
# A minute later the slot is good; then the power is cut.
time.sleep(5)
machine.stop()

machine = Machine(image, f"{board}-second")
machine.wait("after a power cut it decides again", DECISION.pattern)
assert not any("token is" in text for text in machine.said), "the token was kept"
machine.stop()

if board == "virt":
    damaged = f"{work}/damaged.img"
    shutil.copyfile(image, damaged)
    with open(damaged, "r+b") as card:
        # One bit of slot a's root; its FAT is found by the squashfs magic.
        card.seek(SLOT_A)
        slot = card.read(64 << 20)
        at = slot.index(b"hsqs") + 1_000_000
        card.seek(SLOT_A + at)
        card.write(bytes([slot[at] ^ 1]))
        # And a data partition that was never made.
        table = slot and open(damaged, "rb").read(512)
        start = int.from_bytes(table[446 + 48 + 8:446 + 48 + 12], "little") * 512
        card.seek(start)
        card.write(bytes(8 << 20))
    machine = Machine(damaged, "virt-damaged")
    machine.wait("a flipped bit in slot a is seen", r"slot a: its root is damaged")
    machine.wait("slot b starts instead", r"initramfs: slot b on")
    machine.wait("the data partition is made", r"was never made: it is made now")
    machine.wait("it decides all the same", DECISION.pattern)
    machine.stop()
