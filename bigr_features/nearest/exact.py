"""Exact nearest rows: what every index is measured against, the flat index of a gallery, and the search of a small part of one.

Q queries, n rows, D features, k hits
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from ..functional.vectors import unit_length
from ..storage.append_file import chunks

SELECTED_QUERIES = 20  # so many queries at once are faster on a copy of the rows that count than through a selector


def nearest_by_cosine(queries: np.ndarray, rows, k: int, where: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of largest cosine to each query.

    Parameters
    ----------
    queries : float array (Q, D)
    rows : array (n, D), in memory or not
    k : int
        1..n, or 1..len(where).
    where : int array, optional
        Search these rows only.

    Returns
    -------
    cosines : float32 array (Q, k), falling
    numbers : int64 array (Q, k), into `rows`
    """
    scores, numbers = merged(_searched(by_cosine, unit_length(queries), chunks(rows, 0, unit_length, where), k), k, largest=True)
    return scores, numbers if where is None else where[numbers]


def nearest_by_hamming(queries: np.ndarray, rows, k: int, where: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k rows that differ from each query in the fewest bits: as `nearest_by_cosine`, on packed bits, with distances, int32, rising."""
    found = _searched(by_hamming, np.ascontiguousarray(queries), chunks(rows, 0, np.ascontiguousarray, where), k)
    distances, numbers = merged(found, k, largest=False)
    return distances.astype(np.int32), numbers if where is None else where[numbers]


def _searched(search: Callable, queries: np.ndarray, blocks: Iterable[np.ndarray], k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    found, start = [], 0
    for block in blocks:
        scores, numbers = search(queries, block, min(k, len(block)))
        found.append((scores, numbers + start))
        start += len(block)
    return found


def by_cosine(queries: np.ndarray, rows: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k of normalised rows, in memory, nearest to normalised queries; of those `allowed`, -1 where there are no more."""
    import faiss

    if allowed is None:
        return faiss.knn(queries, rows, k, metric=faiss.METRIC_INNER_PRODUCT)
    if len(queries) >= SELECTED_QUERIES:
        return _among(by_cosine, queries, rows, k, allowed)
    scores, numbers = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    pointer, selector = faiss.swig_ptr, faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    queries = np.ascontiguousarray(queries)
    shape = rows.shape[1], len(queries), len(rows), k
    faiss.knn_inner_product(pointer(queries), pointer(rows), *shape, pointer(scores), pointer(numbers), selector)
    return scores, numbers


def by_hamming(queries: np.ndarray, rows: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """As `by_cosine`, on packed bits."""
    import faiss

    return faiss.knn_hamming(queries, rows, k) if allowed is None else _among(by_hamming, queries, rows, k, allowed)


def _among(search: Callable, queries: np.ndarray, rows: np.ndarray, k: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    where = np.flatnonzero(allowed)
    scores, numbers = search(queries, rows[where], min(k, len(where)))
    return scores, where[numbers]


def merged(found: list[tuple[np.ndarray, np.ndarray]], k: int, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    """The k best (Q, k) of several searches, each (Q, at most k), of which -1 is no row."""
    import faiss

    if len(found) == 1 and found[0][0].shape[1] == k:
        return found[0]
    heap = faiss.ResultHeap(len(found[0][0]), k, keep_max=largest)
    worst = np.float32(-np.inf if largest else np.inf)
    for scores, numbers in found:
        heap.add_result(np.where(numbers < 0, worst, scores), numbers)
    heap.finalize()
    return heap.D, heap.I


class FlatRows:
    """Rows in memory, normalised if they are compared by cosine, searched exactly: a flat index that grows block by block.

    Parameters
    ----------
    rows : array (n, D)
        On disk or in memory.
    hamming : bool
        They are packed bits.
    start : int
        Take the rows from this one on.
    """

    def __init__(self, rows, hamming: bool, start: int = 0):
        self.start, self.stop = start, start
        self._prepared: Callable = np.ascontiguousarray if hamming else unit_length
        self._search = by_hamming if hamming else by_cosine
        self._largest, self._blocks = not hamming, list[np.ndarray]()
        self.grow(rows)

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def nbytes(self) -> int:
        """Memory that the rows take."""
        return sum(block.nbytes for block in self._blocks)

    def grow(self, rows) -> None:
        """Take the rows that were appended; blocks that are no larger than the new one are joined with it."""
        count = len(rows) - self.stop
        if count <= 0:
            return
        joined: list[np.ndarray] = []
        while self._blocks and len(self._blocks[-1]) <= count:
            joined.insert(0, self._blocks.pop())
            count += len(joined[0])
        block = np.empty((count, rows.shape[1]), np.float32 if self._largest else np.uint8)
        filled = 0
        for part in [*joined, *chunks(rows, self.stop, self._prepared)]:
            block[filled : filled + len(part)] = part
            filled += len(part)
        self._blocks.append(block)
        self.stop = len(rows)

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Scores and numbers of rows (Q, k), best first, -1 where there are no more; `allowed` is a bool array of all rows."""
        queries, found, start = self._prepared(queries), [], self.start
        for block in self._blocks:
            counts = None if allowed is None else allowed[start : start + len(block)]
            if counts is not None and counts.all():
                counts = None
            if counts is None or counts.any():
                scores, numbers = self._search(queries, block, min(k, len(block)), counts)
                found.append((scores, np.where(numbers < 0, -1, numbers + start)))
            start += len(block)
        if not found:
            return np.zeros((len(queries), k), np.float32), np.full((len(queries), k), -1)
        return merged(found, k, self._largest)
