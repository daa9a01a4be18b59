"""What a model for small or grey images does not see of a picture: colours, or most of its pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeVar

import numpy as np
from PIL import Image

T = TypeVar("T")

SMALL = 64  # side in pixels of a model that was made for small images
LARGER = 4  # times its side, from which a picture loses what matters
COLOURED = 8  # levels of 255 between channels, on average, from which a picture counts as one in colour
LOOKED_AT = 16  # images of a source, spread over it


def unseen(picture: Image.Image, grey: bool, side: int) -> list[str]:
    """What a model of `side` pixels, trained on grey pictures or not, loses of a picture; nothing for an ordinary model or picture."""
    lost = []
    if grey and picture.mode not in ("1", "L", "LA", "I", "I;16", "F") and _is_coloured(picture):
        lost.append("colours")
    if side <= SMALL and min(picture.size) >= LARGER * side:
        lost.append(f"what is finer than {side} x {side} pixels")
    return lost


def unseen_of(items, grey: bool, side: int) -> str | None:
    """The same of a source, from a few of its images; None if nothing is lost of most of them."""
    if not grey and side > SMALL:
        return None
    found = _of_some(items, lambda picture: unseen(picture, grey, side))
    common = [what for what in dict.fromkeys(chain(*found)) if 2 * sum(what in lost for lost in found) > len(found)]
    return described(common, grey, side) if common else None


def all_small_and_grey(items, side: int) -> bool:
    """Whether a few images of a source, all that can be read of them, have no colours and at most `side` x `side` pixels."""
    found = _of_some(items, lambda picture: max(picture.size) <= side and not _is_coloured(picture))
    return bool(found) and all(found)


def _of_some(items, look: Callable[[Image.Image], T]) -> list[T]:
    """What is seen of a few images, spread over a source; unreadable ones are named when they are read."""
    found = []
    for i in np.linspace(0, len(items) - 1, min(LOOKED_AT, len(items))).round().astype(int):
        try:
            with items.load(int(i)) as picture:
                found.append(look(picture))
        except Exception:
            continue
    return found


def described(lost: Iterable[str], grey: bool, side: int) -> str:
    """A line for a warning."""
    return f"the model was trained on {'grey ' if grey else ''}images of {side} x {side} pixels; it does not see {' and '.join(lost)}"


def _is_coloured(picture: Image.Image) -> bool:
    small = picture.convert("RGB")
    small.thumbnail((64, 64))
    pixels = np.asarray(small).astype(np.int16)
    return float((pixels.max(-1) - pixels.min(-1)).mean()) >= COLOURED
