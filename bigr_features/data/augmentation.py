"""Views of an image as two-view methods draw them: random crops, mirror images and colours, the same ones for the same image.

S side in pixels, C channels
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from PIL import Image
from torchvision.transforms import functional

AREA = (0.2, 1.0)  # of the image, that a crop covers
ASPECT = (3 / 4, 4 / 3)
COLORS_CHANGED = 0.8  # of the views
GRAYED = 0.2
STRENGTH = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}  # half of what SimCLR takes for photographs


def augmented(pixels: np.ndarray, count: int) -> np.ndarray:
    """Augmented views of one image, after SimCLR on CIFAR-10 (Appendix B.9 of arXiv:2002.05709: crops, flips, colours, no blur).

    The draws depend on the image's own pixels only: not on its place, nor on other images.

    Parameters
    ----------
    pixels : uint8 array (S, S, C), C 1 or 3
    count : int
        Number of views.

    Returns
    -------
    uint8 array (count, S, S, C)
    """
    random = np.random.default_rng([zlib.crc32(np.ascontiguousarray(pixels).tobytes()), 6])
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return np.stack([np.asarray(_view(image, random)).reshape(pixels.shape) for _ in range(count)])


def _view(image: Image.Image, random: np.random.Generator) -> Image.Image:
    side = image.width
    view = image.resize((side, side), Image.Resampling.BICUBIC, box=_box(side, random))
    if random.random() < 0.5:
        view = functional.hflip(view)
    if random.random() < COLORS_CHANGED:
        for name in random.permutation(sorted(STRENGTH)):
            amount = random.uniform(-STRENGTH[name], STRENGTH[name])
            if name in ("brightness", "contrast") or view.mode == "RGB":
                view = getattr(functional, f"adjust_{name}")(view, amount if name == "hue" else 1 + amount)
    if view.mode == "RGB" and random.random() < GRAYED:
        view = functional.rgb_to_grayscale(view, 3)
    return view


def _box(side: int, random: np.random.Generator) -> tuple[float, float, float, float]:
    """A random rectangle inside the image, of random area and aspect; a long one is cut at the image's edge."""
    area, aspect = random.uniform(*AREA), math.exp(random.uniform(*np.log(ASPECT)))
    width, height = (min(1.0, math.sqrt(area * ratio)) * side for ratio in (aspect, 1 / aspect))
    left, top = random.uniform(0, side - width), random.uniform(0, side - height)
    return left, top, left + width, top + height
