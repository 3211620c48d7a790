"""Runs the commands of docs/src/ten-minutes.md; called by ten_minutes.sh from the repository's root."""

import json, os, re, shutil, subprocess, time

import reader
from card import BOOTFS, DECISION, Machine

root = os.getcwd()
work = f"{root}/target/emulated/ten-minutes"
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
page = open("docs/src/ten-minutes.md").read()
# The board of the emulator has eight pins; nobody holds a mug into its picture, so it takes what it sees.
toml = re.search(r"```toml\n(.*?)```", page, re.S)[1].replace("pin = 17", 'pin = "gpiochip0:5"')
toml += "\n[decide]\nwindow = 1\nenter = 0.0\n"
home = dict(os.environ)
board, screen = None, None
SUITE = os.environ.get("SUITE", "trixie")
MECHANISM = {"trixie": "cloud-init", "bookworm": "firstrun.sh"}[SUITE]


def here(command, seconds=3600):
    """Runs a command in the document's folder, as its reader does."""
    done = subprocess.run(["bash", "-c", command], env=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=seconds, cwd=root)
    print(done.stdout, end="", flush=True)
    assert done.returncode == 0, f"exit code {done.returncode}: {command}"
    return done.stdout


def path(command):
    """What a shell knows afterwards, the commands after it know too."""
    home["PATH"] = here(f"{command}; command -v kinglet kinglet-tools >/dev/null && echo $PATH").strip()


def build(command):
    if program := os.environ.get("PROGRAM"):
        shutil.copy(program, f"{work}/kinglet-pi4")
        print("  not run: there is a program already")
        return False
    here(command.replace("--out kinglet-pi4", f"--out {work}/kinglet-pi4"))


def watch(command):
    """Without a camera of this machine: the test pattern; until it decides."""
    command = command.replace("/dev/video0", "test") + " --all"
    process = subprocess.Popen(["bash", "-c", "exec " + command], env=home, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    process.terminate()
    assert re.search(r"\d+\.\d %", line), line
    assert process.wait(timeout=10) == 0
    print(line, end="")


def card_of_raspios(command):
    """Of the image that raspios.sh makes, which the emulator can start; and of a real one, if RASPIOS names one."""
    subprocess.run(["tests/emulated/raspios.sh", SUITE], check=True)
    open(f"{work}/wifi.txt", "w").write("a passphrase\n")
    command = in_work(command).replace("wifi.txt", f"{work}/wifi.txt")
    for base in filter(None, [os.environ.get("RASPIOS"), f"{root}/target/emulated/raspios-{SUITE}/{SUITE}.img.xz"]):
        said = here(re.sub(r"--base \S+", f"--base {base}", command))
    assert f"set up by {MECHANISM}" in said, said
    os.rename(f"{work}/card.img", f"{work}/porch.img")


def in_work(command):
    """With the files that the reader has made."""
    places = {"--program kinglet-pi4": f"--program {work}/kinglet-pi4", "--config kinglet.toml": f"--config {work}/kinglet.toml",
              "~/.ssh/id_ed25519.pub": f"{work}/login.pub", "--out card.img": f"--out {work}/card.img"}
    for written, place in places.items():
        assert written in command, f"{written} in {command}"
        command = command.replace(written, place)
    return command


def appliance(command):
    """The document's board's card, and then the emulated board's."""
    command = in_work(command)
    here(command + " --dry-run")
    here(command)
    assert "--target pi4" in command
    here(command.replace("--target pi4", "--target virt"))


def flash(command):
    """All that is typed at the PC with the card reader, and what the card then holds: the image, and behind it what was there."""
    global screen
    if screen is None:
        with open(f"{work}/sd.img", "wb") as card:
            card.write(b"\xff" * (8 << 20))
            card.truncate(1 << 30)
            card.seek(-1, os.SEEK_END)
            card.write(b"\xff")
        commands = [c for c in found if "kinglet-tools flash" in c]
        screen = reader.type_there(f"{root}/target/release/kinglet-tools", f"{work}/card.img", f"{work}/sd.img",
                                   f"{root}/target/emulated/reader", commands)
        print(screen, flush=True)
        size = os.path.getsize(f"{work}/card.img")
        subprocess.run(["cmp", "-n", str(size), f"{work}/card.img", f"{work}/sd.img"], check=True)
        with open(f"{work}/sd.img", "rb") as card:
            card.seek(-1, os.SEEK_END)
            assert card.read() == b"\xff", "what lies behind the image is not touched"
    said = screen.split(f"$ {command}\n", 1)[1]
    assert re.search(r"exit code (\d+)", said)[1] == "0", said
    expected = "written to /dev/sdb and read back" if "--device" in command else "sudo kinglet-tools flash card.img --device /dev/sdb"
    assert expected in said, said


def boot_appliance():
    """From the card that was written."""
    global board
    board = Machine("virt", f"{work}/sd.img", work, "console")
    board.token = board.wait("the token is on the console", r"token is (\S+)")[1]
    board.wait("it decides", DECISION)
    board.login("ADDRESS", "root")


def boot_porch():
    """The board with the system like Raspberry Pi OS, until it has set itself up."""
    global board
    if board:
        board.stop()
    def power_on(name):
        # Where the board starts again, its firmware reads the boot partition again: that is another machine.
        return Machine("virt", f"{work}/porch.img", work, name, BOOTFS, "initramfs8", 1024, ["-no-reboot"])
    board = power_on("porch-first")
    ready = "cloud-init status --wait"
    if MECHANISM == "firstrun.sh":
        until = time.time() + 600
        while board.qemu.poll() is None and time.time() < until:
            board.listen()
            time.sleep(0.1)
        board.ok("the first boot is over")
        board = power_on("porch")
        ready = "systemctl is-active kinglet"
    board.login("porch.local", "ann")
    # 2: all is done, with remarks; Debian's cloud-init does not know Raspberry Pi's own keys.
    on_board(f"ssh ann@porch.local '{ready} || [ $? = 2 ]'", 900)
    board.ok("it has set itself up")
    for command, expected in [
        ("hostname", "porch"),
        ("readlink /etc/localtime", "Europe/Berlin"),
        ("id", "(ann)"),
        ("sudo -n id -u", "0"),
        ("systemctl is-enabled kinglet", "enabled"),
        ("ls -l /etc/kinglet/token", "-rw-r----- 1 root video"),
        # The password of the Wi-Fi does not lie where everybody reads.
        ("sudo journalctl -b -u router | grep AP-STA-CONNECTED", "AP-STA-CONNECTED"),
    ]:
        said = on_board(f"ssh ann@porch.local '{command}'", 300)
        assert expected in said, (command, said)
    board.ok("host, user, time zone, token and Wi-Fi are as asked for")


def on_board(command, seconds=180):
    """Over SSH on the emulated board."""
    until = time.time() + seconds
    while True:
        code, text = board.run(["bash", "-c", command.replace("ssh ", f"ssh -F {work}/ssh_config ", 1)])
        # Its SSH server makes its key first, and what the page wants may take a moment.
        if code == 0 or time.time() > until:
            break
        time.sleep(2)
    assert code == 0, f"exit code {code}: {text}"
    return text


def appliance_token(command):
    if board is None:
        boot_appliance()
    assert board.token in on_board(command)
    sees_page(board.token)


def porch_token(command):
    boot_porch()
    board.token = on_board(command).strip().splitlines()[-1]
    sees_page(board.token)


def sees_page(token):
    status, _ = board.ask("/v1/state", token)
    assert status == 200 and board.ask("/v1/state")[0] == 401


def inferences():
    return json.loads(board.ask("/v1/state", board.token)[1])["health"]["inferences"]


def reload(command):
    before = inferences()
    on_board(command)
    until = time.time() + 120
    while inferences() <= before + 2:
        assert time.time() < until, "it decides after the reload"
        time.sleep(1)
    log = "ssh root@ADDRESS dmesg" if "ADDRESS" in command else "ssh ann@porch.local sudo journalctl -b -u kinglet"
    assert "reload" in on_board(log) + "\n".join(board.said), "it says that it reloaded"


def status(command):
    text = on_board(command)
    print(text)
    assert "active (running)" in text and "enabled" in text, text


def doctor(command):
    """Problems of an emulated board are no failure of the command: it names them with what mends them."""
    text = on_board(f"ssh ann@porch.local '{command}; true'")
    print(text)
    assert "kernels: neon" in text, text
    assert "gpiochip0" in text and "/dev/video0" in text, text


# A pattern for each command, and what runs it; in this order where it is not the document's.
COMMANDS = [
    (r"cargo build --release --bins", here),
    (r"export PATH=\$PWD/target/release:\$PATH", path),
    (r"kinglet-tools build --target pi4 .*", build),
    (r"kinglet-tools boards", here),
    (r"kinglet watch models/\S+ --camera /dev/video0", watch),
    (r"kinglet-tools image --base .*", card_of_raspios),
    (r"kinglet-tools image --appliance .*", appliance),
    (r"(sudo )?kinglet-tools flash card\.img( --device /dev/sdb)?", flash),
    (r"kinglet watch --example", here),
    (r"ssh root@ADDRESS cat /etc/kinglet/token", appliance_token),
    (r"ssh root@ADDRESS killall -HUP kinglet", reload),
    (r"ssh ann@porch\.local sudo cat /etc/kinglet/token", porch_token),
    (r"ssh ann@porch\.local sudo systemctl reload kinglet", reload),
    (r"ssh ann@porch\.local systemctl status kinglet", status),
    (r"kinglet doctor", doctor),
]


def place(command):
    """Which of the commands it is."""
    places = [i for i, (pattern, _) in enumerate(COMMANDS) if re.fullmatch(pattern, command)]
    assert places, f"the document has a command that the test does not know: {command}"
    return places[0]


open(f"{work}/kinglet.toml", "w").write(toml)
subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{work}/login"], check=True)

# Commands in blocks, and those in sentences.
found = []
for block, inline in re.findall(r"```sh\n(.*?)```|(?<!`)`([^`\n]+)`(?!`)", page, re.S):
    lines = block.replace("\\\n", " ").splitlines() if block else [inline]
    found += [re.sub(r"\s+", " ", line).strip() for line in lines if line.strip()]
found = [c for c in found if re.match(r"(sudo )?(cargo|export|kinglet|kinglet-tools|ssh) ", c)]
assert len(found) >= 14, found
done = 0
# What a sentence mentions before the board is there comes after it, and the boards one after the other.
for command in sorted(found, key=place):
    print(f"$ {command}", flush=True)
    done += COMMANDS[place(command)][1](command) is not False
print(f"ok: {done} of {len(found)} commands ran")
