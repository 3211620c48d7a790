#!/usr/bin/env bash
# Every command of docs/src/ten-minutes.md: what the reader types at the PC, here; what writes a card, in an emulated PC with a
# card reader; what is typed at a board, over SSH on the emulated board that boots from the card. A command that the test does
# not know fails it. Raspberry Pi OS is stood for by raspios.sh's image, which an emulator can start.
#
#   tests/emulated/ten_minutes.sh [PROGRAM]
#
# PROGRAM is kinglet for aarch64, static, if there is one: else the document's command builds it, for some ten minutes.
# SUITE=bookworm: with the first boot of Debian 12's Raspberry Pi OS in place of Debian 13's.
# RASPIOS names a real image of Raspberry Pi OS, if there is one: a card is made of it too. Wants what appliance.sh and
# raspios.sh want, qemu-system-x86, and ssh. Ten minutes, and once ten more for raspios.sh.
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in qemu-system-aarch64 qemu-system-x86_64 /usr/sbin/debootstrap mcopy python3 mkfs.ext4 ssh ssh-keygen; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 0; }
done
export PROGRAM=${1:+$(realpath "$1")}
python3 tests/emulated/ten_minutes.py
echo "TEN MINUTES PASSED"
