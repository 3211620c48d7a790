#!/usr/bin/env bash
# The container image, run as targets/k3s/kinglet.yaml says: image and model go to a registry, podman fetches both from there and
# runs the program with the manifest's user, rights, limits, mounts and probes; the camera is the test pattern.
#
#   tests/containers/pod.sh PROGRAM
#
# PROGRAM is kinglet, static (`kinglet-tools build --target generic-aarch64`); where the machine is of another kind, the kernel
# has to know how to run it (Debian: qemu-user-static and binfmt-support). Wants root, podman, runc or crun, docker-registry and
# python3-yaml, and a built kinglet-tools. Half a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$(realpath "${1:?PROGRAM}")
for tool in podman docker-registry python3; do
    command -v $tool >/dev/null || { echo "skipped: no $tool"; exit 0; }
done
/usr/bin/python3 -c 'import yaml' || { echo "skipped: no python3-yaml"; exit 0; }
[ "$(id -u)" = 0 ] || { echo "skipped: not root"; exit 0; }
"$program" --version >/dev/null || { echo "skipped: this machine cannot run $program"; exit 0; }
/usr/bin/python3 tests/containers/pod.py "$program"
echo "POD PASSED"
