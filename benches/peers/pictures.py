#!/usr/bin/env python3
"""From a JPEG to EfficientNet-Lite0's input tensor: Kinglet beside libjpeg-turbo and Pillow, in one run.

    python3 -m venv venv && venv/bin/pip install numpy pillow 'PyTurboJPEG<2'      # and libturbojpeg
    cargo build --release --examples
    venv/bin/python benches/peers/pictures.py [FILE.jpg] [--rounds N] [--runs N] [--simd FOLDER] [--write]

Every library gets a fresh process a round, pinned to one CPU; rounds interleave them, so that a drift
of the machine's speed hits all alike. All decode at full size and resize the crop bicubically, so the
results agree (the script says by how much); `draft` is the one that does not: libjpeg decodes at a
quarter of the size. --simd: a folder with Pillow-SIMD (pip install --target FOLDER pillow-simd).
--make writes benches/pictures/mosaic_1080p.jpg again. --write puts the table under benches/results/CPU/.
"""
import argparse
import io
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "benches/pictures/mosaic_1080p.jpg"
PEERS = ["turbojpeg + Pillow", "Pillow", "Pillow, draft"]


def make():
    from PIL import Image

    one, two, three = (Image.open(ROOT / "tests/photographs" / name).convert("RGB")
                       for name in ("chelsea.png", "coffee.png", "rocket.jpg"))
    mosaic = Image.new("RGB", (1920, 1080))
    mirrored = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for part, x, y in ((one, 0, 0), (two, 960, 0), (three, 0, 540), (mirrored, 960, 540)):
        scale = max(960 / part.width, 540 / part.height)
        size = (round(part.width * scale + 0.5), round(part.height * scale + 0.5))
        part = part.resize(size, Image.Resampling.BICUBIC).crop((0, 0, 960, 540))
        mosaic.paste(part, (x, y))
    FILE.parent.mkdir(exist_ok=True)
    mosaic.save(FILE, quality=90, subsampling="4:2:0")


def worker(peer, path, runs):
    """Times one peer; prints JSON as the example picture_times does."""
    import numpy as np
    from PIL import Image

    data = pathlib.Path(path).read_bytes()
    width, height = Image.open(io.BytesIO(data)).size
    side = int(224 / 256 * min(width, height))
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)

    def resized(image, box=box):
        return image.resize((224, 224), Image.Resampling.BICUBIC, box=box)

    def tensor(image):
        return ((np.asarray(image, dtype=np.float32) - 127) / 128).transpose(2, 0, 1).copy()

    steps = {}
    if peer.startswith("turbojpeg"):
        import turbojpeg

        decoder = turbojpeg.TurboJPEG()

        def decode():
            return decoder.decode(data, pixel_format=turbojpeg.TJPF_RGB)

        steps["jpeg to rgb"] = decode
        steps["jpeg to f32 tensor"] = lambda: tensor(resized(Image.fromarray(decode())))
        image = Image.fromarray(decode())
        steps["rgb to f32 tensor"] = lambda: tensor(resized(image))
        steps["rgb to u8 codes"] = lambda: np.asarray(resized(image)).copy()
    elif peer.endswith("draft"):

        def draft():
            image = Image.open(io.BytesIO(data))
            image.draft("RGB", (width // 4, height // 4))
            image.load()
            scale = image.width / width
            return tensor(resized(image, tuple(edge * scale for edge in box)))

        steps["jpeg to f32 tensor"] = draft
    else:

        def load():
            image = Image.open(io.BytesIO(data))
            image.load()
            return image

        image = load()
        steps["jpeg to rgb"] = load
        steps["jpeg to f32 tensor"] = lambda: tensor(resized(load()))
        steps["rgb to f32 tensor"] = lambda: tensor(resized(image))
        steps["rgb to u8 codes"] = lambda: np.asarray(resized(image)).copy()
    results = {}
    for name, step in steps.items():
        step()
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) * 1e3)
        results[name] = {"min": min(times), "median": sorted(times)[runs // 2]}
    print(json.dumps(results))


def run(command, environment=None):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600,
                          env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        print(f"{command[-4:]}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", type=pathlib.Path, default=FILE)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--simd", type=pathlib.Path)
    parser.add_argument("--make", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--worker")
    args = parser.parse_args()
    if args.make:
        return make()
    if args.worker:
        return worker(args.worker, args.file, args.runs)
    binary = os.environ.get("PICTURE_TIMES", str(ROOT / "target/release/examples/picture_times"))
    pin = ["taskset", "-c", "0"]
    rows = [("kinglet", [binary, str(args.file), str(args.runs)], None)]
    this = [sys.executable, str(pathlib.Path(__file__).resolve()), str(args.file), "--runs", str(args.runs)]
    rows += [(peer, this + ["--worker", peer], None) for peer in PEERS]
    if args.simd:
        path = {"PYTHONPATH": os.pathsep.join([str(args.simd), os.environ.get("PYTHONPATH", "")])}
        for peer in PEERS:
            rows.append((peer.replace("Pillow", "Pillow-SIMD"), this + ["--worker", peer], path))
    seen = {}
    for _ in range(args.rounds):
        for name, command, environment in rows:
            result = run(pin + command, environment)
            for step, times in (result or {}).items():
                seen.setdefault((step, name), []).append(times)
    table = ["| step | by | min ms | median ms | to kinglet's |", "|---|---|---|---|---|"]
    for step in dict.fromkeys(step for step, _ in seen):
        least = {name: min(t["min"] for t in times) for (s, name), times in seen.items() if s == step}
        for name, best in least.items():
            median = min(t["median"] for t in seen[step, name])
            table.append(f"| {step} | {name} | {best:.2f} | {median:.2f} | {best / least['kinglet']:.2f} |")
    found = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    cpu = found.group(1).strip() if found else platform.machine()
    text = f"# {args.file.name}, {cpu}, 1 thread, least of {args.rounds} rounds\n\n" + "\n".join(table) + "\n"
    print(text)
    if args.write:
        folder = ROOT / "benches/results" / re.sub(r"[^a-z0-9]+", "-", cpu.lower()).strip("-")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pictures.md").write_text(text)


main()
