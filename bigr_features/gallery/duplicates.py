"""Copies, near copies and outliers of a gallery.   n items"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    group_of = {item: item for item in first.values()}
    joined, nearest = [], {}
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        hits = gallery.search_ids(part, k=k)
        nearest |= dict(zip(part, hits.scores[:, 0].tolist(), strict=True))
        close = hits.scores >= threshold - 1e-6
        for i, j in zip(*np.nonzero(close), strict=True):
            one, other = first[part[i]], first[str(hits.ids[i, j])]
            if one != other:
                joined.append((one, other, float(hits.scores[i, j])))
                group_of[_root(group_of, one)] = _root(group_of, other)
    near: dict[str, list[str]] = {}
    for item in group_of:
        near.setdefault(_root(group_of, item), []).append(item)
    weakest: dict[str, float] = {}
    for one, _, score in joined:
        root = _root(group_of, one)
        weakest[root] = min(score, weakest.get(root, 1.0))
    roots = sorted((root for root, group in near.items() if len(group) > 1), key=lambda root: -weakest[root])
    solitary = sorted(nearest.items(), key=lambda pair: pair[1])[:outliers]
    groups = [group for group in exact.values() if len(group) > 1]
    return Duplicates(groups, [near[root] for root in roots], [weakest[root] for root in roots], solitary)


def _root(group_of: dict[str, str], item: str) -> str:
    while group_of[item] != item:
        group_of[item] = group_of[group_of[item]]
        item = group_of[item]
    return item
