"""Euclidean distances between feature sets, a block of rows at a time.   n queries, m points, D features

A block of squared distances comes from one matrix product, which loses digits where points almost coincide. So whatever a decision hangs
on (the distance of a neighbour, a point at the rim of a ball) is computed again from differences; results do not depend on block sizes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .feature_arrays import rows_per_block

_SPARE = 2  # neighbours beyond those asked for, in case rounding changed their order
_PAIRS = 2**16  # computed from differences at a time


class Points:
    """Points (m, D), float64, to measure distances to."""

    def __init__(self, points: np.ndarray):
        self.points = points
        self.norms = np.einsum("ij,ij->i", points, points)  # (m,)

    def __len__(self) -> int:
        return len(self.points)

    def blocks(self, queries: np.ndarray, block_rows: int | None = None) -> Iterator[tuple[slice, np.ndarray, float]]:
        """(rows, squared distances (b, m), bound on their rounding error) of the queries (n, D), in order."""
        step = block_rows or rows_per_block(len(self.points))
        for start in range(0, len(queries), step):
            rows = slice(start, min(start + step, len(queries)))
            block = queries[rows]
            norms = np.einsum("ij,ij->i", block, block)
            squared = block @ self.points.T
            squared *= -2
            squared += norms[:, None]
            squared += self.norms
            error = 8 * self.points.shape[1] * np.finfo(np.float64).eps * (norms.max() + self.norms.max())
            yield rows, squared.clip(min=0, out=squared), error

    def pairs(self, queries: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Squared distances (b, k), from differences, of each query (b, D) to the points of its own indices (b, k)."""
        step = max(1, _PAIRS // max(1, indices.shape[1]))
        parts = [
            np.square(queries[start : start + step, None] - self.points[indices[start : start + step]]).sum(-1)
            for start in range(0, len(queries), step)
        ]
        return np.concatenate(parts) if parts else np.empty(indices.shape)


def neighbor_distances(points: Points, ks: tuple[int, ...], block_rows: int | None = None) -> np.ndarray:
    """Squared distance (len(ks), m) of each point to its k-th neighbour, without itself; a duplicate counts as a neighbour.

    Raises
    ------
    ValueError
        If k is not in 1..m-1.
    """
    most = len(points) - 1
    for k in ks:
        if not 1 <= k <= most:
            raise ValueError(f"k={k} neighbours were asked for, but a point has {most} others; ask for 1 to {most}.")
    found = np.empty((len(ks), len(points)))
    for rows, squared, _ in points.blocks(points.points, block_rows):
        own = np.arange(rows.start, rows.stop)
        squared[own - rows.start, own] = np.inf
        nearest = _smallest(squared, min(max(ks) + _SPARE, most))
        exact = np.sort(points.pairs(points.points[rows], nearest), axis=1)
        for i, k in enumerate(ks):
            found[i, rows] = exact[:, k - 1]
    return found


def nearest(queries: np.ndarray, points: Points, block_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance (n,) and index (n,) of the point nearest to each query; of equally near ones, the first of those looked at."""
    distances, indices = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
    for rows, squared, _ in points.blocks(queries, block_rows):
        candidates = np.sort(_smallest(squared, min(1 + _SPARE, len(points))), axis=1)
        exact = points.pairs(queries[rows], candidates)
        best = exact.argmin(1)
        here = np.arange(len(best))
        distances[rows], indices[rows] = exact[here, best], candidates[here, best]
    return distances, indices


def inside(squared: np.ndarray, radii: np.ndarray, error: float, queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether squared distances (b, m) are at most the squared radii, which broadcast to them; those at the rim are computed again.

    Parameters
    ----------
    error : float
        Bound on the rounding errors of `squared`.
    queries, points : arrays (b, D), (m, D)
        What the distances are between.
    """
    within = squared <= radii
    rim = np.abs(squared - radii) <= error
    rows, columns = np.nonzero(rim)
    radii = np.broadcast_to(radii, squared.shape)
    for start in range(0, len(rows), _PAIRS):
        i, j = rows[start : start + _PAIRS], columns[start : start + _PAIRS]
        within[i, j] = np.square(queries[i] - points[j]).sum(-1) <= radii[i, j]
    return within


def _smallest(squared: np.ndarray, count: int) -> np.ndarray:
    """Indices (b, count) of the smallest of each row, in no order."""
    if count >= squared.shape[1]:
        return np.broadcast_to(np.arange(squared.shape[1]), squared.shape)
    return np.argpartition(squared, count - 1, axis=1)[:, :count]
