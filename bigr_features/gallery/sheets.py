"""Cards of what a gallery found, for result sheets, with heat maps of why.   Q queries, k hits"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from ..data.reopened import image_of, opened
from ..features.embedder import Embedder
from ..features.explanation import explain
from ..functional.printing import one_line
from ..plots.cards import Card, Result


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


def item_image(gallery, item: str) -> Image.Image:
    """The image of an item from its source, or its thumbnail if that is gone."""
    about = gallery.item(item)
    try:
        return opened(image_of(about["source"], item=about["id"]))
    except Exception as error:  # decoders raise almost anything on damaged files
        picture = gallery.thumbnail(item)
        if picture is None:
            raise FileNotFoundError(f"item {about['id']} has no thumbnail, and its source cannot be read ({error}).") from error
        return opened(Image.open(io.BytesIO(picture)))


def explained(gallery, embedder: Embedder, results: Sequence[Result], hits, queries: Sequence[Image.Image]) -> list[Result]:
    """Results with heat maps of the query and the hit in place of each hit's picture."""
    shown = []
    for result, ids, query in zip(results, hits.ids, queries, strict=True):
        cards = []
        for card, item in zip(result.hits, ids, strict=True):
            buffer = io.BytesIO()
            explain(embedder, query, item_image(gallery, str(item))).pair.save(buffer, "PNG")
            cards.append(replace(card, picture=buffer.getvalue()))
        shown.append(Result(result.query, tuple(cards)))
    return shown
