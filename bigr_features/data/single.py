"""One picture, and the mask that belongs to it, from files that somebody gives by hand: every oddity is an error, nothing is skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from .images import open_images
from .modes import eight_bits, turned, upright
from .pixels import read_pixels
from .samples import SAMPLES

MASK_THRESHOLD = 128


def open_picture(source: str | Path, sample_size: int = 64) -> Image.Image:
    """A still picture, turned upright by its EXIF tag, from a file, or "sample:NAME:i", test image i of a sample that ships.

    Samples are brought to `sample_size` pixels a side, as data sets are.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ValueError
        If it is no image, is damaged, or has several frames.
    """
    if str(source).startswith("sample:"):
        return _sample_picture(str(source), sample_size)
    path = Path(source)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give image files.")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        image = Image.open(path)
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise ValueError(f"{path} is an animation of {frames} frames; give a single picture, such as its first frame.")
        image.load()
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read; give PNG, JPEG, WebP, BMP, TIFF or a still GIF.") from None
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is damaged or too large: {error}.") from error
    try:
        return turned(eight_bits(image))
    except ValueError as error:
        raise ValueError(f"{path} cannot be taken: {error}.") from None


def _sample_picture(source: str, size: int) -> Image.Image:
    parts = source.split(":")
    if len(parts) != 3 or parts[1] not in SAMPLES or not parts[2].isdigit():
        raise ValueError(f"{source!r} names no picture; give sample:NAME:NUMBER with NAME one of {', '.join(SAMPLES)}.")
    images = open_images(f"sample:{parts[1]}", "test", size=size)
    index = int(parts[2])
    if index >= len(images):
        raise ValueError(f"sample {parts[1]} has {len(images)} test images; give a number of 0..{len(images) - 1}.")
    return Image.fromarray(images.read(np.array([index]))[0][0])


def transparency(image: Image.Image) -> np.ndarray | None:
    """Where a picture (H, W) is not fully opaque, or None if it has no alpha channel or transparent colour."""
    if not image.has_transparency_data:
        return None
    return np.asarray(image.convert("RGBA"))[..., 3] < 255


def picture_pixels(image: Image.Image, size: int, in_chans: int, name: str, allow_transparency: bool = False) -> np.ndarray:
    """uint8 pixels (S, S, C) of a picture, centre-cropped and resized as data sets are.

    Raises
    ------
    ValueError
        If the short side is below `size`, or some pixels are transparent.
    """
    if min(image.size) < size:
        raise ValueError(
            f"{name} is {image.width} x {image.height}, smaller than the model's {size} x {size}; enlarge it first, "
            "or give it to `bigr enrich`, which takes small images."
        )
    transparent = transparency(image)
    if transparent is not None and transparent.any() and not allow_transparency:
        raise ValueError(
            f"{name} has an alpha channel with {int(transparent.sum())} transparent pixels, whose colour is undefined; flatten it onto a "
            "background, or draw those pixels anew with --mask alpha."
        )
    return read_pixels(image.convert("RGB") if transparent is not None else image, size, in_chans)


def read_mask(source: str | Path, image: Image.Image, name: str, resize: bool = False) -> np.ndarray:
    """Mask (H, W), bool, of a picture: True where the mask file is bright (128 or more of 255).

    With `resize`, a mask of another size is stretched to the picture's.

    Raises
    ------
    ValueError
        If its size is not that of the picture, or it is transparent somewhere.
    """
    mask = open_picture(source)
    if mask.size != image.size and not resize:
        raise ValueError(
            f"mask {source} is {mask.width} x {mask.height} but {name} is {image.width} x {image.height}; "
            "give a mask of the picture's size, or --resize-mask to stretch it."
        )
    transparent = transparency(mask)
    if transparent is not None and transparent.any():
        raise ValueError(f"mask {source} has transparent pixels; give black (keep) and white (draw anew), without an alpha channel.")
    grey = upright(mask, in_chans=1)
    grey = grey if grey.size == image.size else grey.resize(image.size, Image.Resampling.BILINEAR)
    return np.asarray(grey) >= MASK_THRESHOLD


def crop_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """Mask (S, S) after the centre crop and resizing of its picture: True where any of the original pixels under a new pixel is."""
    height, width = mask.shape
    scale = size / min(height, width)
    resized = round(height * scale), round(width * scale)
    starts, stops = [], []
    for full, new in zip((height, width), resized, strict=True):
        edge = (new - size) // 2 + np.arange(size + 1)
        starts.append(np.floor(edge[:-1] * full / new + 1e-9).astype(int))
        stops.append(np.ceil(edge[1:] * full / new - 1e-9).astype(int))
    total = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    (top, left), (bottom, right) = starts, stops
    inside = total[np.ix_(bottom, right)] - total[np.ix_(top, right)] - total[np.ix_(bottom, left)] + total[np.ix_(top, left)]
    return inside > 0
