#!/bin/sh
# The tables of "What calibrators and cures bring" in README.md: models/quantization.sh FOLDER, where FOLDER
# holds efficientnet-lite0.onnx, -lite1 and -lite2, and b0.onnx if there is one. KINGLET_DATA names the
# pictures; kinglet-tools is the one on the path, or $KINGLET_TOOLS.
#
# One run a model tries all calibrators and all cures, so that the float model sees the pictures once. Each line is the
# model after a step: cosine of the features, agreement, top-1 of 1000, milliseconds here. Rounding is
# learnt (AdaRound) for Lite0 alone: it takes minutes.
set -eu
folder=$1
tools=${KINGLET_TOOLS:-kinglet-tools}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for name in efficientnet-lite0 efficientnet-lite1 efficientnet-lite2 b0; do
    model=$folder/$name.onnx
    [ -f "$model" ] || continue
    # Two classes of its own: judged by a part of the calibration pictures that is held out.
    labelled="--labelled $KINGLET_DATA/validation"
    [ "$name" = b0 ] && labelled=
    learnt=
    [ "$name" = efficientnet-lite0 ] && learnt="--adaround 600"
    echo "$name"
    # shellcheck disable=SC2086
    "$tools" compress "$model" --int8 --calibration "$KINGLET_DATA/calibration" $labelled $learnt \
        --calibrator auto --cures equalize,bias,tune,float -o "$out/int8.onnx"
done
