#!/usr/bin/env bash
# An appliance's image boots in an emulated board and, with nobody there, classifies what its camera shows: asserted on the
# serial console and over the forwarded HTTP port. Two images of the same inputs are the same bytes; with a damaged root the
# other slot starts; a data partition that was never made is made; what was on it is kept over a restart.
#
#   tests/emulated/appliance.sh PROGRAM [MODEL]
#
# PROGRAM is kinglet for aarch64, static. Wants apt, qemu-system-arm, mtools, curl, python3, e2fsprogs. Some ten minutes.
# Boards: BOARDS="virt pi3".
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$(realpath "$1")
model=$(realpath "${2:-models/efficientnet-lite0-int8.onnx}")
work=$PWD/target/emulated/appliance
mkdir -p "$work"
for tool in qemu-system-aarch64 mcopy curl python3 mkfs.ext4; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 0; }
done
build=${CARGO_TARGET_DIR:-target/ut}
cargo build --release -p kinglet-image --example appliance --target-dir "$build"
# Decides at once and always: what the virtual camera shows is of no class.
{ cat targets/appliance/kinglet.toml; printf '\n[decide]\nwindow = 1\nenter = 0.0\n'; } >"$work/kinglet.toml"
make_image() {
    "$build/release/examples/appliance" "$1" "$program" "$model" "$work/kinglet.toml" "$2" ${PACKAGES:-} >"$2.list"
}

for board in ${BOARDS:-virt pi3}; do
    make_image "$board" "$work/$board.img"
    tail -1 "$work/$board.img.list"
    if [ "$board" = virt ]; then
        sleep 2
        make_image "$board" "$work/again.img"
        cmp "$work/$board.img" "$work/again.img"
        rm "$work/again.img"
        echo "ok: the same bytes twice"
    fi
    python3 tests/emulated/appliance.py "$board" "$work/$board.img" "$work"
done
echo "APPLIANCE PASSED"
