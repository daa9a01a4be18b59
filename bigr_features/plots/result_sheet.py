"""Result sheets: queries and what they found, as one picture or one page that needs nothing else.   Q queries, k hits"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..storage.atomic import write_atomically
from .cards import LEGEND, Card, Result, decoded, is_marked
from .pictures import Cell, sheet
from .result_page import page

SAME, OTHER = (0, 114, 178), (213, 94, 0)  # blue and vermilion, which colour-blind people tell apart
GAP = 8


def draw_sheet(results: Sequence[Result], title: str = "", note: str = "", side: int = 128) -> Image.Image:
    """A contact sheet: a row for each query, which stands at the left."""
    note = f"{note}   |   {LEGEND}" if note and is_marked(results) else note or (LEGEND if is_marked(results) else "")
    rows = [[_cell(card) for card in (result.query, *result.hits)] for result in results]
    return sheet(rows, title=title, note=note, side=side, gap=GAP, shrink=True, divide_after=1)


def write_sheet(path: str | Path, results: Sequence[Result], title: str = "", note: str = "", side: int = 128) -> Path:
    """Write results as a contact sheet (.png) or a page (.html, .htm), whole or not at all.

    Parameters
    ----------
    path : str or Path
    results : sequence of Result
    title, note : str
        Above the results: what was searched, and how.
    side : int
        Pixels of a picture.

    Raises
    ------
    ValueError
        For another ending, or no results.
    """
    path = Path(path)
    if not results:
        raise ValueError("there are no results to show.")
    if path.suffix.lower() == ".png":
        buffer = io.BytesIO()
        draw_sheet(results, title, note, side).save(buffer, "PNG")
        content = buffer.getvalue()
    elif path.suffix.lower() in (".html", ".htm"):
        content = page(results, title, note, side, path.resolve().parent).encode("utf-8", "backslashreplace")  # names that are not UTF-8
    else:
        raise ValueError(f"{path} ends in neither .png nor .html; result sheets are one of the two.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    return path


def _cell(card: Card) -> Cell:
    frame = None if card.same is None else SAME if card.same else OTHER
    return Cell(decoded(card.picture), tuple(card.lines), frame)
