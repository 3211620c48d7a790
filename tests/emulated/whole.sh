#!/usr/bin/env bash
# From pictures to a board and back: a model is taught, a card's image made, the emulated board boots from it and decides;
# a newer signed model is pushed over SSH and stays after its trial; one that decides otherwise is taken back by the board
# itself; one that is signed by another key, and one that is older, are refused. A program is pushed, and the board measured.
#
#   KINGLET_DATA=… tests/emulated/whole.sh PROGRAM
#
# SYSTEM=raspios: on a system made like Raspberry Pi OS (raspios.sh, and what that wants), as a service of systemd with a user of
# its own, by a login that may use sudo; an appliance otherwise.
# PROGRAM is kinglet for aarch64, static (`kinglet-tools build --target generic-aarch64`). Wants what appliance.sh wants, and
# ssh. Some ten minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${KINGLET_DATA:?the folder with ants-bees}"
program=$(realpath "$1")
tools=$(realpath "${TOOLS:-target/release/kinglet-tools}")
system=${SYSTEM:-appliance}
[ "$system" = appliance ] || tests/emulated/raspios.sh trixie
work=$PWD/target/emulated/whole
rm -rf "$work"
mkdir -p "$work"
for tool in qemu-system-aarch64 mcopy python3 mkfs.ext4 ssh ssh-keygen; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 0; }
done
base=$PWD/models/efficientnet-lite0-int8.onnx
pictures=$KINGLET_DATA/ants-bees/train

# The first model, a better one that has seen more pictures, and one in whose pictures the names are exchanged.
mkdir -p "$work"/{some,exchanged}/{ants,bees}
for class in ants bees; do
    find "$pictures/$class" -name '*.jpg' | sort | sed -n 1,60p | while read -r picture; do
        ln -s "$picture" "$work/some/$class/"
    done
done
ln -s "$work"/some/ants/* "$work/exchanged/bees/"
ln -s "$work"/some/bees/* "$work/exchanged/ants/"
"$tools" retrain "$base" "$work/some" -o "$work/first.onnx" >/dev/null
"$tools" retrain "$base" "$pictures" -o "$work/better.onnx" >/dev/null
"$tools" retrain "$base" "$work/exchanged" -o "$work/exchanged.onnx" >/dev/null
echo "ok: three models are taught"

"$tools" keygen --no-password "$work/me.key"
"$tools" keygen --no-password "$work/other.key"
sign() { "$tools" sign "$work/$1" --key "$work/$2" --kind model --release "$3" >/dev/null; }
sign better.onnx me.key 2
sign exchanged.onnx me.key 3
cp "$work/better.onnx" "$work/foreign.onnx"
sign foreign.onnx other.key 4
cp "$work/first.onnx" "$work/older.onnx"
sign older.onnx me.key 1
cp "$program" "$work/kinglet"
head -c 100000 /dev/urandom >"$work/noise"
for app in kinglet:7 noise:8; do
    "$tools" sign "$work/${app%:*}" --key "$work/me.key" --kind app --release "${app#*:}" >/dev/null
done
ssh-keygen -q -t ed25519 -N '' -f "$work/login"

# Certain enough of whatever the camera's pattern looks like to decide.
cat >"$work/kinglet.toml" <<'TOML'
model = "/usr/lib/kinglet/model.onnx"
[camera]
source = "/dev/video0"
[decide]
window = 1
enter = 0.5
leave = 0.4
unknown_below = 0.0
[http]
listen = "0.0.0.0:8080"
token_file = "/etc/kinglet/token"
[update]
store = "/var/lib/kinglet/store"
trial = 20
min_agreement = 0.8
# Emulated clocks are no measure.
max_slowdown = 5.0
TOML
case $system in
    appliance) kind=(--appliance --target virt) ;;
    raspios) kind=(--base "target/emulated/raspios-trixie/trixie.img.xz" --user ann --hostname porch) ;;
esac
"$tools" image "${kind[@]}" --program "$program" --model "$work/first.onnx" --config "$work/kinglet.toml" \
    --public-key "$work/me.key.pub" --ssh-key "$work/login.pub" --out "$work/card.img"
python3 tests/emulated/whole.py "$work/card.img" "$work" "$tools" "$system"
echo "WHOLE CHAIN PASSED"
