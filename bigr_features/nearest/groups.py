"""Groups of what is alike: items that are joined by pairs, directly or through others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def joined_groups(items: Sequence[str], pairs: dict[tuple[str, str], float]) -> list[tuple[list[str], float]]:
    """Groups of two or more items, each with the smallest similarity of a pair in it; the most similar group first.

    Parameters
    ----------
    items : sequence of str
    pairs : dict
        Similarity of two different items.
    """
    number = {item: i for i, item in enumerate(items)}
    ends = np.array([[number[one], number[other]] for one, other in pairs], dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends)), ends.T), shape=(len(items), len(items)))
    group_of = connected_components(graph, directed=False)[1]
    members: dict[int, list[str]] = {}
    for item, group in zip(items, group_of.tolist(), strict=True):
        members.setdefault(group, []).append(item)
    weakest: dict[int, float] = {}
    for (one, _), similarity in zip(ends, pairs.values(), strict=True):
        group = int(group_of[one])
        weakest[group] = min(similarity, weakest.get(group, np.inf))
    return [(members[group], weakest[group]) for group in sorted(weakest, key=lambda group: -weakest[group])]
