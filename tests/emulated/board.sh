#!/usr/bin/env bash
# Boots an emulated board (qemu, Debian's arm64 kernel) with a virtual camera and a real GPIO chip,
# and runs runtime/device/examples/board.rs there: every format, a camera that is unplugged again and
# again, a pin, a pin after a crash. Two minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$PWD/target/emulated
mkdir -p "$work"
. tests/emulated/machine.sh
cross -p kinglet-device --example board
extra() { cp target/arm/aarch64-unknown-linux-gnu/release/examples/board "$work/root/bin/"; }
machine <<'INIT'
board /dev/video0 gpiochip0:3 12 && echo "BOARD PASSED"
busybox poweroff -f
INIT
boot | tee "$work/boot.log"
grep -q "^BOARD PASSED" "$work/boot.log"
