"""Runs the commands of docs/src/ten-minutes.md; called by ten_minutes.sh from the repository's root."""

import json, os, re, shutil, subprocess, time

from card import DECISION, Machine

root = os.getcwd()
work = f"{root}/target/emulated/ten-minutes"
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
page = open("docs/src/ten-minutes.md").read()
# The board of the emulator has eight pins; nobody holds a mug into its picture, so it takes what it sees.
toml = re.search(r"```toml\n(.*?)```", page, re.S)[1].replace("pin = 17", 'pin = "gpiochip0:5"')
toml += "\n[decide]\nwindow = 1\nenter = 0.0\n"
home = dict(os.environ, PATH=f"{root}/target/release:{os.environ['PATH']}")
board = None


def here(command, seconds=3600):
    """Runs a command in the document's folder, as its reader does."""
    done = subprocess.run(["bash", "-c", command], env=home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=seconds, cwd=root)
    print(done.stdout, end="", flush=True)
    assert done.returncode == 0, f"exit code {done.returncode}: {command}"
    return done.stdout


def build(command):
    if program := os.environ.get("PROGRAM"):
        shutil.copy(program, f"{work}/kinglet-pi4")
        return "there is a program already"
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
    image = os.environ.get("RASPIOS")
    if not image:
        return "RASPIOS names no image of Raspberry Pi OS"
    open(f"{work}/wifi.txt", "w").write("a passphrase\n")
    command = re.sub(r"--base \S+", f"--base {image}", in_work(command)).replace("wifi.txt", f"{work}/wifi.txt")
    here(command)


def in_work(command):
    """With the files that the reader has made."""
    places = {"--program kinglet-pi4": f"--program {work}/kinglet-pi4", "--config kinglet.toml": f"--config {work}/kinglet.toml",
              "~/.ssh/id_ed25519.pub": f"{work}/login.pub", "--out card.img": f"--out {work}/card.img"}
    for written, place in places.items():
        assert written in command, f"{written} in {command}"
        command = command.replace(written, place)
    return command


def appliance(command):
    """The board's card, and then the emulated board's, which boots."""
    global board
    command = in_work(command)
    here(command + " --dry-run")
    here(command)
    os.rename(f"{work}/card.img", f"{work}/pi4.img")
    assert "--target pi4" in command
    here(command.replace("--target pi4", "--target virt"))
    board = Machine("virt", f"{work}/card.img", work, "console")
    board.token = board.wait("the token is on the console", r"token is (\S+)")[1]
    board.wait("it decides", DECISION)


def flash(command):
    """Lists; there may be no card in this machine."""
    print(here(f"{command.replace('card.img', f'{work}/card.img')} || true"))


def on_board(command):
    """Over SSH on the emulated board."""
    command = command.replace("root@ADDRESS", "board").replace("ssh ", f"ssh -F {work}/ssh_config ", 1)
    until = time.time() + 180
    while True:
        code, text = board.run(["bash", "-c", command])
        # Its SSH server makes its key first.
        if code != 255 or time.time() > until:
            break
        time.sleep(1)
    assert code == 0, f"exit code {code}: {text}"
    return text


def token(command):
    assert board.token in on_board(command)
    status, _ = board.ask("/v1/state", board.token)
    assert status == 200 and board.ask("/v1/state")[0] == 401


def reload(command):
    before = json.loads(board.ask("/v1/state", board.token)[1])["health"]["inferences"]
    on_board(command)
    until = time.time() + 120
    while json.loads(board.ask("/v1/state", board.token)[1])["health"]["inferences"] <= before + 2:
        assert time.time() < until, "it decides after the reload"
        time.sleep(1)
    said = on_board("ssh root@ADDRESS dmesg") + "\n".join(board.said)
    assert "reload" in said, "it says that it reloaded"


def doctor(command):
    """Problems of an emulated board are no failure of the command: it names them with what mends them."""
    text = on_board(f"ssh root@ADDRESS '{command}; true'")
    print(text)
    assert "kernels: neon" in text, text
    assert "gpiochip0" in text and "/dev/video0" in text, text


RASPIOS = "asks a board with Raspberry Pi OS"
COMMANDS = [
    (r"cargo build --release --bins", here),
    (r"export PATH=\$PWD/target/release:\$PATH", None),
    (r"kinglet-tools build --target pi4 .*", build),
    (r"kinglet-tools boards", here),
    (r"kinglet watch models/\S+ --camera /dev/video0", watch),
    (r"kinglet-tools image --base .*", card_of_raspios),
    (r"kinglet-tools image --appliance .*", appliance),
    (r"kinglet-tools flash card\.img", flash),
    (r"sudo kinglet-tools flash card\.img --device /dev/sdb", "there is no card in this machine"),
    (r"ssh ann@porch\.local .*", RASPIOS),
    (r"ssh root@ADDRESS cat /etc/kinglet/token", token),
    (r"ssh root@ADDRESS killall -HUP kinglet", reload),
    (r"kinglet watch --example", here),
    (r"kinglet doctor", doctor),
]

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
# What a sentence mentions before the board is there comes after it.
for command in sorted(found, key=lambda c: "ssh root" in c or c == "kinglet doctor"):
    action = [action for pattern, action in COMMANDS if re.fullmatch(pattern, command)]
    assert action, f"the document has a command that the test does not know: {command}"
    print(f"$ {command}", flush=True)
    action = action[0]
    if callable(action) and board is not None and action in (token, reload, doctor):
        with open(f"{work}/ssh_config", "w") as file:
            file.write(f"Host board\n  HostName 127.0.0.1\n  Port {board.ssh}\n  User root\n  IdentityFile {work}/login\n"
                       f"  IdentitiesOnly yes\n  UserKnownHostsFile {work}/known_hosts\n  StrictHostKeyChecking accept-new\n")
    why = action(command) if callable(action) else action
    if isinstance(why, str) and action is not here:
        print(f"  skipped: {why}")
    else:
        done += 1
print(f"ok: {done} of {len(found)} commands ran")
