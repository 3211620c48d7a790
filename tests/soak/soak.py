#!/usr/bin/env python3
"""Hours of `kinglet watch` in one: does it stay as it was at the beginning?

    soak.py [--minutes 30] [--frames 50000] [--kinglet target/release/kinglet] [--videos $KINGLET_DATA/video]

All videos of the folder through ffmpeg, at full speed, one after another: each minute the configuration
names the next one, and the program is told to reload. The live page is open in Chromium (if selenium is
there), a client reads events, another the metrics. It ends after both the minutes and the frames.

Then: resident memory's slope at most 1 MiB an hour (least squares, without the first tenth; each video has a level of
its own, for their frames are not of one size), as many
descriptors and threads at the end as at the beginning, the 99th percentile of the last tenth's times within
a tenth of the first's, no decision without its frame. Exit code 0 if all holds, 1 if not; figures on standard output.
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/browser"))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--frames", type=int, default=50_000)
    parser.add_argument("--kinglet", default=str(ROOT / "target/release/kinglet"))
    parser.add_argument("--videos", default=os.path.join(os.environ.get("KINGLET_DATA", ""), "video"))
    parser.add_argument("--every", type=float, default=60, help="seconds of each video")
    return parser.parse_args()


class Watch:
    """The program, and what it says."""

    def __init__(self, kinglet, folder, videos):
        self.config, self.videos, self.at = folder / "kinglet.toml", videos, 0
        self.port = None
        self.write()
        command = [kinglet, "watch", "--config", self.config, "--json", "--all"]
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=open(folder / "errors", "wb"), cwd=ROOT
        )
        # Milliseconds of preprocessing and inference of each frame.
        self.times, self.last, self.bad = [], 0, []
        threading.Thread(target=self.read, daemon=True).start()
        said = folder / "errors"
        while self.port is None:
            for line in said.read_text().splitlines():
                if "listening on http://" in line:
                    self.port = int(line.rsplit(":", 1)[1].split()[0].strip("/"))
            if self.child.poll() is not None:
                sys.exit(f"kinglet ended:\n{said.read_text()}")
            time.sleep(0.05)
        # The same port after each reload: the section stays as it is.
        self.said = said

    def write(self):
        folder = self.config.parent
        text = f"""
model = "{ROOT / 'models/efficientnet-lite0-int8.onnx'}"
[camera]
source = "{self.videos[self.at % len(self.videos)]}"
repeat = true
every_frame = true
[decide]
window = 5
enter = 0.3
leave = 0.2
[log]
folder = "{folder}/log"
max_mib = 8
[snapshots]
folder = "{folder}/snapshots"
class = "unknown"
max_mib = 16
free_mib = 16
every_ms = 1000
[http]
listen = "127.0.0.1:0"
"""
        new = self.config.with_suffix(".new")
        new.write_text(text)
        new.rename(self.config)

    def read(self):
        for line in self.child.stdout:
            said = json.loads(line)
            if said.get("lost"):
                continue
            if not said["top"]:
                self.bad.append(line)
            self.times.append(said["prepare_ms"] + said["model_ms"])

    def next(self):
        self.at += 1
        self.write()
        self.child.send_signal(signal.SIGHUP)

    def sample(self):
        proc = pathlib.Path(f"/proc/{self.child.pid}")
        status = dict(
            line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
        )
        descriptors = len(os.listdir(proc / "fd"))
        return int(status["VmRSS"].split()[0]), descriptors, int(status["Threads"])


def events(port):
    """A client that never stops reading."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/events") as stream:
        try:
            while stream.read(4096):
                pass
        except OSError:
            pass


def slope(samples):
    """Least squares of (video, seconds, KiB) with a level for each video, MiB an hour."""
    above = below = 0
    for video in {video for video, *_ in samples}:
        own = [(t, m) for of, t, m in samples if of == video]
        mean_t, mean_m = (statistics.fmean(column) for column in zip(*own))
        above += sum((t - mean_t) * (m - mean_m) for t, m in own)
        below += sum((t - mean_t) ** 2 for t, _ in own)
    return above / below * 3600 / 1024


def p99(times):
    return sorted(times)[int(len(times) * 0.99)]


def main():
    args = arguments()
    videos = sorted(str(path) for path in pathlib.Path(args.videos).glob("*.mp4"))
    if not videos:
        print("skipped: no videos; set KINGLET_DATA or --videos")
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        watch = Watch(args.kinglet, folder, videos)
        threading.Thread(target=events, args=[watch.port], daemon=True).start()
        driver = None
        try:
            import page

            driver = page.browser(folder)
            driver.get(f"http://127.0.0.1:{watch.port}/")
        except SystemExit:
            print("without the page")
        begun, turned, samples = time.monotonic(), time.monotonic(), []
        while True:
            time.sleep(5)
            now = time.monotonic()
            if watch.child.poll() is not None:
                print(watch.said.read_text()[-2000:])
                print("kinglet ended by itself")
                return 1
            samples.append((now - begun, *watch.sample(), watch.at % len(videos)))
            with urllib.request.urlopen(f"http://127.0.0.1:{watch.port}/metrics") as answer:
                answer.read()
            if len(samples) % 60 == 0:
                print(f"{(now - begun) / 60:.0f} min, {len(watch.times)} frames, {samples[-1][1]} KiB", flush=True)
            if now - turned > args.every:
                turned = now
                watch.next()
            if now - begun >= args.minutes * 60 and len(watch.times) >= args.frames:
                break
        shown = driver.execute_script("return document.body.innerText") if driver else ""
        if driver:
            driver.quit()
        watch.child.terminate()
        ended = time.monotonic()
        code = watch.child.wait(10)
        ended = time.monotonic() - ended
        warm = samples[len(samples) // 10 :]
        tenth = len(watch.times) // 10
        first, last = p99(watch.times[:tenth]), p99(watch.times[-tenth:])
        grows = slope([(video, t, m) for t, m, *_, video in warm])
        # While one camera follows another there is a process and a thread more: the usual number counts.
        usual = lambda column, part: statistics.median(sample[column] for sample in part)
        parts = (warm[: len(warm) // 5], warm[-len(warm) // 5 :])
        descriptors, threads = ([usual(column, part) for part in parts] for column in (2, 3))
        print(f"{samples[-1][0] / 60:.1f} minutes, {len(watch.times)} frames, {watch.at} reloads")
        print(f"resident memory {warm[0][1]} to {warm[-1][1]} KiB, largest {max(s[1] for s in samples)}; {grows:+.2f} MiB an hour")
        print(f"descriptors {descriptors[0]:.0f} to {descriptors[1]:.0f}, threads {threads[0]:.0f} to {threads[1]:.0f}")
        print(f"p99 of preprocessing and inference {first:.2f} ms in the first tenth, {last:.2f} ms in the last")
        print(f"ended {ended:.2f} s after SIGTERM with {code}")
        wrong = []
        if grows > 1:
            wrong.append("memory grows")
        if descriptors[0] != descriptors[1] or threads[0] != threads[1]:
            wrong.append("descriptors or threads differ")
        if last > first * 1.1:
            wrong.append("slower at the end")
        if watch.bad or code != 0 or ended > 2:
            wrong.append("odd decisions, or an odd end")
        if driver and not shown.strip():
            wrong.append("the page is empty")
        print("wrong: " + ", ".join(wrong) if wrong else "all as it was")
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
