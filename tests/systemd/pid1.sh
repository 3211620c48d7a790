#!/usr/bin/env bash
# The unit as it is printed, run by a real systemd that is PID 1 of namespaces of its own: readiness,
# the sandbox, reloading, the watchdog, SIGKILL of the whole group, and the end. Half a minute.
# Wants root, unshare, nsenter and /lib/systemd/systemd; nothing of the machine is touched but a
# cgroup named kinglet-test.
#   tests/systemd/pid1.sh [KINGLET]
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$(realpath "${1:-target/release/kinglet}")
model=$PWD/models/efficientnet-lite0-int8.onnx
if [ "$(id -u)" != 0 ] || ! [ -x /lib/systemd/systemd ] || ! unshare --pid --fork --mount --cgroup true; then
    echo "skipped: no root, no systemd, or no namespaces here"
    exit
fi
work=$(mktemp -d)
groups=()
boot=
finish() {
    [ -z "$boot" ] || kill -KILL "$boot" 2>/dev/null || true
    for group in "${groups[@]}"; do
        # Empty as soon as all that was in it has gone.
        for _ in $(seq 100); do
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
            [ -d "$group" ] || break
            sleep 0.1
        done
    done
    rm -rf "$work"
}
trap finish EXIT

mkdir -p "$work/units"
cat >"$work/units/test.target" <<'UNIT'
[Unit]
Wants=kinglet.service
UNIT
for name in basic sysinit multi-user shutdown network umount final exit; do
    printf '[Unit]\nDefaultDependencies=no\n' >"$work/units/$name.target"
done
"$program" watch --print-unit 2>/dev/null | sed -E \
    -e 's#^(Exec[A-Za-z]*=-?)[^ ]*kinglet #\1/opt/kinglet/kinglet #' -e 's#^WatchdogSec=.*#WatchdogSec=4#' \
    >"$work/units/kinglet.service"
cat >"$work/boot.sh" <<'BOOT'
set -euo pipefail
work=$1 program=$2 model=$3
mount --make-rprivate /
# All that a system writes to is in memory.
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd /run/etc
cp -a /etc/. /run/etc
mount --bind /run/etc /etc
for folder in /opt /var/lib /var/log; do mount -t tmpfs tmpfs $folder; done
mkdir -p /opt/kinglet /etc/kinglet
cp "$program" "$model" /opt/kinglet
printf 'model = "/opt/kinglet/%s"\n[camera]\nsource = "test"\n' "$(basename "$model")" >/etc/kinglet/kinglet.toml
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
rm -rf /etc/systemd/system
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,ro,bind /proc/sys
if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    umount -l -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    umount -l -R /sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    cd /sys/fs/cgroup
    mkdir systemd unified pids devices memory
    mount -t cgroup -o none,name=systemd cgroup systemd
    mount -t cgroup2 cgroup2 unified
    for kind in pids devices memory; do mount -t cgroup -o $kind cgroup $kind; done
fi
export container=kinglet-test SYSTEMD_UNIT_PATH=$work/units
exec /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no
BOOT
# A cgroup of its own wherever this shell is in one.
mapfile -t own </proc/self/cgroup
for line in "${own[@]}"; do
    IFS=: read -r _ kind path <<<"$line"
    kind=${kind#name=}
    root=/sys/fs/cgroup/${kind:-unified}
    [ -d "$root" ] || root=/sys/fs/cgroup
    group=${root}${path%/}/kinglet-test
    mkdir -p "$group" 2>/dev/null || continue
    groups+=("$group")
    # One for processors takes nobody in before it has some.
    echo $$ 2>/dev/null >"$group/cgroup.procs" || true
done
unshare --pid --fork --kill-child --mount --uts --ipc --cgroup --net \
    bash "$work/boot.sh" "$work" "$program" "$model" >"$work/log" 2>&1 &
boot=$!
disown
# Leaves the group, so that it can be removed.
for group in "${groups[@]}"; do echo $$ >"$(dirname "$group")/cgroup.procs"; done

manager=
for _ in $(seq 300); do
    manager=$(pgrep -P "$boot" -x systemd || true)
    [ -n "$manager" ] && nsenter -t "$manager" -a systemctl is-active -q kinglet 2>/dev/null && break
    sleep 0.1
done
within() { nsenter -t "$manager" -a "$@"; }
shown() { within systemctl show -P "$1" kinglet; }
fail() {
    echo "FAILED: $1"
    within systemctl status --no-pager kinglet || true
    tail -20 "$work/log"
    exit 1
}
say() { echo "ok: $1"; }
# Waits until a property is so.
becomes() {
    for _ in $(seq 300); do
        [ "$(shown "$1")" = "$2" ] && return
        sleep 0.1
    done
    fail "$1 is $(shown "$1"), not $2"
}
becomes SubState running
say "ready: $(shown StatusText)"

main=$(shown MainPID)
facts=$(within cat "/proc/$main/status")
for fact in 'Seccomp:\s2' 'NoNewPrivs:\s1' 'CapBnd:\s0000000000000000' 'CapEff:\s0000000000000000'; do
    grep -qP "^$fact" <<<"$facts" || fail "$fact"
done
grep -qP '^Uid:\s0' <<<"$facts" && fail "it runs as root"
say "a user of its own, no capability, system calls filtered"

config=/etc/kinglet/kinglet.toml
within sh -c "printf '[log]\nfolder = \"/var/log/kinglet\"\nall = true\n[[output]]\npin = \"gpiochip99:17\"\nclass = \"unknown\"\n' >>$config"
within systemctl reload kinglet
for _ in $(seq 100); do within sh -c 'ls /var/log/kinglet/*.jsonl' >/dev/null 2>&1 && break; sleep 0.1; done
within sh -c 'ls /var/log/kinglet/*.jsonl' >/dev/null || fail "no log after the reload"
[ "$(within cat /run/kinglet/pins)" = "/dev/gpiochip99:17=0" ] || fail "pins are not recorded"
within sh -c "echo '[nonsense]' >>$config"
within systemctl reload kinglet
for _ in $(seq 100); do grep -q nonsense <<<"$(shown StatusText)" && break; sleep 0.1; done
grep -q nonsense <<<"$(shown StatusText)" || fail "a bad configuration is not said: $(shown StatusText)"
[ "$(shown MainPID)" = "$main" ] || fail "a reload started it again"
within sed -i /nonsense/d $config
within systemctl reload kinglet
say "reloaded, and a bad configuration refused: the same process"

within kill -STOP "$main"
becomes Result watchdog
becomes SubState running
say "a process that stands still is ended by the watchdog and started again"

within systemctl kill -s KILL kinglet
becomes SubState auto-restart
# There is no such chip here: it has tried, and says so.
released=$(within systemctl show -p ExecStopPost kinglet)
grep -q 'code=exited ; status=1 ' <<<"$released" || fail "pins were not released: $released"
becomes SubState running
say "SIGKILL of the whole group: pins released, started again"

begun=$(date +%s%N)
within systemctl stop kinglet
took=$((($(date +%s%N) - begun) / 1000000))
[ "$(shown Result)" = success ] || fail "it did not end well"
# ExecStopPost asks for the missing pin for two seconds.
[ $took -lt 4500 ] || fail "the end took $took ms"
say "ended in $took ms, of which a missing pin is asked for 2 s"
echo "SYSTEMD PASSED ($(within systemctl --version | head -1))"
