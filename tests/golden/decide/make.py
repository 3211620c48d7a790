#!/usr/bin/env python3
"""Recorded scores, and what was to be decided: a second opinion on runtime/app/src/decide.

make.py record VIDEO   runs `kinglet watch` over a video and writes scores.csv: ms, then the scores
                       of the classes that the video is about, of every fourth frame
make.py                writes expected.csv from scores.csv, by rules written down again here:
                       settings, then each change as row:decision
"""
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CLASSES = [898, 680, 737, 907]  # water bottle, nipple, pop bottle, wine bottle


def record(video):
    command = ["target/release/kinglet", "watch", "--camera", video, "--every-frame", "--all",
               "--json", "--window", "1", "--top", "1000"]
    lines = subprocess.run(command, cwd=HERE.parents[2], capture_output=True, check=True).stdout
    with open(HERE / "scores.csv", "w") as out:
        for n, line in enumerate(lines.splitlines()):
            if n % 4:
                continue
            scores = {e["index"]: e["score"] for e in json.loads(line)["top"]}
            print(round(n * 1000 / 30), *(f"{scores[c]:.4f}" for c in CLASSES), sep=",", file=out)


def decide(rows, smoothing, window, enter, leave, hold, unknown):
    """Changes as (row, decision): -1 nothing, -2 unknown."""
    state, since, changes = -1, None, []
    for i, (at, *_) in enumerate(rows):
        last = [scores for _, *scores in rows[max(0, i - window + 1):i + 1]]
        n = len(last)
        if smoothing == "mean":
            smooth = [sum(s[c] for s in last) / n for c in range(len(CLASSES))]
            top = max(smooth)
            sure = state >= 0 and smooth[state] >= leave
            strange = 1.0 if unknown and top < unknown and not sure else 0.0
        else:
            votes = [-2 if unknown and max(s) < unknown else s.index(max(s)) for s in last]
            smooth = [votes.count(c) / n for c in range(len(CLASSES))]
            top, strange = max(smooth), votes.count(-2) / n
        best = smooth.index(top)
        if strange > 0 and strange >= enter and strange >= top:
            wish = -2
        elif state >= 0 and smooth[state] == top and top >= leave:
            wish = state
        elif top >= enter:
            wish = best
        elif state >= 0 and smooth[state] >= leave:
            wish = state
        elif state == -2 and strange > 0 and strange >= leave:
            wish = state
        else:
            wish = -1
        if wish != state and (since is None or at - since >= hold):
            state, since = wish, at
            changes.append((i, state))
    return changes


SETTINGS = [
    ("mean", 1, 0.3, 0.2, 0, 0), ("mean", 5, 0.3, 0.2, 0, 0), ("mean", 5, 0.3, 0.2, 1000, 0),
    ("mean", 9, 0.4, 0.1, 500, 0.25), ("mean", 3, 0.35, 0.35, 0, 0.3),
    ("majority", 5, 0.6, 0.4, 0, 0.2), ("majority", 9, 0.5, 0.3, 700, 0.3),
    ("majority", 7, 0.8, 0.2, 0, 0),
]

if sys.argv[1:2] == ["record"]:
    record(sys.argv[2])
rows = [[float(v) for v in line.split(",")] for line in open(HERE / "scores.csv")]
with open(HERE / "expected.csv", "w") as out:
    for settings in SETTINGS:
        changes = decide(rows, *settings)
        print(*settings, *(f"{row}:{state}" for row, state in changes), sep=",", file=out)
