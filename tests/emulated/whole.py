"""Boots the card of whole.sh and pushes models to it: CARD FOLDER KINGLET_TOOLS."""

import atexit, json, os, re, socket, subprocess, sys, time, urllib.request

card, work, tools = sys.argv[1:]
SLOT_A = 17 << 20
DECISION = r"kinglet: .*\d+\.\d %.*ms"


def from_slot(name):
    """A file of slot a, as the firmware would read it."""
    path = f"{work}/{name}"
    subprocess.run(["mcopy", "-o", "-i", f"{card}@@{SLOT_A}", f"::{name}", path], check=True)
    return path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


http, ssh = free_port(), free_port()
forward = f"user,id=n,hostfwd=tcp:127.0.0.1:{http}-:8080,hostfwd=tcp:127.0.0.1:{ssh}-:22"
qemu = subprocess.Popen(
    ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "512", "-display", "none",
     "-monitor", "none", "-serial", "stdio", "-drive", f"file={card},format=raw,if=none,id=d", "-device",
     "virtio-blk-pci,drive=d", "-netdev", forward, "-device", "virtio-net-pci,netdev=n,romfile=", "-kernel",
     from_slot("kernel8.img"), "-initrd", from_slot("initramfs.gz"), "-append", open(from_slot("cmdline.txt")).read().strip()],
    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
atexit.register(qemu.kill)
os.set_blocking(qemu.stdout.fileno(), False)
begun, said, rest = time.time(), [], ""
log = open(f"{work}/console.log", "w")


def listen():
    global rest
    rest += (qemu.stdout.read() or b"").decode(errors="replace").replace("\r", "")
    *lines, rest = rest.split("\n")
    for text in lines:
        said.append(text)
        log.write(f"{time.time() - begun:7.1f} {text}\n")
        log.flush()


def ok(what):
    print(f"ok: {what} ({time.time() - begun:.0f} s)", flush=True)


def fail(what):
    listen()
    print("\n".join(said[-40:]))
    raise SystemExit(f"FAILED: {what}")


def wait(what, pattern, after=0, seconds=600):
    """The first line after some that matches, once it is there."""
    until = time.time() + seconds
    while time.time() < until:
        listen()
        for text in said[after:]:
            if found := re.search(pattern, text):
                ok(what)
                return found
        if qemu.poll() is not None:
            break
        time.sleep(0.1)
    fail(what)


with open(f"{work}/ssh_config", "w") as config:
    config.write(f"Host board\n  HostName 127.0.0.1\n  Port {ssh}\n  User root\n  IdentityFile {work}/login\n"
                 f"  IdentitiesOnly yes\n  UserKnownHostsFile {work}/known_hosts\n  StrictHostKeyChecking accept-new\n")


def run(*arguments):
    """Runs kinglet-tools while the board's console is listened to."""
    process = subprocess.Popen([tools, *arguments, "--ssh-config", f"{work}/ssh_config"], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        listen()
        time.sleep(0.1)
    return process.returncode, process.stdout.read()


def state(token):
    request = urllib.request.Request(f"http://127.0.0.1:{http}/v1/state", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def decides(what, expected=None):
    """Waits for decisions after this moment, and for this one; the console shows only those that change something."""
    before = state(token)["health"]["inferences"]
    until = time.time() + 300
    while time.time() < until:
        now = state(token)
        decision = now["decisions"][-1]["decision"]
        if now["health"]["inferences"] > before + 2 and expected in (None, decision):
            ok(f"{what}: {decision}, {now['health']['latency_ms']:.0f} ms in emulation")
            return decision
        listen()
        time.sleep(1)
    fail(what)


def status():
    code, text = run("status", "board", "--json")
    if code != 0:
        fail(f"status: {text}")
    return json.loads(text)


token = wait("a token was made", r"token is (\S+)")[1]
wait("the board decides by its first model", DECISION)
# Its SSH server is up some seconds after; it makes its key first.
until = time.time() + 180
while run("status", "board")[0] != 0:
    if time.time() > until:
        fail("the board answers over SSH")
    time.sleep(1)
ok("the board answers over SSH")

code, text = run("push", "board", f"{work}/better.onnx")
print(text)
if code != 0:
    fail(f"the better model is pushed: exit code {code}")
ok("the better model was pushed, tried and confirmed")
now = status()
track = now["status"]["model"]
assert track["release"] == 2 and track["state"] == "good", now
better = decides("the board decides by the better model")

code, text = run("push", "board", f"{work}/exchanged.onnx")
print(text)
if code != 3:
    fail(f"a model that decides otherwise is taken back: exit code {code}")
ok("a model that decides otherwise was tried, and taken back by the board")
for name, why in [("foreign", "another key"), ("older", "an older release")]:
    code, text = run("push", "board", f"{work}/{name}.onnx")
    print(text)
    if code != 3:
        fail(f"{why} is refused: exit code {code}")
    ok(f"{why} was refused")
now = status()
track = now["status"]["model"]
assert track["release"] == 2 and track["state"] == "good", now
# The old one is loaded beside the new one, and takes over between two frames.
decides("the board decides by the better model again", better)
code, text = run("rollback", "board")
print(text)
if code != 0:
    fail("the board goes back when it is told")
ok("the board went back when it was told")
