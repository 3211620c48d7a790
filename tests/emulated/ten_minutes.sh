#!/usr/bin/env bash
# Every command of docs/src/ten-minutes.md, in its order: on this machine what the reader types there, over SSH on the
# emulated board that boots from the card they make what the reader types at a board. A command that the test does not know
# fails it; what it cannot do is named with the reason.
#
#   tests/emulated/ten_minutes.sh [PROGRAM]
#
# PROGRAM is kinglet for aarch64, static, if there is one: else the document's command builds it, for some ten minutes.
# RASPIOS names an image of Raspberry Pi OS, if there is one. Wants what appliance.sh wants, and ssh.
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in qemu-system-aarch64 mcopy python3 mkfs.ext4 ssh ssh-keygen; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 0; }
done
export PROGRAM=${1:+$(realpath "$1")}
python3 tests/emulated/ten_minutes.py
echo "TEN MINUTES PASSED"
