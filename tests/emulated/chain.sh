#!/usr/bin/env bash
# The whole chain on an emulated board: a virtual camera, the real program for aarch64, a pin of a real
# GPIO chip, a real broker. What the pin and the broker say is asserted from outside: the pin in the
# chip's register, which the emulator reads, messages as another client receives them. The camera is unplugged
# and comes back, the program is killed with its guard, and the unit's last command makes the pin safe.
# Some minutes, and the program's build for aarch64 before; wants python3 beside what machine.sh wants.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/target/emulated
mkdir -p "$work"
. tests/emulated/machine.sh
cross --bin kinglet
packages broker mosquitto:arm64 mosquitto-clients:arm64 libmosquitto1:arm64 libcjson1:arm64 libcap2:arm64 \
    libdlt2:arm64 libssl3:arm64 libsystemd0:arm64 libwrap0:arm64 libc6:arm64 libgcc-s1:arm64 libgcrypt20:arm64 \
    libgpg-error0:arm64 liblz4-1:arm64 liblzma5:arm64 libzstd1:arm64 libnsl2:arm64 libtirpc3:arm64 \
    libgssapi-krb5-2:arm64 libkrb5-3:arm64 libk5crypto3:arm64 libkrb5support0:arm64 libcom-err2:arm64 libkeyutils1:arm64
# Without a broker in the program, messages are not asked for.
mqtt=$(grep -c '^\[mqtt\]' runtime/app/src/watch/kinglet.example.toml || true)
extra() {
    local files=$work/root
    cp target/arm/aarch64-unknown-linux-gnu/release/kinglet "$files/bin/"
    cp models/efficientnet-lite0-int8.onnx "$files/model.onnx"
    cp "$work"/broker/usr/sbin/mosquitto "$work"/broker/usr/bin/mosquitto_sub "$files/bin/"
    mkdir -p "$files/lib"
    cp -a "$work"/broker/lib/* "$files/lib/"
    (cd "$work/broker/usr/lib/aarch64-linux-gnu" && cp -a ./*.so* "$files/lib/aarch64-linux-gnu/")
    cat >"$files/etc/kinglet.toml" <<'TOML'
model = "/model.onnx"
[camera]
source = "/dev/video0"
[decide]
window = 1
enter = 0.0
unknown_below = 1.0
[[output]]
pin = "gpiochip0:5"
class = "unknown"
TOML
    if [ "$mqtt" != 0 ]; then
        printf '[mqtt]\nurl = "mqtt://127.0.0.1:1883/kinglet"\nname = "board"\n' >>"$files/etc/kinglet.toml"
    fi
    printf 'listener 1883 127.0.0.1\nallow_anonymous true\nuser root\n' >"$files/etc/mosquitto.conf"
}
machine <<'INIT'
# Not sed: it holds each line back until the next has come.
named() { while IFS= read -r line; do echo "$1 $line"; done; }
busybox ifconfig lo 127.0.0.1 up
mkdir -p /run/kinglet
export RUNTIME_DIRECTORY=/run/kinglet
(mosquitto -c /etc/mosquitto.conf 2>&1 | named broker:) &
until mosquitto_sub -h 127.0.0.1 -t '$SYS/broker/version' -C 1 -W 5 >/dev/null 2>&1; do busybox sleep 1; done
(mosquitto_sub -h 127.0.0.1 -v -t 'kinglet/board/state' -t 'kinglet/board/availability' | named MESSAGE) &
(kinglet watch --config /etc/kinglet.toml 2>&1 | named kinglet:) &
# The script outside says when to go on: a line on the console.
while read -r order; do
    echo "ORDER $order"
    case "$order" in
    unplug) echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind ;;
    plug) echo vivid.0 >/sys/bus/platform/drivers/vivid/bind ;;
    kill) busybox killall -STOP kinglet; busybox killall -9 kinglet ;;
    release) kinglet watch --config /etc/kinglet.toml --release-pins && echo RELEASED ;;
    off) busybox poweroff -f ;;
    esac
done </dev/ttyAMA0
INIT
python3 - "$work" "$mqtt" <<'DRIVE'
import atexit, os, re, socket, subprocess, sys, time

work, mqtt = sys.argv[1], sys.argv[2] != "0"
monitor = f"{work}/monitor"
if os.path.exists(monitor):
    os.remove(monitor)
# The initrd's kernel is the only file of that name.
kernel = next(f for f in os.listdir(f"{work}/kernel/boot") if f.startswith("vmlinuz"))
qemu = subprocess.Popen(
    ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "512", "-nic", "none",
     "-display", "none", "-serial", "stdio", "-monitor", f"unix:{monitor},server,nowait",
     "-kernel", f"{work}/kernel/boot/{kernel}", "-initrd", f"{work}/initrd.gz",
     "-append", "console=ttyAMA0 rdinit=/init quiet"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
atexit.register(qemu.kill)
os.set_blocking(qemu.stdout.fileno(), False)
log, said = open(f"{work}/chain.log", "w"), []
start, rest = time.time(), ""

def listen():
    global rest
    rest += (qemu.stdout.read() or b"").decode(errors="replace").replace("\r", "")
    *lines, rest = rest.split("\n")
    for line in lines:
        said.append(line)
        log.write(f"{time.time() - start:7.1f} {line}\n")
        log.flush()

def wait(what, seconds, answer):
    """Waits until there is an answer."""
    begun = time.time()
    while time.time() - begun < seconds:
        listen()
        if qemu.poll() is not None:
            raise SystemExit(f"FAILED: the machine has ended before: {what}")
        if got := answer():
            print(f"ok: {what} ({time.time() - begun:.1f} s)", flush=True)
            return got
        time.sleep(0.05)
    print("\n".join(said[-30:]))
    qemu.kill()
    raise SystemExit(f"FAILED: {what}")

def pin():
    """Line 5 in the PL061's data register, read by the emulator."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(monitor)
        s.settimeout(5)
        s.sendall(b"xp /1xb 0x090303fc\n")
        answer = b""
        while not (found := re.search(rb"090303fc: 0x([0-9a-f]{2})", answer)):
            answer += s.recv(4096)
        return bool(int(found[1], 16) & 1 << 5)

def order(words):
    qemu.stdin.write(words.encode() + b"\n")

def heard(pattern, since):
    return next((line for line in said[since:] if re.match(pattern, line)), None)

def message(what, seconds, pattern, since):
    if mqtt:
        wait(what, seconds, lambda: heard("MESSAGE " + pattern, since))
    else:
        print(f"skipped, this program knows no broker: {what}")

STATE = "kinglet/board/state "
wait("a machine", 60, lambda: os.path.exists(monitor))
message("a message of what the camera shows", 300, STATE + ".*unknown", 0)
wait("the pin is on", 300, pin)
mark = len(said)
order("unplug")
wait("the camera is gone: the pin is off", 20, lambda: not pin())
message("and so is the message", 20, STATE + ".*null|" + STATE + "(none|None)?$", mark)
mark = len(said)
order("plug")
wait("the camera is back: the pin is on", 40, pin)
message("and a message says so", 20, STATE + ".*unknown", mark)
mark = len(said)
order("kill")
message("killed with its guard, the broker says that it is gone", 60, "kinglet/board/.*offline", mark)
assert pin(), "the pin is as it was left: that is why there is a last command"
order("release")
wait("the unit's last command has made the pin safe", 30, lambda: not pin())
wait("and says that all is well", 20, lambda: heard("RELEASED", mark))
order("off")
qemu.wait(60)
print("CHAIN PASSED")
DRIVE
