"""Accuracies from class scores.   n samples, C classes"""

from __future__ import annotations

import numpy as np
from sklearn.utils.multiclass import type_of_target

BLOCK_SCORES = 2**22  # compared at a time


def top_k_correct(scores: np.ndarray, labels: np.ndarray, classes: np.ndarray, k: int = 1) -> np.ndarray:
    """Whether the true class is among the k with the highest scores; a class with score -inf is among none.

    Parameters
    ----------
    scores : array (n, C)
        Of equal scores, the class that comes first wins, as in argmax.
    labels : array (n,)
        True classes; one that is not in `classes` is never a hit.
    classes : array (C,)
        Sorted, as in the classes_ of an estimator.
    k : int
        With k of C or more, every class with a score is a hit.

    Returns
    -------
    bool array (n,)
    """
    scores, labels, classes = check_scores(scores, labels, classes)
    if k < 1:
        raise ValueError(f"k={k}; expected 1 or more.")
    correct = np.empty(len(labels), bool)
    step = max(1, BLOCK_SCORES // scores.shape[1])
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        place = np.minimum(np.searchsorted(classes, labels[rows]), len(classes) - 1)
        known = classes[place] == labels[rows]
        true = np.take_along_axis(scores[rows], place[:, None], 1)  # (m, 1)
        before = np.arange(scores.shape[1]) < place[:, None]
        rank = ((scores[rows] > true) | ((scores[rows] == true) & before)).sum(1)
        correct[rows] = known & (rank < k) & (true[:, 0] > -np.inf)
    return correct


def class_accuracies(correct: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> dict[str, float | None]:
    """Accuracy over the samples of each class, None for a class without samples. Classes seen in `labels` only come last."""
    correct, labels, classes = np.asarray(correct), np.asarray(labels), np.asarray(classes)
    names = [*classes, *np.setdiff1d(labels, classes)]
    return {str(name): float(correct[labels == name].mean()) if (labels == name).any() else None for name in names}


def check_scores(scores: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arrays, if they fit one another.

    Raises
    ------
    ValueError
        Naming the shapes, or that the labels are multilabel, or that scores are NaN.
    """
    scores, labels, classes = np.asarray(scores), np.asarray(labels), np.asarray(classes)
    if labels.ndim != 1:
        kind = "multilabel" if type_of_target(labels).startswith("multilabel") else f"of shape {labels.shape}"
        raise ValueError(f"labels are {kind}; expected one class for each sample.")
    if scores.shape != (len(labels), len(classes)) or not len(labels):
        raise ValueError(
            f"scores have shape {scores.shape} for {len(labels)} labels and {len(classes)} classes; expected (n, C) with n > 0."
        )
    if np.isnan(scores).any():
        rows = np.flatnonzero(np.isnan(scores).any(1))
        raise ValueError(f"scores of items {', '.join(map(str, rows[:8]))} are NaN.")
    return scores, labels, classes
