"""What a result sheet shows: a picture with captions, a query with its hits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

LEGEND = "blue frame: class of the query; orange frame: another class"


@dataclass(frozen=True)
class Card:
    """A picture with what is written below it.

    picture : bytes of an encoded image, or None.
    lines : captions.
    link : a path or address, or None.
    same : whether it is of the query's class; None if not known.
    """

    picture: bytes | None
    lines: tuple[str, ...]
    link: str | None = None
    same: bool | None = None


@dataclass(frozen=True)
class Result:
    """A query and its hits, best first."""

    query: Card
    hits: tuple[Card, ...]


def is_marked(results: Sequence[Result]) -> bool:
    """Whether hits are marked by class."""
    return any(card.same is not None for result in results for card in result.hits)


def decoded(picture: bytes | None) -> Image.Image | None:
    """An encoded picture in RGB; None if there is none, or it is damaged."""
    if not picture:
        return None
    try:
        return Image.open(io.BytesIO(picture)).convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return None
