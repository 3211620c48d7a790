"""Boots the card of whole.sh, and pushes models and a program to it: CARD FOLDER KINGLET_TOOLS SYSTEM."""

import json, sys, time

from card import BOOTFS, DECISION, Machine

card, work, tools, system = sys.argv[1:]
appliance = system == "appliance"
if appliance:
    board = Machine("virt", card, work, "console")
else:
    board = Machine("virt", card, work, "console", BOOTFS, "initramfs8", 1024)
config = board.login("board", "root" if appliance else "ann")


def run(*arguments):
    sudo = ["--sudo"] if not appliance and arguments[0] != "bench" else []
    return board.run([tools, *arguments, *sudo, "--ssh-config", config])


def push(what, code, *arguments):
    """Pushes, and expects this exit code."""
    found, text = run("push", "board", *arguments)
    print(text)
    if found != code:
        board.fail(f"{what}: exit code {found}")
    board.ok(what)


def state(token):
    return json.loads(board.ask("/v1/state", token)[1])


def decides(what, expected=None):
    """Waits for decisions after this moment, and for this one; the console shows only those that change something."""
    before = state(token)["health"]["inferences"]
    until = time.time() + 300
    while time.time() < until:
        now = state(token)
        decision = now["decisions"][-1]["decision"] if now["decisions"] else None
        if decision and now["health"]["inferences"] > before + 2 and expected in (None, decision):
            board.ok(f"{what}: {decision}, {now['health']['latency_ms']:.0f} ms in emulation")
            return decision
        board.listen()
        time.sleep(1)
    board.fail(what)


def track(kind):
    """What the board says of its releases of a kind."""
    code, text = run("status", "board", "--json")
    if code != 0:
        board.fail(f"status: {text}")
    return json.loads(text)["status"][kind]


# Its SSH server is up some time after; it makes its key first.
until = time.time() + 600
while run("status", "board")[0] != 0:
    if time.time() > until:
        board.fail("the board answers over SSH")
    time.sleep(1)
board.ok("the board answers over SSH")
if appliance:
    token = board.wait("a token was made", r"token is (\S+)")[1]
    board.wait("the board decides by its first model", DECISION)
else:
    wait = "until sudo test -s /etc/kinglet/token; do sleep 1; done; sudo cat /etc/kinglet/token"
    token = board.run(["ssh", "-F", config, "board", wait])[1].strip().splitlines()[-1]
    decides("the board decides by its first model")

push("the better model was pushed, tried and confirmed", 0, f"{work}/better.onnx")
now = track("model")
assert now["release"] == 2 and now["state"] == "good", now
better = decides("the board decides by the better model")

push("a model that decides otherwise was tried, and taken back by the board", 3, f"{work}/exchanged.onnx")
push("another key was refused", 3, f"{work}/foreign.onnx")
push("an older release was refused", 3, f"{work}/older.onnx")
now = track("model")
assert now["release"] == 2 and now["state"] == "good", now
# The old one is loaded beside the new one, and takes over between two frames.
decides("the board decides by the better model again", better)

push("the program was pushed, tried and confirmed", 0, "--app", f"{work}/kinglet")
now = track("app")
assert now["release"] == 7 and now["state"] == "good", now
decides("the board decides by the program that was pushed", better)
push("a program that is no program was refused", 3, "--app", f"{work}/noise")
now = track("app")
assert now["release"] == 7 and now["state"] == "good", now

code, text = run("bench", "--on", "board", "--runs", "3", "--threads", "1,2", "--json", f"{work}/bench.json")
print(text)
if code != 0:
    board.fail(f"the board is measured from here: exit code {code}")
figures = json.load(open(f"{work}/bench.json"))
assert figures["report"], figures
board.ok("the board was measured from here")

code, text = run("rollback", "board")
print(text)
if code != 0:
    board.fail("the board goes back when it is told")
board.ok("the board went back when it was told")
