"""Copies, near copies and outliers of a gallery.   n items"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..nearest.groups import joined_groups
from .queries import Queries

NEIGHBOURS = 10  # near copies of an item that are looked at; chains of them are joined
BATCH = 1000


@dataclass(frozen=True)
class Duplicates:
    """What looks alike, and what looks like nothing else.

    exact : groups of ids of the same pixels.
    near : groups of ids, each joined to another of its group by a similarity of the threshold or more, copies left out.
    similarities : of each group of `near`, the smallest similarity that joins it.
    outliers : ids and similarity to the nearest other item, the most solitary first.
    """

    exact: list[list[str]]
    near: list[list[str]]
    similarities: list[float]
    outliers: list[tuple[str, float]]


def find_duplicates(gallery: Queries, threshold: float = 0.98, outliers: int = 10) -> Duplicates:
    """Compare every item with its nearest ones.

    Parameters
    ----------
    gallery : Gallery
    threshold : float
        Similarity from which two items are near copies, in (0, 1]: cosine, or the share of equal bits.
    outliers : int
        So many of the most solitary items are named.

    Raises
    ------
    ValueError
        For a threshold beyond, or a gallery of fewer than 2 items.
    """
    if not 0 < threshold <= 1 or outliers < 0:
        raise ValueError(f"threshold={threshold}, outliers={outliers}; expected a similarity in (0, 1], and 0 or more.")
    if len(gallery) < 2:
        raise ValueError(f"the gallery {gallery.folder} holds {len(gallery)} items; there is nothing to compare.")
    ids = gallery.ids.tolist()
    exact: dict[str, list[str]] = {}
    for item in ids:
        base, dash, number = item.rpartition("-")
        exact.setdefault(base if dash and number.isdecimal() else item, []).append(item)
    first = {item: group[0] for group in exact.values() for item in group}
    # copies crowd out near copies: look far enough to see past the largest group of them
    k = min(len(ids) - 1, NEIGHBOURS + max(map(len, exact.values())) - 1)
    joined, nearest = {}, dict[str, float]()
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        hits = gallery.search_ids(part, k=k)
        nearest |= dict(zip(part, hits.scores[:, 0].tolist(), strict=True))
        for i, j in zip(*np.nonzero(hits.scores >= threshold - 1e-6), strict=True):
            one, other = first[part[i]], first[str(hits.ids[i, j])]
            if one != other:
                joined[one, other] = float(hits.scores[i, j])
    near = joined_groups(list(dict.fromkeys(first.values())), joined)
    solitary = sorted(nearest.items(), key=lambda pair: pair[1])[:outliers]
    exact_groups = [group for group in exact.values() if len(group) > 1]
    return Duplicates(exact_groups, [group for group, _ in near], [weakest for _, weakest in near], solitary)
