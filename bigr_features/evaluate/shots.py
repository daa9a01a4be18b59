"""Few-shot evaluation: a classifier trained on n samples of each class, for several draws of them."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone


def draw_per_class(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Rows (ascending) of `shots` samples of each class, without replacement.

    Raises
    ------
    ValueError
        Naming the classes that have fewer samples.
    """
    labels = np.asarray(labels)
    if shots < 1:
        raise ValueError(f"shots={shots}; expected 1 or more samples of each class.")
    classes, counts = np.unique(labels, return_counts=True)
    short = [f"{name} ({count})" for name, count in zip(classes, counts, strict=True) if count < shots]
    if short:
        raise ValueError(
            f"shots={shots}, but {len(short)} of {len(classes)} classes have fewer samples: {', '.join(short[:8])}; "
            f"ask for at most {counts.min()}."
        )
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.choice(np.flatnonzero(labels == name), shots, replace=False) for name in classes]))


def few_shot(estimator, X, y, X_test, y_test, shots=(1, 2, 4, 8, 16), draws: int = 5, seed: int = 0) -> dict[int, dict]:
    """Accuracy on the test samples after training on few.

    Parameters
    ----------
    estimator : scikit-learn classifier
        Fitted as a clone for every draw. With few samples there are none to hold out, so its settings should be fixed.
    X, y, X_test, y_test : arrays (n, D), (n,), (m, D), (m,)
    shots : sequence of int
        Samples of each class; all are checked before anything is trained.
    draws : int
        Different draws for each number of shots, the same ones for every estimator.

    Returns
    -------
    dict
        For each number of shots: accuracies of the draws, their mean, and their standard deviation (None for one draw).
    """
    if draws < 1:
        raise ValueError(f"draws={draws}; expected 1 or more.")
    rows = {shot: [draw_per_class(y, shot, seed + draw) for draw in range(draws)] for shot in shots}
    y, result = np.asarray(y), {}
    for shot, samples in rows.items():
        accuracies = [float(clone(estimator).fit(np.asarray(X[row]), y[row]).score(X_test, y_test)) for row in samples]
        spread = float(np.std(accuracies, ddof=1)) if draws > 1 else None
        result[shot] = {"accuracies": accuracies, "mean": float(np.mean(accuracies)), "std": spread}
    return result
