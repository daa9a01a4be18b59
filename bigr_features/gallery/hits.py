"""What a search found, and its result sheet.   Q queries, k hits"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..plots.cards import Card
from ..plots.result_sheet import draw_sheet, write_sheet
from .sheets import results_of


@dataclass(frozen=True)
class Hits:
    """What was found, best first.

    ids : array of str (Q, k).
    scores : float32 (Q, k): cosine; by Hamming distance, the share of equal bits.
    labels : int64 (Q, k), -1 for none.
    gallery : where it was found.
    queries : cards of the queries, for `sheet`.
    """

    ids: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    gallery: Any = field(default=None, repr=False, compare=False)
    queries: tuple[Card, ...] = field(default=(), repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.ids)

    def sheet(self, path: str | Path | None = None, title: str = "", note: str = "", side: int = 128) -> Image.Image | Path:
        """The results as a picture, which a notebook shows; or written to `path`, a contact sheet (.png) or a page (.html)."""
        cards = self.queries or tuple(Card(None, (f"query {i}",)) for i in range(len(self)))
        results = results_of(self.gallery, self, cards)
        return draw_sheet(results, title, note, side) if path is None else write_sheet(path, results, title, note, side)

    def _repr_png_(self) -> bytes | None:
        sheet = self.sheet() if len(self) and self.gallery is not None else None
        return sheet._repr_png_() if isinstance(sheet, Image.Image) else None
