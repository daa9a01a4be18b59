"""Exact nearest rows, some of the gallery at a time: what every index is measured against, and the search of a small part of a gallery.

Q queries, n rows, D features, k hits
"""

from __future__ import annotations

import numpy as np

from ..functional.vectors import unit_length

CHUNK_BYTES = 64 << 20


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
    import faiss

    queries = unit_length(queries)

    def search(chunk, most):
        return faiss.knn(queries, unit_length(chunk), most, metric=faiss.METRIC_INNER_PRODUCT)

    scores, numbers = _nearest(search, rows, k, where, largest=True)
    return scores.astype(np.float32), numbers


def nearest_by_hamming(queries: np.ndarray, rows, k: int, where: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The k rows that differ from each query in the fewest bits: as `nearest_by_cosine`, on packed bits, with distances, int32, rising."""
    import faiss

    queries = np.ascontiguousarray(queries)

    def search(chunk, most):
        return faiss.knn_hamming(queries, np.ascontiguousarray(chunk), most)

    distances, numbers = _nearest(search, rows, k, where, largest=False)
    return distances.astype(np.int32), numbers


def _nearest(search, rows, k: int, where: np.ndarray | None, largest: bool) -> tuple[np.ndarray, np.ndarray]:
    """Search chunk by chunk, keeping the k best so far; equal scores keep the order of the rows."""
    count = len(rows) if where is None else len(where)
    assert 1 <= k <= count
    step = max(1, CHUNK_BYTES // max(1, rows.dtype.itemsize * rows.shape[1]))
    best_scores = best_numbers = None
    for start in range(0, count, step):
        end = min(start + step, count)
        chunk = rows[start:end] if where is None else rows[where[start:end]]
        scores, numbers = search(chunk, min(k, end - start))
        numbers = numbers.astype(np.int64) + start
        if best_scores is not None:
            scores, numbers = np.concatenate([best_scores, scores], 1), np.concatenate([best_numbers, numbers], 1)
        order = np.argsort(-scores if largest else scores, axis=1, kind="stable")[:, :k]
        best_scores, best_numbers = np.take_along_axis(scores, order, 1), np.take_along_axis(numbers, order, 1)
    return best_scores, best_numbers if where is None else where[best_numbers]
