#!/usr/bin/env python3
"""Let onnxruntime judge an imported model.

    judge.py golden MODEL.onnx -o DIR          # writes DIR/NAME.json: expected outputs
    judge.py compare MODEL.onnx REFERENCE.onnx # largest difference of the outputs of two models
    judge.py accuracy MODEL.onnx...            # top-1 and top-5 on $KINGLET_DATA/validation
    judge.py classes MODEL.onnx DIR            # top-1 on folders named by the model's labels; with
                                               # --kinglet PROGRAM also whether that gives the same

Needs onnxruntime, onnx, numpy, Pillow, and $KINGLET_DATA, a folder with `validation/` in it.

Format of the expected outputs:
    {"model": NAME, "parent_sha256": hash of the weights file, "runtime": "onnxruntime VERSION",
     "samples": [{"file": NAME, "largest": L, "top5": [[class, logit], ...]}, ...]}
`largest` is the largest absolute value of all outputs, by which differences are divided. A file is
one of the first 50 of validation/, sorted by name, decoded and resized by Pillow, whose samples the
engine's are bit for bit. A file `synthetic:K` is no file: of a picture as large as the model's input, the RGB sample
at row y, column x, channel c is (7*y + 13*x + 31*c + K*x*y) mod 256; only mean and std apply.
"""
import argparse
import csv
import json
import os
import pathlib
import subprocess

import numpy as np
import onnx
import onnxruntime
from PIL import Image

PHOTOGRAPHS = 50
SYNTHETIC = 3


class Model:
    def __init__(self, path):
        proto = onnx.load(path)
        onnx.checker.check_model(proto, full_check=True)
        properties = {p.key: p.value for p in proto.metadata_props}
        self.preprocess = json.loads(properties.get("kinglet.preprocess", "null"))
        self.labels = properties.get("kinglet.labels", "").split("\n")
        self.provenance = json.loads(properties.get("kinglet.provenance", "{}"))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def run(self, samples):
        """Outputs for RGB samples [height, width, 3] of 0..=255."""
        mean, std = (np.asarray(self.preprocess[k], np.float32) for k in ("mean", "std"))
        if self.preprocess["channels"] == "bgr":
            samples = samples[:, :, ::-1]
        tensor = (samples.astype(np.float32) - mean) / std
        tensor = np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])
        return self.session.run(None, {self.input: tensor})[0].reshape(-1)

    def picture(self, path):
        """A photograph cropped and resized as the metadata says, as RGB samples."""
        image = Image.open(path).convert("RGB")
        height, width = self.preprocess["size"]
        crop, (w, h) = self.preprocess["crop"], image.size
        resample = {"bicubic": Image.BICUBIC, "bilinear": Image.BILINEAR}[self.preprocess["filter"]]
        if crop["rule"] == "stretch":
            return np.asarray(image.resize((width, height), resample))
        if crop["rule"] == "center":
            side = int(crop["fraction"] * min(w, h))
            left, top = (w - side) // 2, (h - side) // 2
            box = (left, top, left + side, top + side)
            return np.asarray(image.resize((width, height), resample, box=box))
        short = round(height / crop["fraction"])
        size = (short, short * h // w) if w < h else (short * w // h, short)
        image = image.resize(size, resample)
        left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
        return np.asarray(image.crop((left, top, left + width, top + height)))

    def synthetic(self, k):
        height, width = self.preprocess["size"]
        y, x, c = np.mgrid[0:height, 0:width, 0:3]
        return ((7 * y + 13 * x + 31 * c + k * x * y) % 256).astype(np.uint8)


def validation():
    return pathlib.Path(os.environ["KINGLET_DATA"]) / "validation"


def photographs():
    return sorted(p for p in validation().iterdir() if p.suffix == ".jpg")[:PHOTOGRAPHS]


def golden(path, folder):
    model = Model(path)
    inputs = [(f"synthetic:{k}", model.synthetic(k)) for k in range(SYNTHETIC)]
    inputs += [(p.name, model.picture(p)) for p in photographs()]
    samples = []
    for name, picture in inputs:
        outputs = model.run(picture)
        best = np.argsort(-outputs, kind="stable")[:5]
        top5 = [[int(i), round(float(outputs[i]), 6)] for i in best]
        largest = round(float(np.abs(outputs).max()), 6)
        samples.append({"file": name, "largest": largest, "top5": top5})
    name = model.provenance["name"]
    head = {
        "model": name,
        "parent_sha256": model.provenance.get("parent_sha256"),
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }
    lines = ",\n".join("    " + json.dumps(s) for s in samples)
    text = json.dumps(head, indent=2)[:-2] + f',\n  "samples": [\n{lines}\n  ]\n}}\n'
    json.loads(text)
    (pathlib.Path(folder) / f"{name}.json").write_text(text)
    print(f"{name}: {len(samples)} samples")


def compare(path, reference):
    ours, theirs = Model(path), Model(reference)
    theirs.preprocess = theirs.preprocess or ours.preprocess
    worst = 0.0
    for picture in [ours.synthetic(k) for k in range(SYNTHETIC)] + [ours.picture(p) for p in photographs()]:
        a, b = ours.run(picture), theirs.run(picture)
        worst = max(worst, float(np.abs(a - b).max() / np.abs(b).max()))
    print(f"largest difference, relative to the largest output: {worst:.3g}")


def accuracy(paths):
    with open(validation() / "labels.csv") as file:
        rows = list(csv.DictReader(file))
    for path in paths:
        model, top1, top5 = Model(path), 0, 0
        for row in rows:
            best = np.argsort(-model.run(model.picture(validation() / row["file"])))[:5]
            top1 += best[0] == int(row["class_index"])
            top5 += int(row["class_index"]) in best
        print(f"{path}: top-1 {top1 / len(rows):.4f} top-5 {top5 / len(rows):.4f} of {len(rows)}")


def classes(path, folder, kinglet):
    model = Model(path)
    files = sorted(f for label in model.labels for f in (pathlib.Path(folder) / label).iterdir())
    answers = [model.run(model.picture(f)) for f in files]
    right = sum(model.labels[a.argmax()] == f.parent.name for f, a in zip(files, answers))
    print(f"{path}: top-1 {right / len(files):.4f} of {len(files)}")
    if kinglet:
        command = [kinglet, "classify", "--json", "--model", path, *map(str, files)]
        lines = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
        best = [json.loads(line)["top"][0] for line in lines]
        same = sum(int(a.argmax()) == b["index"] for a, b in zip(answers, best))
        scores = [np.exp(a - a.max()) / np.exp(a - a.max()).sum() for a in answers]
        worst = max(abs(float(s[b["index"]]) - b["score"]) for s, b in zip(scores, best))
        print(f"the same answer for {same} of {len(lines)}; scores at most {worst:.4f} apart")


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
commands = parser.add_subparsers(dest="command", required=True)
one = commands.add_parser("golden")
one.add_argument("model")
one.add_argument("-o", default=str(pathlib.Path(__file__).parent))
two = commands.add_parser("compare")
two.add_argument("model")
two.add_argument("reference")
three = commands.add_parser("accuracy")
three.add_argument("models", nargs="+")
four = commands.add_parser("classes")
four.add_argument("model")
four.add_argument("folder")
four.add_argument("--kinglet")
arguments = parser.parse_args()
if arguments.command == "golden":
    golden(arguments.model, arguments.o)
elif arguments.command == "compare":
    compare(arguments.model, arguments.reference)
elif arguments.command == "classes":
    classes(arguments.model, arguments.folder, arguments.kinglet)
else:
    accuracy(arguments.models)
