"""Between pictures, uint8 pixels and tensors: square crops, views, and back to pictures.   n images, S side in pixels, C channels"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .augmentation import augmented
from .modes import upright

VIEWS = {"center": 1, "flip": 2, "ten_crop": 10, "augmented": 10}
TEN_CROP_MARGIN = 1.1
THIN = 16  # a picture whose long side is more than so many short sides is cut before it is resized
LOSSLESS = 64  # small pictures up to so many pixels a side are kept as they are
OUTPUTS = ("tensor", "uint8", "pil")


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The centre crop of ADM (github.com/openai/guided-diffusion), for any size of image.

    Halve with a box filter while the short side is at least twice `size`, bring the short side to `size` with a bicubic filter
    (which also enlarges), and cut the central square. Of a thin picture only that square is resized, so memory is bounded.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    left, top = (width - size) // 2, (height - size) // 2
    if max(width, height) <= THIN * size:
        return image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    across, down = image.width / width, image.height / height
    box = left * across, top * down, (left + size) * across, (top + size) * down
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)


def without_ends(image: Image.Image, ratio: float = THIN) -> Image.Image:
    """A thin picture without its far ends: the middle, `ratio` times as long as the short side; any other picture as it is."""
    short, long = sorted(image.size)
    surplus = 0 if ratio * short >= long else long - int(ratio * short)
    cut = surplus // 2  # as much on both sides, so that the centre stays where it was
    if cut <= 0:
        return image
    wide = image.width == long
    return image.crop((cut, 0, long - cut, short) if wide else (0, cut, short, long - cut))


def read_pixels(image: Image.Image, size: int, in_chans: int = 3) -> np.ndarray:
    """uint8 pixels (S, S, C): turned upright by its EXIF tag, converted to RGB or gray, centre-cropped."""
    return np.asarray(center_crop(upright(image, in_chans), size)).reshape(size, size, in_chans)


def views_of(pixels: np.ndarray, size: int, views: str = "center") -> np.ndarray:
    """The crops and flips that count as separate views of an image.

    Parameters
    ----------
    pixels : array (n, S', S', C)
        Square images of side `side_for(size, views)`.
    size : int
        Side S of a view.
    views : "center", "flip", "ten_crop" or "augmented"
        The image; the image and its mirror image; the four corners and the centre of an image that is 1.1 times as large, then
        the mirror images of the five (arXiv:2406.06525); the image, its mirror image and eight random crops with changed colours
        (`augmentation.augmented`).

    Returns
    -------
    array (n, V, S, S, C)
    """
    margin = pixels.shape[1] - size
    if views == "ten_crop":
        middle = round(margin / 2)
        corners = [(0, 0), (0, margin), (margin, 0), (margin, margin), (middle, middle)]
        crops = [pixels[:, top : top + size, left : left + size] for top, left in corners]
    else:
        crops = [pixels]
    if views != "center":
        crops += [crop[:, :, ::-1] for crop in crops]
    plain = np.stack(crops, axis=1)
    if views != "augmented":
        return plain
    drawn = [augmented(image, VIEWS[views] - len(crops)) for image in pixels]
    return np.concatenate([plain, np.stack(drawn)], axis=1) if drawn else plain.repeat(VIEWS[views] // len(crops), axis=1)


def side_for(size: int, views: str) -> int:
    """Side of the square that `views_of` cuts its views from.

    Raises
    ------
    ValueError
        For unknown views.
    """
    if views not in VIEWS:
        raise ValueError(f"views={views!r} is unknown; choose one of {', '.join(VIEWS)}.")
    return int(size * TEN_CROP_MARGIN) if views == "ten_crop" else size


def to_uint8(images) -> np.ndarray:
    """Pixels (n, H, W, C), uint8, of images (n, C, H, W) in [0, 1]; values outside are clamped, as a decoder may overshoot."""
    array = images.detach().float().cpu().numpy() if hasattr(images, "detach") else np.asarray(images)
    if array.ndim != 4 or array.shape[1] not in (1, 3):
        raise ValueError(f"images have shape {array.shape}; expected (n, 1 or 3, height, width).")
    if not np.isfinite(array).all():
        raise ValueError("images hold NaN or infinite pixels; expected numbers in [0, 1].")
    return np.round(np.clip(array, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def to_pil(images) -> list[Image.Image]:
    """PIL images, RGB or gray, of images (n, C, H, W) in [0, 1] or uint8 pixels (n, H, W, C)."""
    pixels = images if isinstance(images, np.ndarray) and images.dtype == np.uint8 else to_uint8(images)
    return [Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one) for one in pixels]


def as_output(images, output: str):
    """Images (n, C, H, W) in [0, 1] as they are ("tensor"), as uint8 array (n, H, W, C), or as a list of PIL images ("pil")."""
    if output not in OUTPUTS:
        raise ValueError(f"output={output!r}; choose one of {', '.join(OUTPUTS)}.")
    if output == "tensor":
        return images
    return to_uint8(images) if output == "uint8" else to_pil(images)


def thumbnail_of(image: Image.Image, size: int) -> bytes:
    """A picture of at most `size` pixels a side as PNG, if it is tiny, or JPEG."""
    small = image.convert("RGB")
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "PNG") if max(small.size) <= LOSSLESS else small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
