#!/bin/sh
# The table "What calibrators and cures bring" of README.md: models/quantization.sh FOLDER, where FOLDER
# holds efficientnet-lite0.onnx, -lite1 and -lite2, and b0.onnx if there is one. KINGLET_DATA names the
# pictures; kinglet-tools is the one on the path, or $KINGLET_TOOLS.
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
    echo "$name"
    # shellcheck disable=SC2086
    "$tools" compress "$model" --int8 --calibration "$KINGLET_DATA/calibration" $labelled \
        --calibrator auto --cures equalize,bias,tune,float -o "$out/int8.onnx"
done
