#!/usr/bin/env python3
"""Makes the golden results of preprocessing, with Pillow as the judge.

    python3 tests/golden/preprocess/make.py        needs Pillow 13 and numpy

It writes, beside itself:
  resize.txt     cases with the CRC32 of Pillow's resized crop; the picture is `noise` below
  crops.txt      CRC32 of the crop sides int(size / (size + 32) * side) for sides 1..=4096
  pictures.txt   name, width, height and largest mean difference for each file of pictures/
  pictures/      tiny JPEG and PNG files, each with Pillow's RGB samples as NAME.rgb

Up to Pillow 12 the horizontal pass of a resize was always the first; tall pictures need Pillow 13.
"""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def noise(width, height):
    """The picture that the tests make too: noise on the left, stripes of 0 and 255 on the right."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3].astype(np.uint32)
    with np.errstate(over="ignore"):
        h = x * np.uint32(73856093) ^ y * np.uint32(19349663) ^ c * np.uint32(83492791)
        h = (h ^ h >> np.uint32(13)) * np.uint32(1274126177)
    stripes = np.where((x // 3 + y // 2 + c) % 2 == 0, 255, 0)
    return np.where(x * 2 < width, h >> np.uint32(24), stripes).astype(np.uint8)


def resized(picture, size, name, rule, fraction):
    """Pillow's result for one crop rule; `size` is (height, width) of the tensor."""
    image, (th, tw) = Image.fromarray(picture), size
    (w, h), kernel = image.size, FILTERS[name]
    if rule == "stretch":
        return image.resize((tw, th), kernel)
    if rule == "center":
        fits = (w, w * th / tw) if w * th <= h * tw else (h * tw / th, h)
        cw, ch = (max(1, int(fraction * side)) for side in fits)
        left, top = (w - cw) // 2, (h - ch) // 2
        return image.resize((tw, th), kernel, box=(left, top, left + cw, top + ch))
    # torchvision.transforms.Resize and CenterCrop, for a square tensor.
    assert rule == "resize_then_center" and th == tw
    short = round(th / fraction)
    long = int(short * max(w, h) / min(w, h))
    nw, nh = (short, long) if w <= h else (long, short)
    left, top = round((nw - tw) / 2.0), round((nh - th) / 2.0)
    return image.resize((nw, nh), kernel).crop((left, top, left + tw, top + th))


CASES = [
    # name, picture width and height, tensor height and width, filter, rule, (over, under)
    ("down", 320, 240, 224, 224, "bicubic", "center", (7, 8)),
    ("down_linear", 320, 240, 224, 224, "bilinear", "center", (7, 8)),
    ("far_down", 1000, 701, 32, 32, "bicubic", "center", (1, 1)),
    ("up", 37, 29, 64, 64, "bicubic", "center", (7, 8)),
    ("up_linear", 37, 29, 64, 64, "bilinear", "stretch", (1, 1)),
    ("same", 48, 48, 48, 48, "bicubic", "stretch", (1, 1)),
    ("odd", 301, 203, 97, 97, "bicubic", "center", (240, 272)),
    ("row", 113, 1, 16, 16, "bicubic", "stretch", (1, 1)),
    ("column", 1, 113, 16, 16, "bilinear", "stretch", (1, 1)),
    ("pixel", 1, 1, 5, 5, "bicubic", "center", (7, 8)),
    ("tall", 60, 400, 33, 33, "bicubic", "center", (1, 1)),
    ("tall_linear", 60, 400, 40, 33, "bilinear", "stretch", (1, 1)),
    ("not_yet_tall", 60, 90, 30, 30, "bicubic", "stretch", (1, 1)),
    ("just_tall", 60, 91, 30, 30, "bicubic", "stretch", (1, 1)),
    ("up_tall", 4, 20, 24, 40, "bicubic", "stretch", (1, 1)),
    ("torchvision", 333, 257, 224, 224, "bilinear", "resize_then_center", (7, 8)),
    ("torchvision_tall", 90, 481, 64, 64, "bicubic", "resize_then_center", (9, 10)),
    ("wide_tensor", 200, 150, 40, 90, "bicubic", "center", (9, 10)),
    ("tall_tensor", 200, 150, 90, 40, "bilinear", "center", (1, 1)),
    ("to_one", 50, 40, 1, 1, "bicubic", "center", (1, 1)),
]


def make_resize():
    lines = ["# name width height tensor_h tensor_w filter rule over under crc32"]
    for name, w, h, th, tw, kernel, rule, (over, under) in CASES:
        result = resized(noise(w, h), (th, tw), kernel, rule, over / under)
        crc = zlib.crc32(np.asarray(result).tobytes())
        lines.append(f"{name} {w} {h} {th} {tw} {kernel} {rule} {over} {under} {crc:08x}")
    (HERE / "resize.txt").write_text("\n".join(lines) + "\n")


def make_crops():
    lines = ["# size crc32 of the sides of the crop as little-endian u32, for short sides 1..=4096"]
    for size in (224, 240, 260, 280, 300, 380, 456, 528, 600):
        sides = [max(1, int(size / (size + 32) * side)) for side in range(1, 4097)]
        lines.append(f"{size} {zlib.crc32(struct.pack('<4096I', *sides)):08x}")
    (HERE / "crops.txt").write_text("\n".join(lines) + "\n")


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(width, height, depth, kind, interlaced, lines):
    """A PNG that Pillow can read but not write; `lines` is what goes into IDAT."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    ]
    out = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        out += struct.pack(">I", len(data)) + name + data
        out += struct.pack(">I", zlib.crc32(name + data))
    return out


def deep_png(width, height, kind, channels):
    """16 bits a sample, over the whole range."""
    samples = np.arange(width * height * channels, dtype=np.uint32) * 68 % 65536
    rows = samples.astype(">u2").reshape(height, -1)
    return png(width, height, 16, kind, 0, b"".join(b"\0" + row.tobytes() for row in rows))


def smooth(width, height):
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    return np.stack([255 * x, 255 * y, 255 * (1 - x) * (1 - y)], axis=-1).round().astype(np.uint8)


def make_pictures():
    """JPEG decoders differ in the last bit of the inverse transform, and in how they enlarge
    chroma of half size: hence the differences allowed for what our own does not take."""
    w, h = 20, 12
    rgb = Image.fromarray(smooth(w, h))
    files = {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        options = {"quality": 90, "subsampling": 0, "exif": exif}
        files[f"orientation_{orientation}.jpg"] = (saved(rgb, "JPEG", **options), 0)
    exif = Image.Exif()
    exif[0x112] = 6
    files["orientation_6.png"] = (saved(rgb, "PNG", exif=exif), 0)
    files["grey.jpg"] = (saved(rgb.convert("L"), "JPEG", quality=90), 0)
    files["half_chroma.jpg"] = (saved(rgb, "JPEG", quality=90, subsampling=2), 0)
    files["progressive.jpg"] = (saved(rgb, "JPEG", quality=90, progressive=True), 0.7)
    cmyk = Image.merge("CMYK", (*rgb.split(), Image.linear_gradient("L").resize((w, h))))
    cmyk_jpeg = saved(cmyk, "JPEG", quality=95, subsampling=0)
    files["cmyk.jpg"] = (cmyk_jpeg, 0.1)
    # The same components, said to be YCCK by the Adobe segment's last byte.
    adobe = cmyk_jpeg.index(b"Adobe") + 11
    files["ycck.jpg"] = (cmyk_jpeg[:adobe] + b"\2" + cmyk_jpeg[adobe + 1 :], 0.1)
    files["rgb.png"] = (saved(rgb, "PNG"), 0)
    files["grey.png"] = (saved(rgb.convert("L"), "PNG"), 0)
    files["one_bit.png"] = (saved(rgb.convert("1"), "PNG"), 0)
    alpha = Image.linear_gradient("L").resize((w, h))
    files["alpha.png"] = (saved(Image.merge("RGBA", (*rgb.split(), alpha)), "PNG"), 0)
    grey_alpha = Image.merge("LA", (rgb.convert("L"), alpha))
    files["grey_alpha.png"] = (saved(grey_alpha, "PNG"), 0)
    palette = rgb.quantize(13, dither=Image.Dither.NONE)
    files["palette.png"] = (saved(palette, "PNG"), 0)
    files["palette_clear.png"] = (saved(palette, "PNG", transparency=3), 0)
    # Adam7: pass 1 has the first pixel, pass 6 the second, pass 7 the second row.
    files["interlaced.png"] = (png(2, 2, 8, 0, 1, b"\0\x11\0\x55\0\x99\xdd"), 0)
    files["rgb_16.png"] = (deep_png(w, h, 2, 3), 0)
    files["rgba_16.png"] = (deep_png(w, h, 6, 4), 0)

    # Noise over colours: every coefficient, every rounding; sides that no MCU divides.
    large = smooth(83, 61).astype(int) // 2 + noise(83, 61) // 2
    large = Image.fromarray(large.astype(np.uint8))
    for name, options in {
        "full": {"subsampling": 0, "quality": 95},
        "half_width": {"subsampling": 1, "quality": 95},
        "half_both": {"subsampling": 2, "quality": 95},
        "coarse": {"subsampling": 2, "quality": 15},
        "finest": {"subsampling": 2, "quality": 100, "optimize": True},
        "restart": {"subsampling": 2, "quality": 80, "restart_marker_blocks": 4},
        "restart_rows": {"subsampling": 1, "quality": 80, "restart_marker_rows": 1},
    }.items():
        files[f"large_{name}.jpg"] = (saved(large, "JPEG", **options), 0)
    files["large_grey.jpg"] = (saved(large.convert("L"), "JPEG", quality=95), 0)
    for side in (1, 2, 3, 4, 5, 6, 16, 17):
        small = large.crop((40, 8, 40 + side, 8 + 18 - side))
        files[f"small_{side}.jpg"] = (saved(small, "JPEG", subsampling=2, quality=95), 0)

    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    lines = ["# file width height largest_mean_difference"]
    for name, (data, tolerance) in files.items():
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        lines.append(f"{name} {image.width} {image.height} {tolerance}")
        (folder / name).write_bytes(data)
        (folder / f"{name}.rgb").write_bytes(image.tobytes())
    (HERE / "pictures.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    make_resize()
    make_crops()
    make_pictures()
