"""Choices on held-out training data: the test set is no part of any."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedShuffleSplit

from .arrays import SelectedRows, SideBySide, is_on_disk

log = logging.getLogger(__name__)
TOGETHER = " + "  # between the names of features side by side
# what our estimators choose themselves
SETTINGS = ("C_", "base_lr_", "n_neighbors_", "temperature_", "whiten_", "num_heads_", "num_queries_", "lr_", "epochs_")


@dataclass(frozen=True)
class Choice:
    """The best of several candidates on held-out training data.

    Parameters
    ----------
    name : str
    estimator : classifier
        Of that candidate, fitted on all training data.
    rows : dict
        For every candidate: held-out accuracy, number of features, and the settings that its estimator chose.
    """

    name: str
    estimator: Any
    rows: dict[str, dict]


def choose(candidates: Mapping[str, tuple], y: np.ndarray, holdout: float = 0.2, seed: int = 0) -> Choice:
    """Compare features and classifiers on one and the same held-out part of the training data.

    Parameters
    ----------
    candidates : mapping of str to (estimator, X)
        An estimator that itself chooses on held-out data (`holdout_accuracies_`) is given this split; any other is fitted as a clone on
        the training part and scored on the rest.
    y : array (n,)
    holdout, seed : share and seed of the split

    Raises
    ------
    ValueError
        If there is no candidate, or a class is too small to be held out.
    """
    if not candidates:
        raise ValueError("there are no candidates to choose from.")
    y = np.asarray(y)
    rows, best, fitted = dict[str, dict](), "", None
    for name, (estimator, X) in candidates.items():
        parameters = estimator.get_params()
        shared = {key: value for key, value in (("holdout", holdout), ("random_state", seed)) if key in parameters}
        estimator = clone(estimator).set_params(**shared).fit(X, y)
        accuracies = getattr(estimator, "holdout_accuracies_", np.array([np.nan]))
        if np.isfinite(accuracies).any():
            accuracy = float(np.nanmax(accuracies))
        else:
            accuracy = _held_out_accuracy(estimator, X, y, holdout, seed)
        settings = {key.rstrip("_"): getattr(estimator, key) for key in SETTINGS if hasattr(estimator, key)}
        rows[name] = {"holdout_accuracy": accuracy, "features": int(np.prod(X.shape[1:])), **settings}
        log.info("%-28s held out %.2f %%  %s", name, 100 * accuracy, settings)
        if fitted is None or accuracy > rows[best]["holdout_accuracy"]:
            best, fitted = name, estimator  # the others are let go: each may hold a copy of its features
    return Choice(best, fitted, rows)


def choose_together(
    candidates: Mapping[str, tuple], y: np.ndarray, holdout: float = 0.2, seed: int = 0, most: int = 3, single: Choice | None = None
) -> Choice:
    """Features side by side, added one after another as long as the best addition raises the held-out accuracy (forward selection).

    Parameters
    ----------
    candidates, y, holdout, seed : as `choose`
        One estimator for all candidates.
    most : int
        Largest number of features side by side, 2 or more.
    single : Choice, optional
        What `choose` gave of these candidates, if it is known.

    Returns
    -------
    Choice
        Its name joins those of the features by " + "; rows holds the single features and every combination that was tried.
    """
    if most < 2:
        raise ValueError(f"most={most}; expected 2 or more features side by side.")
    best = choose(candidates, y, holdout, seed) if single is None else single
    rows = dict(best.rows)
    while len(chosen := best.name.split(TOGETHER)) < most:
        wider = {
            TOGETHER.join([*chosen, name]): (estimator, SideBySide([candidates[part][1] for part in (*chosen, name)]))
            for name, (estimator, _) in candidates.items()
            if name not in chosen
        }
        if not wider:
            break
        found = choose(wider, y, holdout, seed)
        rows |= found.rows
        if found.rows[found.name]["holdout_accuracy"] <= best.rows[best.name]["holdout_accuracy"]:
            break
        best = found
    return Choice(best.name, best.estimator, rows)


def _held_out_accuracy(estimator, X, y: np.ndarray, holdout: float, seed: int) -> float:
    training, held_out = holdout_split(y, holdout, seed)
    ours = type(estimator).__module__.startswith(__package__) and is_on_disk(X)  # others want arrays in memory
    parts = [SelectedRows(X, rows) if ours else np.asarray(X[rows]) for rows in (training, held_out)]
    probe = clone(estimator).fit(parts[0], y[training])
    return float(probe.score(parts[1], y[held_out]))


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
