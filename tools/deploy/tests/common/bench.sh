#!/bin/sh
# `kinglet bench --json` and `kinglet inspect --json` as far as the laptop sees them. On three threads the board throttles.
set -eu
command=$1; shift
model=/models/default-int8.onnx threads=1 runs=100
while [ $# -gt 0 ]; do
    case $1 in
    --json) ;;
    --threads) threads=$2; shift ;;
    --runs) runs=$2; shift ;;
    --model) model=$2; shift; [ -f "$model" ] || { echo "error: $model: no such file" >&2; exit 1; } ;;
    -*) exit 2 ;;
    *) model=$1; [ -f "$model" ] || { echo "error: $model: no such file" >&2; exit 1; } ;;
    esac
    shift
done
case $command in
inspect)
    type=int8; grep -q float "$model" 2>/dev/null && type=f32
    echo "{\"macs\": 385000000, \"layers\": [{\"data_type\": \"$type\", \"macs\": 385000000}]}" ;;
bench)
    case $threads in 3) flags=$((0x50005)) ;; *) flags=0 ;; esac
    board='"model":"Raspberry Pi 4 Model B Rev 1.4","cores":4,"governor":"performance","clock_khz":1800000,"max_clock_khz":1800000,"temperature_mc":61000'
    echo "{\"min\":9.5,\"median\":$((40 / threads)).5,\"p90\":$((40 / threads)).9,\"p99\":44.5,\"load\":61.5,\"rss\":22.5,\"runs\":$runs,
\"threads\":$threads,\"isa\":\"neon\",\"tuned\":0,\"model\":\"$model\",\"before\":{$board,\"throttling\":0},\"after\":{$board,\"throttling\":$flags}}" | tr '\n' ' ' ;;
*) exit 2 ;;
esac
