#!/usr/bin/env python3
"""Kinglet beside other engines, in one run.

    python3 -m venv venv && venv/bin/pip install numpy onnx pillow onnxruntime ai-edge-litert
    venv/bin/python benches/peers/compare.py --networks lite1,b0   # made on the fly; onnxruntime beside kinglet
    venv/bin/python benches/peers/compare.py FOLDER                # the peers' own models of one network

With --networks (or `--networks all`), each network runs as f32 and as int8 in both engines, and `ratio` is
kinglet's least time over onnxruntime's; networks.py says how the models are made. FOLDER holds models of the
network that models/ has: `*.onnx` for onnxruntime, `*.tflite` for LiteRT; there `ratio` is an engine's least
time over that of the fastest peer.

Every engine gets a fresh process a round, rounds interleave the engines, so that a drift of the machine's
speed hits all alike; with one thread each process is pinned to the first CPU. Run it on an idle machine: where
others take the cores, the table says `disturbed`. --write puts the table under benches/results/CPU/.

The programs are built from this checkout first, so that the commit in the table is what was measured; programs
given by --kinglet and --tools are named by their SHA-256 instead.
"""
import argparse
import importlib.metadata
import json
import math
import pathlib
import subprocess
import sys

import machine
import networks

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER = pathlib.Path(__file__).resolve().with_name("worker.py")


class Bench:
    """Commands that measure one engine on one model each."""

    def __init__(self, args):
        self.args = args
        self.rows = {}

    def peer(self, key, engine, model):
        self.rows[key] = [sys.executable, str(WORKER), engine, str(model), str(self.args.runs), str(self.args.threads)]

    def kinglet(self, key, model):
        self.rows[key] = [str(self.args.kinglet), "bench", "--model", str(model), "--json", "--no-self-test",
                          "--runs", str(self.args.runs), "--threads", str(self.args.threads)]

    def run(self):
        """{key: {"min", "median", "load", "rss"}}: the least of all rounds; what failed is left out, aloud."""
        pin = ["taskset", "-c", "0"] if self.args.threads == 1 else []
        seen = {}
        for number in range(self.args.rounds):
            for key, command in self.rows.items():
                print(f"\rround {number + 1}: {' '.join(key):60}", end="", file=sys.stderr)
                done = subprocess.run(pin + command, capture_output=True, text=True, timeout=900)
                lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
                if done.returncode == 0 and lines:
                    seen.setdefault(key, []).append(json.loads(lines[-1]))
                else:
                    print(f"\n{' '.join(key)}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        print(file=sys.stderr)
        return {key: {what: min(one[what] for one in all_) for what in ("min", "median", "load", "rss")}
                for key, all_ in seen.items()}


def compare_networks(args):
    bench = Bench(args)
    for name in args.networks:
        paths = networks.make(name, args.cache, args.tools, not args.random)
        bench.kinglet((name, "int8", "kinglet"), paths["int8"])
        bench.peer((name, "int8", "onnxruntime"), "onnxruntime", paths["theirs"])
        bench.kinglet((name, "f32", "kinglet"), paths["f32"])
        bench.peer((name, "f32", "onnxruntime"), "onnxruntime", paths["f32"])
    seen = bench.run()
    nothing = {"min": math.nan, "median": math.nan, "load": math.nan, "rss": math.nan}
    lines = ["| network | side | type | kinglet min ms | median | onnxruntime min ms | median | ratio | load ms, ours / theirs "
             "| peak MiB, ours / theirs |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name, kind in dict.fromkeys(key[:2] for key in bench.rows):
        ours, theirs = (seen.get((name, kind, engine), nothing) for engine in ("kinglet", "onnxruntime"))
        lines.append(
            f"| {networks.NETWORKS[name][0]} | {networks.NETWORKS[name][1]} | {kind} | {ours['min']:.2f} | {ours['median']:.2f} "
            f"| {theirs['min']:.2f} | {theirs['median']:.2f} | {ours['min'] / theirs['min']:.2f} "
            f"| {ours['load']:.0f} / {theirs['load']:.0f} | {ours['rss']:.0f} / {theirs['rss']:.0f} |")
    return "networks", lines


def compare_folder(args):
    bench = Bench(args)
    for model in sorted(args.folder.glob("*.onnx")):
        bench.peer(("onnxruntime", model.stem), "onnxruntime", model)
    for model in sorted(args.folder.glob("*.tflite")):
        bench.peer(("LiteRT", model.stem), "litert", model)
    for model in sorted((ROOT / "models").glob("*.onnx")):
        bench.kinglet(("kinglet", model.stem), model)
    seen = bench.run()
    best = min((one["min"] for key, one in seen.items() if key[0] != "kinglet"), default=math.nan)
    lines = ["| engine and model | min ms | median ms | ratio | load ms | peak MiB |", "|---|---|---|---|---|---|"]
    for key, one in seen.items():
        lines.append(f"| {' '.join(key)} | {one['min']:.2f} | {one['median']:.2f} | {one['min'] / best:.2f} "
                     f"| {one['load']:.0f} | {one['rss']:.0f} |")
    return "peers", lines


def network_list(text):
    names = list(networks.NETWORKS) if text == "all" else text.split(",")
    for name in names:
        if name not in networks.NETWORKS:
            raise argparse.ArgumentTypeError(f"{name}: known are all, {', '.join(networks.NETWORKS)}")
    return names


def versions():
    found = {}
    for name in ("onnxruntime", "ai-edge-litert"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def programs(args):
    """Sets args.kinglet and args.tools where they are not given, by building them; what they are, in words."""
    if args.kinglet and args.tools:
        return f"programs given, not built here: kinglet {machine.checksum(args.kinglet)}, tools {machine.checksum(args.tools)}"
    if args.kinglet or args.tools:
        raise SystemExit("give both --kinglet and --tools, or none")
    commit = machine.commit()
    networks.run("cargo", "build", "--release", "--bins", "--manifest-path", ROOT / "Cargo.toml", "--target-dir", ROOT / "target")
    args.kinglet, args.tools = (ROOT / "target/release" / name for name in ("kinglet", "kinglet-tools"))
    return f"built from commit {commit}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, nargs="?", help="the peers' models")
    parser.add_argument("--networks", type=network_list, help="all, or some of " + ",".join(networks.NETWORKS))
    parser.add_argument("--random", action="store_true", help="random weights also where pretrained ones can be fetched")
    parser.add_argument("--cache", type=pathlib.Path, default=ROOT / "target/peers", help="where made models are kept")
    parser.add_argument("--kinglet", type=pathlib.Path, help="a program that is built already")
    parser.add_argument("--tools", type=pathlib.Path, help="a program that is built already")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--write", action="store_true", help="also write the table under benches/results/CPU/")
    args = parser.parse_args()
    if (args.folder is None) == (args.networks is None):
        parser.error("give either FOLDER or --networks")
    what_ran, before = programs(args), machine.load()
    what, lines = compare_networks(args) if args.networks else compare_folder(args)
    described = machine.describe(what_ran, versions()) + machine.disturbed([before, machine.load()], args.threads)
    title = f"# {machine.cpu_name()}, {args.threads} thread(s), batch 1, least of {args.rounds} rounds of {args.runs} runs"
    text = "\n".join([title, ""] + described + [""] + lines) + "\n"
    print(text)
    if args.write:
        folder = machine.results_folder()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{what}-{args.threads}-threads.md").write_text(text)


if __name__ == "__main__":
    main()
