"""Results as one picture.   Q queries, k hits"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from ..plots.pictures import Cell, sheet
from .cards import LEGEND, Card, Result, decoded, is_marked

SAME, OTHER = (0, 114, 178), (213, 94, 0)  # blue and vermilion, which colour-blind people tell apart
GAP = 8


def draw_sheet(results: Sequence[Result], title: str = "", note: str = "", side: int = 128) -> Image.Image:
    """A contact sheet: a row for each query, which stands at the left."""
    note = f"{note}   |   {LEGEND}" if note and is_marked(results) else note or (LEGEND if is_marked(results) else "")
    rows = [[_cell(card) for card in (result.query, *result.hits)] for result in results]
    return sheet(rows, title=title, note=note, side=side, gap=GAP, shrink=True, divide_after=1)


def _cell(card: Card) -> Cell:
    frame = None if card.same is None else SAME if card.same else OTHER
    return Cell(decoded(card.picture), tuple(card.lines), frame)
