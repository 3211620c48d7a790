"""Networks for a comparison, made on the fly in a cache folder: float, our int8 and onnxruntime's int8.

Speed does not depend on what the weights are, so most have random ones. onnxruntime's own static
quantizer makes its int8 model (QDQ, per channel, u8 activations, s8 weights); ours is made by
`kinglet-tools compress`. Both calibrate on the repository's photographs. The cache has a folder for each build of
kinglet-tools, so that no model of an older one is measured.
"""
import pathlib
import subprocess
import sys

import machine

ROOT = pathlib.Path(__file__).resolve().parents[2]
PHOTOGRAPHS = ROOT / "tests/photographs"
# Name: architecture, side of the input, whether `kinglet-tools fetch` has it.
NETWORKS = {
    "lite0": ("efficientnet-lite0", 224, True),
    "lite1": ("efficientnet-lite1", 240, True),
    "lite2": ("efficientnet-lite2", 260, True),
    "b0": ("efficientnet-b0", 224, False),
    "v2-b0": ("efficientnetv2-b0", 224, False),
}


def make(name, cache, tools, fetch):
    """{"f32", "int8", "theirs"}: the paths of the network's models, made where they are missing."""
    architecture, side, fetchable = NETWORKS[name]
    fetch = fetch and fetchable
    weights = "pretrained" if fetch else "random"
    cache = cache / machine.checksum(tools)
    cache.mkdir(parents=True, exist_ok=True)
    paths = {kind: cache / f"{architecture}-{side}-{weights}-{kind}.onnx" for kind in ("f32", "int8", "theirs")}
    if not paths["f32"].exists():
        if fetch:
            folder = cache / "fetched"
            run(tools, "fetch", architecture, "--output", folder)
            (folder / f"{architecture}.onnx").rename(paths["f32"])
        else:
            run(tools, "import", "--arch", architecture, "--init", "random", "--seed", "1", "--resolution", side,
                "--output", paths["f32"])
    if not paths["int8"].exists():
        run(tools, "compress", paths["f32"], "--int8", "--calibration", PHOTOGRAPHS, "--output", paths["int8"])
    if not paths["theirs"].exists():
        quantize(paths["f32"], paths["theirs"], side)
    return paths


def run(*command):
    """Runs a command whose output goes to standard error; ends the program if it fails."""
    if subprocess.run([str(word) for word in command], stdout=sys.stderr).returncode != 0:
        raise SystemExit(f"failed: {' '.join(str(word) for word in command)}")


def photographs(side):
    """The repository's photographs as (1, 3, side, side) arrays of -1 to 1."""
    import numpy as np
    from PIL import Image

    for path in sorted(PHOTOGRAPHS.iterdir()):
        if path.suffix in (".jpg", ".png"):
            picture = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            yield ((np.asarray(picture, np.float32) - 127) / 128).transpose(2, 0, 1)[None]


def quantize(source, target, side):
    """onnxruntime's static quantizer, with its own preparation of the graph before."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self, name):
            self.arrays = ({name: array} for array in photographs(side))

        def get_next(self):
            return next(self.arrays, None)

    name = onnx.load(source, load_external_data=False).graph.input[0].name
    prepared, partial = target.with_suffix(".prepared"), target.with_suffix(".partial")
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared, partial, Reader(name), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8)
    prepared.unlink()
    partial.rename(target)
