"""Choices on held-out training data: the test set is no part of any."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import StratifiedShuffleSplit


def holdout_split(labels: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows held out, both ascending, each class in the same share.

    Parameters
    ----------
    labels : array (n,)
    share : float
        Held-out share, between 0 and 1.
    seed : int

    Raises
    ------
    ValueError
        If the share is no share, or a class is too small to lie on both sides.
    """
    labels = np.asarray(labels)
    if not 0 < share < 1:
        raise ValueError(f"holdout={share}; expected a share between 0 and 1.")
    _, counts = np.unique(labels, return_counts=True)
    held_out = round(share * len(labels))
    if counts.min() < 2 or held_out < len(counts) or len(labels) - held_out < len(counts):
        raise ValueError(
            f"the smallest of {len(counts)} classes has {counts.min()} of {len(labels)} samples, too few to hold {share:.0%} of "
            "each class out; give more samples, or a single value so that there is nothing to choose."
        )
    split = StratifiedShuffleSplit(1, test_size=held_out, random_state=seed)
    training, held_out_rows = next(split.split(np.zeros((len(labels), 1)), labels))
    return np.sort(training), np.sort(held_out_rows)
