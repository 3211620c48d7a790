#!/usr/bin/env python3
"""Kinglet beside onnxruntime and LiteRT on the same model, in one run.

    python3 -m venv venv && venv/bin/pip install numpy onnxruntime ai-edge-litert
    cargo build --release
    venv/bin/python benches/peers/compare.py FOLDER [--threads N] [--rounds N] [--write]

FOLDER holds the peers' models: `*.onnx` for onnxruntime, `*.tflite` for LiteRT. Every engine gets a
fresh process a round, rounds interleave the engines, so that a drift of the machine's speed hits
all alike; with one thread each process is pinned to the first CPU. `ratio` is an engine's least
time over the least time of the fastest peer. --write puts the table under benches/results/CPU/.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORKER = pathlib.Path(__file__).resolve().with_name("worker.py")


def cpu_name():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found.group(1).strip() if found else platform.machine()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    kinglet = ROOT / "target/release/kinglet"
    rows = []
    for model in sorted(args.folder.glob("*.onnx")):
        rows.append((f"onnxruntime {model.stem}", [sys.executable, str(WORKER), "onnxruntime", str(model)]))
    for model in sorted(args.folder.glob("*.tflite")):
        rows.append((f"LiteRT {model.stem}", [sys.executable, str(WORKER), "litert", str(model)]))
    rows = [(name, command + [str(args.runs), str(args.threads)]) for name, command in rows]
    for model in sorted((ROOT / "models").glob("*.onnx")):
        rows.append((f"kinglet {model.stem}", [str(kinglet), "bench", "--model", str(model), "--json",
                     "--runs", str(args.runs), "--threads", str(args.threads)]))
    pin = ["taskset", "-c", "0"] if args.threads == 1 else []
    seen = {}
    for _ in range(args.rounds):
        for name, command in rows:
            done = subprocess.run(pin + command, capture_output=True, text=True, timeout=900)
            lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
            if lines:
                seen.setdefault(name, []).append(json.loads(lines[-1]))
            else:
                print(f"{name}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
    peers = [min(v["min"] for v in values) for name, values in seen.items() if not name.startswith("kinglet")]
    best = min(peers, default=float("nan"))
    table = ["| engine and model | min ms | median ms | ratio | load ms | peak MiB |", "|---|---|---|---|---|---|"]
    for name, values in seen.items():
        least = {key: min(v[key] for v in values) for key in ("min", "median", "load", "rss")}
        table.append(f"| {name} | {least['min']:.2f} | {least['median']:.2f} | {least['min'] / best:.2f} "
                     f"| {least['load']:.0f} | {least['rss']:.0f} |")
    title = f"{cpu_name()}, {os.cpu_count()} cores, {args.threads} thread(s), least of {args.rounds} rounds"
    text = f"# {title}\n\n" + "\n".join(table) + "\n"
    print(text)
    if args.write:
        name = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
        folder = ROOT / "benches/results" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"peers-{args.threads}-threads.md").write_text(text)


main()
