"""Which images a limit leaves: a seeded draw from every class.   n images, m of them drawn"""

from __future__ import annotations

import numpy as np


def check_limit(limit: int | None) -> None:
    """Raise ValueError for a limit below 1."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}; expected 1 or more images.")


def drawn(labels: np.ndarray | None, count: int, limit: int, seed: int = 0) -> np.ndarray:
    """Positions (m,), rising, of images drawn from `count`.

    Parameters
    ----------
    labels : int64 array (n,), optional
        Each class gives its share of the limit, and one image at least where the limit allows; images without a label (-1) come only
        when the labelled ones do not suffice.
    count, limit : int
        n, and the most that are drawn. All are taken if they are no more.
    seed : int
        A larger limit with the same seed takes the same images of each class and more of them.

    Raises
    ------
    ValueError
        For a limit below 1.
    """
    check_limit(limit)
    if limit >= count:
        return np.arange(count)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(count)
    if labels is None or not (labels >= 0).any():
        return np.sort(shuffled[:limit])
    own = labels[shuffled]
    unlabelled = shuffled[own < 0]
    classes, sizes = np.unique(labels[labels >= 0], return_counts=True)
    shares = _shares(sizes, min(limit, sizes.sum()), rng)
    parts = [shuffled[own == label][:share] for label, share in zip(classes, shares, strict=True)]
    return np.sort(np.concatenate([*parts, unlabelled[: limit - shares.sum()]]))


def _shares(sizes: np.ndarray, limit: int, rng: np.random.Generator) -> np.ndarray:
    """How many of each class: in proportion to their sizes, at least one if there are no more classes than the limit."""
    if limit <= len(sizes):
        shares = np.zeros(len(sizes), dtype=np.int64)
        shares[rng.permutation(len(sizes))[:limit]] = 1
        return shares
    exact = sizes * (limit / sizes.sum())
    shares = np.maximum(np.floor(exact).astype(np.int64), 1)
    while shares.sum() != limit:  # one at a time, from or to the class that is farthest from its share
        if shares.sum() < limit:
            shares[np.where(shares < sizes, exact - shares, -np.inf).argmax()] += 1
        else:
            shares[np.where(shares > 1, shares - exact, -np.inf).argmax()] -= 1
    return shares
