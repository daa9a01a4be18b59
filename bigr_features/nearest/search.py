"""Nearest rows of a gallery, by one of three metrics, among the rows that count.

cosine    : of features.
hamming   : of packed bits.
two_stage : bits give a shortlist, whose features, read from disk, are ranked by cosine. Only the bits are in memory.

A flat gallery holds its rows in memory. An approximate index holds the first rows; those that were added since are searched exactly, and
the two results are merged.   Q queries, n rows, D features, k hits
"""

from __future__ import annotations

import numpy as np

from ..functional.vectors import unit_length
from .exact import FlatRows, merged, nearest_by_cosine, nearest_by_hamming
from .index import BitIndex, VectorIndex

SHORTLIST = 1000
SMALL_PART = 0.5  # below this share of rows that count, they are searched exactly, without an approximate index


class Searcher:
    """Rows with an index of the first of them.

    Parameters
    ----------
    metric : "cosine", "hamming" or "two_stage"
    features : array (n, D), or None
    bits : packed array (n, bytes), or None
    base : VectorIndex or BitIndex, optional
        An approximate index of the first rows; without it, search is exact.
    shortlist : int
        Rows that two_stage ranks by cosine, for each query.
    """

    def __init__(self, metric: str, features, bits, base: VectorIndex | BitIndex | None = None, shortlist: int = SHORTLIST):
        self.metric, self.base, self.shortlist = metric, base, shortlist
        self.hamming = metric != "cosine"
        self._flat: FlatRows | None = None
        self.take(features, bits)

    def take(self, features, bits) -> None:
        """Go on with the same rows and those appended since."""
        self.features, self.bits = features, bits
        self._stored = bits if self.hamming else features

    @property
    def flat(self) -> FlatRows:
        """The rows that no approximate index holds, in memory."""
        if self._flat is None:
            self._flat = FlatRows(self._stored, self.hamming, 0 if self.base is None else len(self.base))
        self._flat.grow(self._stored)
        return self._flat

    def search(self, vectors, bits, k: int, allowed: np.ndarray | None, excluded: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows of each query.

        Parameters
        ----------
        vectors, bits : arrays (Q, D) and (Q, bytes)
            What the metric needs of them; the other is None.
        k : int
            At most the number of allowed rows without the excluded ones; the caller has checked.
        allowed : bool array (n,), optional
            Rows that count, all by default.
        excluded : list of int arrays, length Q
            Rows that a query must not find.

        Returns
        -------
        scores : float32 (Q, k)
            Cosines, or distances in bits; best first.
        rows : int64 (Q, k)
        """
        if self.metric != "two_stage":
            return self._first_stage(bits if self.hamming else vectors, k, allowed, excluded)
        count = len(self._stored) if allowed is None else int(allowed.sum())
        most = max(k, min(self.shortlist, count - max(map(len, excluded), default=0)))
        _, shortlist = self._first_stage(bits, most, allowed, excluded)  # (Q, S)
        scores, rows = np.empty((len(bits), k), np.float32), np.empty((len(bits), k), np.int64)
        for i, (query, candidates) in enumerate(zip(unit_length(vectors), shortlist, strict=True)):
            candidates = np.sort(candidates)  # read from disk in order
            cosines = unit_length(self.features[candidates]) @ query  # (S,)
            order = np.argsort(-cosines, kind="stable")[:k]
            scores[i], rows[i] = cosines[order], candidates[order]
        return scores, rows

    def _first_stage(self, queries, k: int, allowed: np.ndarray | None, excluded: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Search for more than is needed, drop what is excluded, and search again, exactly, where an approximate index gave too little."""
        most = min(k + max(map(len, excluded), default=0), len(self._stored))
        if self.base is not None and allowed is not None and allowed.sum() < SMALL_PART * len(allowed):
            scores, rows = self._exact(queries, most, np.flatnonzero(allowed))
        else:
            found = [] if self.base is None else [self.base.search(queries, most, None if allowed is None else allowed[: len(self.base)])]
            if len(self.flat):
                found.append(self.flat.search(queries, most, allowed))
            scores, rows = merged(found, most, largest=not self.hamming)
        scores, rows, counts = _without(scores, rows, excluded, k)
        short = np.flatnonzero(counts < k)
        if len(short):
            where = np.arange(len(self._stored)) if allowed is None else np.flatnonzero(allowed)
            exact = self._exact(queries[short], min(most, len(where)), where)
            scores[short], rows[short], _ = _without(*exact, [excluded[i] for i in short], k)
        return scores, rows

    def _exact(self, queries, k: int, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nearest = nearest_by_hamming if self.hamming else nearest_by_cosine
        return nearest(queries, self._stored, min(k, len(where)), where)


def _without(scores: np.ndarray, rows: np.ndarray, excluded: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first k that are rows and not excluded, padded by others where there are too few, and how many there are."""
    counts = rows >= 0
    for i, banned in enumerate(excluded):
        if len(banned):
            counts[i] &= ~np.isin(rows[i], banned)
    order = np.argsort(~counts, axis=1, kind="stable")[:, :k]  # what counts first, in its order
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1), counts.sum(1)
