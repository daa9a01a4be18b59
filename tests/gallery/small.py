"""A folder of images as people have them: several formats, colours and orientations, one of them broken, one twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bigr_features.data import load_sample

CLASSES = ("Trouser", "Bag", "Ankle boot")
NASTY = "<b>copy & 'quoted' \"name\".png"


def picture(number: int) -> Image.Image:
    """An image of the sample, by number: the class is that of `CLASSES[number % 3]`."""
    sample = load_sample("fashion_mnist")
    label = sample.class_names.index(CLASSES[number % 3])
    return Image.fromarray(sample.train_images[np.flatnonzero(sample.train_labels == label)[number // 3]])


def mixed_folder(folder: Path, count: int = 24) -> Path:
    """`count` readable images in class folders, a copy of one of them, and a broken file."""
    for i in range(count):
        image, place = picture(i), folder / CLASSES[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        kind = i // 3 % 7
        if kind == 0:
            image.save(place / f"{i:02d}.png")
        elif kind == 1:
            image.convert("RGB").resize((90, 140)).save(place / f"{i:02d}.JPG", quality=95)
        elif kind == 2:
            image.convert("RGB").save(place / f"{i:02d}.webp", lossless=True)
        elif kind == 3:
            image.convert("CMYK").save(place / f"{i:02d}.jpeg", quality=95)
        elif kind == 4:
            exif = Image.Exif()
            exif[0x0112] = 6
            image.convert("RGB").transpose(Image.Transpose.ROTATE_90).save(place / f"{i:02d}.png", exif=exif)
        elif kind == 5:
            image.convert("RGBA").save(place / f"{i:02d}.png")
        else:
            image.convert("P").save(place / f"{i:02d}.gif")
    (folder / CLASSES[1] / "broken.png").write_bytes(b"no image")
    (folder / CLASSES[0] / NASTY).write_bytes((folder / CLASSES[0] / "00.png").read_bytes())
    return folder
