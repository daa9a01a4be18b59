"""What somebody brings on the first day: a folder of photographs, class folders of small images, a file of weights. And how they type."""

from __future__ import annotations

import contextlib
import io
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timm
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from bigr_features.cli import main

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MODEL = "resnet10t"  # a CNN with a classifier, small enough to be made at random for a test


class Said(NamedTuple):
    """How a command ended, and what it wrote to standard output and standard error."""

    status: int
    out: str
    err: str


def bigr(line: str) -> Said:
    """Run a command as it is typed, in this process."""
    out, err = io.StringIO(), io.StringIO()
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(shlex.split(line))
        except SystemExit as end:
            status = 0 if end.code is None else end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code, file=err)
    return Said(status, out.getvalue(), err.getvalue())


def shape(label: int, seed: int, side: int = 32) -> Image.Image:
    """A small image of a class: its own colour and form, at a random place."""
    rng = np.random.default_rng([label, seed])
    noise = rng.integers(60, 120, (side, side, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    colour = tuple(int(v) for v in np.array([[220, 40, 40], [40, 220, 40], [60, 60, 230], [230, 220, 40], [220, 60, 220]])[label % 5])
    x, y = rng.integers(2, side // 3, 2)
    box = [int(x), int(y), int(x) + side // 2, int(y) + side // 2]
    pen = ImageDraw.Draw(picture)
    pen.ellipse(box, fill=colour) if label < 5 else pen.rectangle(box, fill=colour)
    return picture


def class_folders(folder: Path, per_class: int, test: int, side: int = 32) -> Path:
    """CIFAR-like folders train and test, with a folder for each class."""
    for split, count, first in (("train", per_class, 0), ("test", test, 1000)):
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                shape(label, first + i, side).save(folder / split / name / f"{i:04d}.png")
    return folder


def photographs(folder: Path) -> Path:
    """A mixed folder: copies, near copies, EXIF rotation, WebP, CMYK, grey, tiny, unicode names, and one broken file."""
    folder.mkdir(parents=True)
    palace, flower = (Image.fromarray(image) for image in load_sample_images().images)
    palace, flower = palace.resize((320, 214)), flower.resize((320, 214))
    motorcycle = Image.merge("RGB", [band.rotate(90, expand=True) for band in flower.split()][::-1])
    palace.save(folder / "palace.png")
    palace.save(folder / "palace copy.png")
    palace.crop((6, 4, 314, 210)).save(folder / "palace_near.jpg", quality=80)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    palace.rotate(90, expand=True).save(folder / "palace_rotated.jpg", quality=95, exif=exif)
    flower.save(folder / "cat.png")
    flower.save(folder / "cat_near.webp", quality=80)
    motorcycle.save(folder / "motorcycle.jpg", quality=95)
    motorcycle.resize((150, 220)).save(folder / "motorcycle_near.png")
    flower.convert("CMYK").rotate(30).save(folder / "cmyk.jpg")
    palace.convert("L").rotate(180).save(folder / "grey.png")
    shape(3, 1, 12).save(folder / "tiny.png")
    for i, name in enumerate(("Übermut_größer.png", "naïve façade ★.png", "日本.png", "a & b [1].png")):
        shape(i, 70 + i, 96).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    return folder


def weights_file(path: Path) -> Path:
    """Weights of an ordinary classification model, its classifier among them."""
    torch.manual_seed(0)
    save_file(timm.create_model(MODEL, num_classes=1000).state_dict(), path)
    return path
