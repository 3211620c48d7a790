#!/usr/bin/env python3
"""Prints counts of instructions and compares them with baseline.json; count.sh calls it.

    gate.py --print|--check|--update FOLDER CPU…    FOLDER holds CPU.windows, .layers and .rustc
    gate.py --list                                  what is counted where nothing is named

--check fails when an inference as a whole, or one layer, executes more than 2 % more instructions than
the baseline says. A layer must also cost 5000 instructions more an inference, so that small ones do not
flap. Another compiler makes other code: where the baseline was made by another rustc, --check compares
and warns, but does not fail; make a new baseline with that compiler.
"""
import json
import pathlib
import sys

BASELINE = pathlib.Path(__file__).with_name("baseline.json")
# What is counted: CPUs, and after a hyphen what of the network other than single int8 layers. Fused blocks and
# floats are there once for each instruction set that has kernels of its own.
CPUS = [
    "cortex-a72", "cortex-a72-7bit", "cortex-a72-fused", "cortex-a72-f32", "cortex-a72-frame",
    "cortex-a76", "cortex-a76-fused", "cortex-a76-f16", "cortex-a76-frame",
    "x86", "x86-fused", "x86-f32", "x86-frame",
]
SHARE = 0.02
FLOOR = 5000


def read(folder, cpu):
    """What one run counted: {"rustc", "isa", "total", "layers": {name: {"kernel", "times", "each"}}}."""
    windows = [line.split() for line in (folder / f"{cpu}.windows").read_text().splitlines()]
    counts = [int(words[2]) for words in windows if words[0] == "window"]
    lines = [line.split() for line in (folder / f"{cpu}.layers").read_text().splitlines()]
    if len(counts) != len(lines) or not counts:
        raise SystemExit(f"{cpu}: {len(counts)} windows were counted, {len(lines)} layers ran")
    empty, isa = counts[0], lines[0][2]
    layers = {
        name: {"kernel": kernel, "times": int(times), "each": count - empty}
        for (name, times, kernel), count in zip(lines[1:], counts[1:])
    }
    total = sum(layer["times"] * layer["each"] for layer in layers.values())
    return {"rustc": (folder / f"{cpu}.rustc").read_text().strip(), "isa": isa, "total": total, "layers": layers}


def cost(layer):
    """Instructions an inference spends in all layers of this shape."""
    return layer["times"] * layer["each"]


def table(cpu, counted):
    """Lines for people: layers by what they cost, then operations, then all."""
    total = counted["total"]
    lines = [f"{cpu} ({counted['isa']}, {counted['rustc']}): million instructions an inference"]
    sums = {}
    for name, layer in sorted(counted["layers"].items(), key=lambda item: -cost(item[1])):
        lines.append(f"  {cost(layer) / 1e6:8.3f} {cost(layer) / total:6.1%}  {name} x{layer['times']}  {layer['kernel']}")
        operation = name.split("_")[0].rstrip("0123456789").removesuffix("s").rstrip("0123456789")
        sums[operation] = sums.get(operation, 0) + cost(layer)
    for operation, count in sorted(sums.items(), key=lambda item: -item[1]):
        lines.append(f"  {count / 1e6:8.3f} {count / total:6.1%}  all {operation}")
    return lines + [f"  {total / 1e6:8.3f} 100.0%  total"]


def compare(cpu, before, after):
    """(regressions, improvements), each a list of lines."""
    worse, better = [], []

    def judge(what, old, new, floor):
        line = f"{cpu}: {what}: {old / 1e6:.3f} -> {new / 1e6:.3f} million instructions ({new / old - 1:+.1%})"
        if new > old * (1 + SHARE) and new - old > floor:
            worse.append(line)
        elif new < old * (1 - SHARE) and old - new > floor:
            better.append(line)

    judge("total", before["total"], after["total"], 0)
    for name, old in before["layers"].items():
        new = after["layers"].get(name)
        if new is None:
            worse.append(f"{cpu}: {name} is in the baseline but did not run")
            continue
        kernels = dict.fromkeys([old["kernel"], new["kernel"]])
        judge(f"{name}, {' -> '.join(kernels)}", cost(old), cost(new), FLOOR)
    for name in after["layers"].keys() - before["layers"].keys():
        worse.append(f"{cpu}: {name} is not in the baseline")
    return worse, better


def check(baseline, counted):
    """Prints what changed; the exit code."""
    failed, improved = False, False
    for cpu, after in counted.items():
        before = baseline.get(cpu)
        if before is None:
            print(f"{cpu}: not in the baseline; make it: benches/counts/count.sh --update {cpu}")
            failed = True
            continue
        worse, better = compare(cpu, before, after)
        same_compiler = before["rustc"] == after["rustc"]
        if not same_compiler:
            print(f"warning: {cpu}: the baseline was made by {before['rustc']}, this by {after['rustc']}: not judged")
        for line in worse:
            print(("COSTS MORE " if same_compiler else "warning: costs more ") + line)
        for line in better:
            print("costs less " + line)
        print(f"{cpu}: {after['total'] / 1e6:.2f} million instructions, baseline {before['total'] / 1e6:.2f}")
        failed |= same_compiler and bool(worse)
        improved |= bool(better)
    if failed:
        print("If the cost is wanted, say why in the commit and run benches/counts/count.sh --update")
    elif improved:
        print("Keep what was won: benches/counts/count.sh --update")
    return 1 if failed else 0


def main(arguments):
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if arguments == ["--list"]:
        print("\n".join(CPUS))
        return 0
    mode, folder, *cpus = arguments
    counted = {cpu: read(pathlib.Path(folder), cpu) for cpu in cpus}
    if mode == "--check":
        return check(baseline, counted)
    for cpu, counts in counted.items():
        print("\n".join(table(cpu, counts)))
    if mode == "--update":
        check(baseline, {cpu: counts for cpu, counts in counted.items() if cpu in baseline})
        baseline.update(counted)
        BASELINE.write_text(json.dumps(baseline, indent=1) + "\n")
        print(f"wrote {BASELINE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
