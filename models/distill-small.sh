#!/usr/bin/env bash
# What a teacher gains: the same student, the same steps, with and without it, for some seeds; and
# what is left of it in int8. The last lines are the accuracy on val, which nothing else sees.
#   KINGLET_DATA=… KINGLET_MODELS=… models/distill-small.sh [SEED…]
set -euo pipefail
cd "$(dirname "$0")/.."
: "${KINGLET_DATA:?the folder with ants-bees and calibration}" "${KINGLET_MODELS:?the folder with efficientnet-lite0.onnx}"
lite0=$KINGLET_MODELS/efficientnet-lite0.onnx
train=$KINGLET_DATA/ants-bees/train
val=$KINGLET_DATA/ants-bees/val
out=${OUT:-target/distill}
tools=${TOOLS:-target/release/kinglet-tools}
mkdir -p "$out"
seeds=("$@")
[ ${#seeds[@]} -gt 0 ] || seeds=(0 1 2)
# A model that is there is not made again; a training that was cut off goes on.
make() {
    [ -f "$1" ] || "${@:2}" -o "$1"
}
distill() {
    make "$1" "$tools" distill --recipe models/distill-small.toml --init "$lite0" --seed "$seed" \
        "$train" "${@:2}"
}
make "$out/teacher.onnx" "$tools" retrain "$lite0" "$train"
for seed in "${seeds[@]}"; do
    distill "$out/alone-$seed.onnx"
    distill "$out/taught-$seed.onnx" --teacher "$out/teacher.onnx" --unlabelled "$KINGLET_DATA/calibration"
    make "$out/taught-$seed-int8.onnx" "$tools" compress "$out/taught-$seed.onnx" --int8 --calibration "$train"
done
accuracy() {
    printf '%-16s %s\n' "$1" "$("$tools" evaluate "$out/$1.onnx" "$val" | sed -n 1p)"
}
echo
accuracy teacher
for seed in "${seeds[@]}"; do
    for kind in "alone-$seed" "taught-$seed" "taught-$seed-int8"; do
        accuracy "$kind"
    done
done
