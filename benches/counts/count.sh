#!/usr/bin/env bash
# Instructions that one inference of EfficientNet-Lite0 executes, layer by layer, counted by qemu.
#
#   count.sh [CPU…]                 print them
#   count.sh --check [CPU…]         compare with baseline.json; fails where a layer costs more
#   count.sh --update [CPU…]        write them into baseline.json
#   count.sh --program KINGLET [--model FILE] CPU…   count a whole `kinglet bench` instead
#
# A CPU is cortex-a53, cortex-a72, cortex-a76 (a Pi 3, 4, 5), x86 (KINGLET_ISA=avx2: qemu lacks
# AVX-512), or one of them followed by what to count instead of single int8 layers: -7bit (the same, input
# codes promised to span seven bits), -fused (int8 blocks as one thread runs them: fused pairs, projections
# with residuals), -f32, -f16, -frame (no layer: 1280x720 YUYV to 224x224 RGB); with --program also cortex-a7
# (a 32-bit program). Without a CPU: all of gate.py's CPUS. Needs Debian 12 on x86-64; what is
# missing is installed (sudo where not root).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/target/counts
mkdir -p "$work"
cd "$root"

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$here/count.sh" >&2
    exit 2
}

mode=print program='' model='' cpus=()
while [ $# -gt 0 ]; do
    case $1 in
    --check | --update) mode=${1#--} ;;
    --program | --model)
        [ $# -gt 1 ] || usage
        declare "${1#--}=$(realpath "$2")"
        shift
        ;;
    cortex-* | x86 | x86-*) cpus+=("$1") ;;
    *) usage ;;
    esac
    shift
done
[ ${#cpus[@]} -gt 0 ] || mapfile -t cpus < <(python3 "$here/gate.py" --list)

# Debian 12's qemu-user, unpacked: later versions take another interface of plugins, and the static
# ones take no plugins. The libraries are those it links.
install_qemu() {
    local qemu=$work/qemu
    if [ ! -x "$qemu/usr/bin/qemu-aarch64" ]; then
        rm -rf "$qemu" && mkdir -p "$qemu"
        (cd "$qemu" && apt-get -qq download 'qemu-user=1:7.2*' 2>/dev/null ||
            { as_root apt-get -qq update && apt-get -qq download 'qemu-user=1:7.2*'; }) ||
            { echo "count.sh: no package qemu-user 7.2: this needs Debian 12" >&2 && exit 1; }
        dpkg -x "$qemu"/qemu-user_*.deb "$qemu"
    fi
    if ldd "$qemu/usr/bin/qemu-aarch64" | grep -q 'not found' || ! command -v gcc >/dev/null; then
        as_root apt-get -qq update
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
            libcapstone4 libglib2.0-0 libgnutls30 libnuma1 liburing2 gcc libc6-dev >/dev/null
    fi
    gcc -shared -fPIC -O2 -Wall -o "$work/plugin.so" "$here/plugin.c"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# build ARCHITECTURE: sets $counted, the program, and $compiler, the version that made it. One codegen unit, as
# in the profile for devices: with more, what else is in the crate moves counts by 2 % and more. In a folder of its
# own, so that no program built otherwise is counted.
build() {
    export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
    local built=target/counts/build
    local example=(build --quiet --release -p kinglet-kernels --example counted)
    if [ "$1" = x86 ]; then
        cargo "${example[@]}" --target-dir $built
        counted=$built/release/examples/counted compiler=$(rustc --version)
        return
    fi
    "$root/.ci/install-arm"
    local target=aarch64-unknown-linux-gnu
    env RUSTC=/usr/bin/rustc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
        cargo "${example[@]}" --target $target --target-dir $built
    counted=$built/$target/release/examples/counted compiler=$(/usr/bin/rustc --version)
}

# emulate CPU OUTPUT COMMAND…: runs it under the plugin, whose lines go to OUTPUT.
emulate() {
    local cpu=$1 output=$2
    shift 2
    local qemu=$work/qemu/usr/bin/qemu-aarch64
    [ "$cpu" != x86 ] || { qemu=$work/qemu/usr/bin/qemu-x86_64 cpu=max && export KINGLET_ISA=avx2; }
    [ "$cpu" != cortex-a7 ] || qemu=$work/qemu/usr/bin/qemu-arm
    "$qemu" -cpu "$cpu" -plugin "$work/plugin.so" -d plugin -D "$output" "$@"
}

# Two runs of the program that differ by ten inferences; the rest of both is the same.
count_program() {
    local cpu=$1 runs
    for runs in 1 11; do
        # shellcheck disable=SC2086
        emulate "$cpu" "$work/program-$runs.txt" "$program" bench ${model:+--model "$model"} --threads 1 \
            --no-self-test --runs $runs --json >/dev/null
    done
    awk -v cpu="$cpu" '/^total/ { n[FILENAME] = $2 }
        END { printf "%s: %.2f million instructions an inference\n", cpu, (n[ARGV[2]] - n[ARGV[1]]) / 10e6 }' \
        "$work/program-1.txt" "$work/program-11.txt"
}

# count_layers CPU: builds, and runs the program of layers under the plugin.
count_layers() {
    local cpu=$1 machine=$1 what=8
    case $cpu in *-7bit | *-fused | *-f32 | *-f16 | *-frame) machine=${cpu%-*} what=${cpu##*-} ;; esac
    emulate "$machine" "$work/$cpu.windows" "$counted" "${what%bit}" >"$work/$cpu.layers"
    echo "$compiler" >"$work/$cpu.rustc"
}

install_qemu
# The machines one after the other, what is counted on them side by side.
for architecture in arm x86; do
    [ -z "$program" ] || break
    running=()
    for cpu in "${cpus[@]}"; do
        case $cpu in x86*) [ $architecture = x86 ] || continue ;; *) [ $architecture = arm ] || continue ;; esac
        [ ${#running[@]} -gt 0 ] || build $architecture
        count_layers "$cpu" &
        running+=($!)
    done
    for job in "${running[@]}"; do wait "$job"; done
done
if [ -n "$program" ]; then
    for cpu in "${cpus[@]}"; do (count_program "$cpu"); done
    exit
fi
python3 "$here/gate.py" --"$mode" "$work" "${cpus[@]}"
