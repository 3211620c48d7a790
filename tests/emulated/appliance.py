"""Boots an appliance's image in qemu and asserts what it says; called by appliance.sh: BOARD IMAGE FOLDER."""

import shutil, sys, time

from card import DECISION, SLOT_A, Machine

board, image, work = sys.argv[1:]


def boot(card, name):
    return Machine(board, card, work, name)


machine = boot(image, f"{board}-first")
up = machine.wait("the initramfs has found slot a", r"\[(\d+\.\d+)\] initramfs: slot a on")
token = machine.wait("a token was made", r"token is (\S+)")[1]
root = machine.wait("the root is up, with its data", r"\[(\d+\.\d+)\] start: slot a is up, data on /dev/")
begun = machine.wait("kinglet starts", r"\[(\d+\.\d+)\] service: /usr/bin/kinglet starts")
first = machine.wait("the first decision is on the console", DECISION)
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

machine = boot(image, f"{board}-second")
machine.wait("after a power cut it decides again", DECISION)
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
    machine = boot(damaged, "virt-damaged")
    machine.wait("a flipped bit in slot a is seen", r"slot a: its root is damaged")
    machine.wait("slot b starts instead", r"initramfs: slot b on")
    machine.wait("the data partition is made", r"was never made: it is made now")
    machine.wait("it decides all the same", DECISION)
    machine.stop()
