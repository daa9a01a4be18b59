"""Nearest rows of a gallery, by one of three metrics, among the rows that count.

cosine    : a float index of the features.
hamming   : a binary index of packed bits.
two_stage : bits give a shortlist, whose features, read from disk, are ranked by cosine. Only the bits are in memory.
Q queries, n rows, D features, k hits
"""

from __future__ import annotations

import numpy as np

from ..functional.vectors import unit_length
from .exact import nearest_by_cosine, nearest_by_hamming
from .index import BitIndex, VectorIndex

SHORTLIST = 1000
SMALL_PART = 0.5  # below this share of rows that count, they are searched exactly, without the index


class Searcher:
    """An index with the rows it was made from.

    Parameters
    ----------
    metric : "cosine", "hamming" or "two_stage"
    index : VectorIndex or BitIndex
        Of all rows; never asked for what it does not hold.
    features : array (n, D), or None
    bits : packed array (n, bytes), or None
    shortlist : int
        Rows that two_stage ranks by cosine, for each query.
    """

    def __init__(self, metric: str, index: VectorIndex | BitIndex, features, bits, shortlist: int = SHORTLIST):
        self.metric, self.index, self.features, self.bits, self.shortlist = metric, index, features, bits, shortlist

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
            queries = vectors if self.metric == "cosine" else bits
            return self._first_stage(queries, k, allowed, excluded)
        count = self._count(allowed)
        most = max(k, min(self.shortlist, count - max(map(len, excluded), default=0)))
        _, shortlist = self._first_stage(bits, most, allowed, excluded)  # (Q, S)
        scores, rows = np.empty((len(bits), k), np.float32), np.empty((len(bits), k), np.int64)
        for i, (query, candidates) in enumerate(zip(unit_length(vectors), shortlist, strict=True)):
            candidates = np.sort(candidates)  # read from disk in order
            cosines = unit_length(self.features[candidates]) @ query  # (S,)
            order = np.argsort(-cosines, kind="stable")[:k]
            scores[i], rows[i] = cosines[order], candidates[order]
        return scores, rows

    def _count(self, allowed: np.ndarray | None) -> int:
        return len(self.index) if allowed is None else int(allowed.sum())

    def _first_stage(self, queries, k: int, allowed: np.ndarray | None, excluded: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Search the index for more than is needed, drop what does not count, and search again, exactly, where too little is left."""
        total, share = len(self.index), self._count(allowed) / max(1, len(self.index))
        most = k + max(map(len, excluded), default=0)
        if share < SMALL_PART:
            return self._exact(queries, k, np.flatnonzero(allowed), excluded)
        if allowed is not None:
            most = round(1.2 * most / share) + 10
        scores, rows = self.index.search(queries, min(most, total))
        counts = rows >= 0
        if allowed is not None:
            counts &= allowed[rows]
        for i, banned in enumerate(excluded):
            if len(banned):
                counts[i] &= ~np.isin(rows[i], banned)
        order = np.argsort(~counts, axis=1, kind="stable")[:, :k]  # what counts first, in its order
        short = np.flatnonzero(counts.sum(1) < k)
        enough = min(k, rows.shape[1])
        found = np.zeros((len(queries), k), scores.dtype), np.zeros((len(queries), k), np.int64)
        found[0][:, :enough], found[1][:, :enough] = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        if len(short):
            where = np.arange(total) if allowed is None else np.flatnonzero(allowed)
            exact = self._exact(queries[short], k, where, [excluded[i] for i in short])
            found[0][short], found[1][short] = exact
        return found

    def _exact(self, queries, k: int, where: np.ndarray, excluded: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        extra = max(map(len, excluded), default=0)
        hamming = isinstance(self.index, BitIndex)
        nearest, stored = (nearest_by_hamming, self.bits) if hamming else (nearest_by_cosine, self.features)
        where = None if len(where) == len(stored) else where
        scores, rows = nearest(queries, stored, min(k + extra, len(stored) if where is None else len(where)), where)
        if extra:
            counts = np.array([~np.isin(found, banned) for found, banned in zip(rows, excluded, strict=True)])
            order = np.argsort(~counts, axis=1, kind="stable")[:, :k]
            scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        return scores[:, :k], rows[:, :k]
