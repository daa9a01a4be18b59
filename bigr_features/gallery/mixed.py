"""A search by several pictures at once: like these, and less like those.   P + M queries, D features, K bits, n items, k hits"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.reopened import opened
from ..nearest.checks import combined
from ..nearest.search import SHORTLIST, Searcher
from .hits import Hits

COMPARISONS = ("cosine", "hamming", "two_stage")
UNLIKE = 0.5  # weight of what the hits should be less like, as Rocchio's formula has it


def comparisons_of(gallery) -> tuple[str, ...]:
    """The metrics by which a gallery can be searched with the vectors that it holds, its own first."""
    has = {"features": gallery.settings.has_features, "bits": gallery.settings.has_bits}
    needs = {"cosine": ("features",), "hamming": ("bits",), "two_stage": ("features", "bits")}
    able = [name for name in COMPARISONS if all(has[kind] for kind in needs[name])]
    return tuple(sorted(able, key=lambda name: name != gallery.settings.metric))


def search_mixed(
    gallery, like: Sequence[Any], unlike: Sequence[Any] = (), *, k: int = 10, label=None, metric: str | None = None, weight: float = UNLIKE
) -> Hits:
    """The k items nearest to what some pictures have in common, and away from others (Rocchio, 1971): one row of hits.

    Parameters
    ----------
    gallery : Gallery
    like : sequence of images or ids, one or more
        Images are paths or Pillow images, which the gallery's own model reads. Ids are of items of the gallery, which are not found.
    unlike : sequence of images or ids
        The mean of their directions, times `weight`, is taken from that of `like`; of bits, their votes count against.
    k : int
        At most the number of items to choose from.
    label : int, str or a sequence of them, optional
        Search items of these classes only.
    metric : "cosine", "hamming" or "two_stage", optional
        By default the gallery's own; another one of `comparisons_of(gallery)` is searched exactly.
    weight : float
        Above 0.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        As `Gallery.search`; and if `like` is empty, or the gallery lacks the vectors of a metric.
    """
    if not like:
        raise ValueError("there is nothing to be like; give one image or id at least, or search by a class.")
    able = comparisons_of(gallery)
    metric = gallery.settings.metric if metric is None else metric
    if metric not in able:
        made = "make bits with `bigr reindex GALLERY --metric two_stage --binarize itq`" if metric in COMPARISONS else "choose one of these"
        raise ValueError(f"metric={metric!r}; the gallery {gallery.folder} can be searched by {', '.join(able)}: {made}.")
    gallery._check_not_empty()
    parts, own = [], []
    for query in (*like, *unlike):
        if isinstance(query, str | Path) and gallery._kind_of(query) == "id":
            own.append(gallery._items.row_of(str(query)))
            parts.append(gallery._stored(np.array(own[-1:])))
        else:
            vectors = gallery.embedder.embed_images([opened(query)])
            parts.append((vectors.get("features"), vectors.get("bits")))
    features, bits = (None if rows[0] is None else np.concatenate(rows) for rows in zip(*parts, strict=True))
    weights = np.array([1 / len(like)] * len(like) + [-weight / max(1, len(unlike))] * len(unlike), np.float32)
    if len(parts) > 1:
        features, bits = combined(features, bits, weights)
    excluded = [np.unique(np.array(own, dtype=np.int64))]
    if metric == gallery.settings.metric:
        return gallery._search(features, bits, k, label, excluded, False)
    return gallery._search(features, bits, k, label, excluded, False, other_searcher(gallery, metric))


def other_searcher(gallery, metric: str) -> Searcher:
    """An exact searcher of a gallery's rows by a metric that is not its own, kept until the gallery changes."""
    kept = gallery.__dict__.setdefault("_others", {})
    key = (metric, gallery.generation)
    if key not in kept:
        for old in [old for old in kept if old[1] != gallery.generation]:
            del kept[old]
        vectors = gallery.vectors()
        kept[key] = Searcher(metric, vectors.get("features"), vectors.get("bits"), None, gallery.settings.shortlist or SHORTLIST)
    return kept[key]


def named_like(gallery, part: str, k: int = 100, label=None) -> list[str]:
    """Ids of up to k items whose file's name contains a text, in any case, in the order in which they were added."""
    allowed = None if label is None else gallery._allowed(label)
    wanted, found = part.casefold(), []
    for row, item, source, _ in gallery.sources():
        if wanted in Path(source).name.casefold() and (allowed is None or allowed[row]):
            found.append(item)
            if len(found) == k:
                break
    return found
