"""Result sheets: queries and what they found, as one picture or one page that needs nothing else.   Q queries, k hits"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from ..functional.printing import one_line
from ..storage.atomic import write_atomically
from .cards import Card, Result
from .sheet_html import page
from .sheet_png import draw_sheet


def results_of(gallery, hits, queries: Sequence[Card], labels: Sequence[int | None] | None = None) -> list[Result]:
    """Cards of what was found: picture, rank and score, class, source.

    Parameters
    ----------
    gallery : Gallery
    hits : Hits
    queries : sequence of Card, length Q
    labels : sequence of int or None, optional
        Class of each query, if known; hits are then marked as of this class or of another.
    """
    if len(queries) != len(hits):
        raise ValueError(f"there are {len(queries)} query cards and {len(hits)} rows of hits; give one card a query.")
    results = []
    for i, (ids, scores, query) in enumerate(zip(hits.ids, hits.scores, queries, strict=True)):
        label = None if labels is None else labels[i]
        ranked = enumerate(zip(ids, scores, strict=True), 1)
        cards = [card_of(gallery, item, f"{rank}.  {score:.3f}", label) for rank, (item, score) in ranked]
        results.append(Result(query, tuple(cards)))
    return results


def card_of(gallery, item: str, first: str, label: int | None = None) -> Card:
    """Card of an item of a gallery; `label` is that of the query."""
    about = gallery.item(item)
    named = about["class_name"] if about["class_name"] is not None else None if about["label"] is None else f"class {about['label']}"
    source = about["source"]
    lines = (first, *([one_line(named)] if named else []), one_line(Path(source).name) if source else about["id"][:12])
    same = None if label is None or about["label"] is None else about["label"] == label
    return Card(gallery.thumbnail(item), lines, source, same)


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
