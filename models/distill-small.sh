#!/usr/bin/env bash
# What a teacher gains: the same student, the same steps, with and without it, for some seeds.
#   KINGLET_DATA=… KINGLET_MODELS=… models/distill-small.sh [SEED…]
set -euo pipefail
cd "$(dirname "$0")/.."
: "${KINGLET_DATA:?the folder with ants-bees and calibration}" "${KINGLET_MODELS:?the folder with efficientnet-lite0.onnx}"
lite0=$KINGLET_MODELS/efficientnet-lite0.onnx
out=${OUT:-target/distill}
tools=${TOOLS:-target/release/kinglet-tools}
mkdir -p "$out"
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || seeds=(0 1 2)
distill() {
    "$tools" distill --recipe models/distill-small.toml --init "$lite0" --seed "$seed" \
        "$KINGLET_DATA/ants-bees/train" -o "$1" "${@:2}"
}
for seed in "${seeds[@]}"; do
    distill "$out/taught-$seed.onnx" --teacher "$lite0" --unlabelled "$KINGLET_DATA/calibration"
    distill "$out/alone-$seed.onnx"
done
for seed in "${seeds[@]}"; do
    for kind in taught alone; do
        printf '%s, seed %s: ' "$kind" "$seed"
        "$tools" evaluate "$out/$kind-$seed.onnx" "$KINGLET_DATA/ants-bees/val"
    done
done
