"""k nearest neighbours on frozen features.   n samples, q queries, D features, C classes"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from .arrays import check_features, check_features_and_labels, read_blocks
from .metrics import top_k_correct
from .neighbors import CosineSearch
from .selection import holdout_split
from .whitening import Whitener


class KNNClassifier(ClassifierMixin, BaseEstimator):
    """Similarity-weighted vote of the nearest training samples by cosine: each has weight exp(similarity / temperature).

    The protocol of DINO (arXiv:2104.14294) and DINOv2, exact. Where several k, temperatures or whitenings are given, they are compared on
    held-out training data, with one search for each whitening. Similarities are computed in float32; of equally similar samples the one
    with the lower index counts first.

    Parameters
    ----------
    n_neighbors : int or tuple of int
    temperature : float or tuple of float
    whiten : None, float, or tuple of these
        Shrinkage of a `Whitener` that is fitted to the training samples and applied before the search; None leaves features as they are.
    holdout : float
        Share of the training data, drawn by class, on which settings are chosen; in the end all of it votes.
    random_state : int
        Seed of the held-out split.
    fast : bool, optional
        Whether to shortlist in bfloat16, with the same result; default where the processor has instructions for it.

    Attributes
    ----------
    n_neighbors_, temperature_, whiten_ : int, float, float or None
        The chosen values.
    holdout_accuracies_ : array (number of whitenings, number of k, number of temperatures)
        NaN if there was no choice to make.
    classes_ : array (C,)
    """

    def __init__(self, n_neighbors=20, temperature=0.07, whiten=None, holdout=0.2, random_state=0, fast=None):
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.whiten = whiten
        self.holdout = holdout
        self.random_state = random_state
        self.fast = fast

    def fit(self, X, y):
        """Choose k and temperature if there is a choice, and keep X (n, D) and y (n,)."""
        X, self.classes_, self._labels = check_features_and_labels(self, X, y)
        self._ks, self._temperatures, whitenings = self._settings()
        self.holdout_accuracies_ = np.full((len(whitenings), len(self._ks), len(self._temperatures)), np.nan)
        features = np.concatenate([block for _, block in read_blocks(X)])
        chosen = 0, 0, 0
        if self.holdout_accuracies_.size > 1:
            training, held_out = holdout_split(self._labels, self.holdout, self.random_state)
            self._check_k(len(training), "training samples that are not held out")
            for i, whitening in enumerate(whitenings):
                self.holdout_accuracies_[i] = self._held_out(features, training, held_out, whitening)
            chosen = np.unravel_index(np.argmax(self.holdout_accuracies_), self.holdout_accuracies_.shape)
        self._check_k(len(features), "training samples")
        self.whiten_, self.n_neighbors_, self.temperature_ = (
            values[place] for values, place in zip((whitenings, self._ks, self._temperatures), chosen, strict=True)
        )
        self._whitener = whitener(self.whiten_, features)
        self._search = CosineSearch(self._whitener.transform(features), self.fast)
        return self

    def _held_out(self, features, training, held_out, whitening) -> np.ndarray:
        """Held-out accuracies (number of k, number of temperatures); the whitening is that of the training part."""
        transform = whitener(whitening, features[training]).transform
        found = CosineSearch(transform(features[training]), self.fast).search(transform(features[held_out]), max(self._ks))
        labels = self._labels[training]
        votes = [[self._votes(*found, k, temperature, labels) for temperature in self._temperatures] for k in self._ks]
        return np.array([[(share.argmax(1) == self._labels[held_out]).mean() for share in row] for row in votes])

    def kneighbors(self, X, n_neighbors=None):
        """The nearest training samples of X (q, D), best first.

        Returns
        -------
        similarities float32 (q, k), indices int64 (q, k)
        """
        check_is_fitted(self)
        k = self.n_neighbors_ if n_neighbors is None else n_neighbors
        transform = self._whitener.transform
        found = [self._search.search(transform(block), k) for _, block in read_blocks(check_features(self, X))]
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def predict_proba(self, X):
        """Shares of the votes (q, C)."""
        check_is_fitted(self)
        return self._votes(*self.kneighbors(X), self.n_neighbors_, self.temperature_)

    def predict(self, X):
        """Classes (q,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def predict_proba_each(self, X):
        """Shares of the votes for every k of n_neighbors, from one search: {k: (q, C)}, with the chosen temperature."""
        check_is_fitted(self)
        found = self.kneighbors(X, max(self._ks))
        return {k: self._votes(*found, k, self.temperature_) for k in self._ks}

    def leave_one_out_accuracy(self, top=1):
        """Accuracy of the training samples, none of which finds itself, for every k of n_neighbors: {k: accuracy}.

        Parameters
        ----------
        top : int
            The true class counts if it is among this many with the most votes; a class without votes never does.
        """
        check_is_fitted(self)
        gallery = self._search.gallery
        self._check_k(len(gallery) - 1, "other training samples")
        similarities, indices = self._search.search(gallery, max(self._ks) + 1)
        itself = indices == np.arange(len(gallery))[:, None]
        itself[~itself.any(1), -1] = True  # behind so many equal ones that it was not found: the last of them leaves instead
        found = [array[~itself].reshape(len(gallery), -1) for array in (similarities, indices)]
        known = np.arange(len(self.classes_))
        votes = {k: self._votes(*found, k, self.temperature_) for k in self._ks}
        return {k: float(top_k_correct(voted_scores(share), self._labels, known, top).mean()) for k, share in votes.items()}

    def _votes(self, similarities, indices, k, temperature, labels=None) -> np.ndarray:
        labels = self._labels if labels is None else labels
        # the largest weight is 1 whatever the temperature, so that none overflows
        weights = np.exp((similarities[:, :k] - similarities[:, :1]).astype(np.float64) / temperature)  # (q, k)
        votes = np.zeros((len(weights), len(self.classes_)))
        np.add.at(votes, (np.arange(len(weights))[:, None], labels[indices[:, :k]]), weights)
        return votes / votes.sum(1, keepdims=True)

    def _settings(self) -> tuple[list[int], list[float], list[float | None]]:
        ks, temperatures = np.atleast_1d(self.n_neighbors), np.atleast_1d(np.asarray(self.temperature, dtype=float))
        if not len(ks) or ks.dtype.kind not in "iu" or (ks < 1).any():
            raise ValueError(f"n_neighbors={self.n_neighbors!r}; expected one or more integers of 1 or more.")
        if not len(temperatures) or not (np.isfinite(temperatures) & (temperatures > 0)).all():
            raise ValueError(f"temperature={self.temperature!r}; expected one or more positive numbers.")
        whitenings = list(self.whiten) if isinstance(self.whiten, tuple | list) else [self.whiten]
        if not whitenings or not all(value is None or (np.isfinite(value) and value >= 0) for value in whitenings):
            raise ValueError(f"whiten={self.whiten!r}; expected None, a shrinkage of 0 or more, or several of these.")
        return ks.tolist(), temperatures.tolist(), whitenings

    def _check_k(self, available: int, what: str) -> None:
        if max(self._ks) > available:
            raise ValueError(f"n_neighbors={max(self._ks)}, but there are {available} {what}; ask for 1 to {available} neighbours.")


def whitener(shrinkage: float | None, features: np.ndarray):
    """Whitener fitted to features (n, D), or a transformer that leaves them as they are."""
    return FunctionTransformer() if shrinkage is None else Whitener(shrinkage).fit(features)


def voted_scores(shares: np.ndarray) -> np.ndarray:
    """Shares of votes as scores for top_k_correct: a class that nobody voted for is no guess, however few others there are."""
    return np.where(shares > 0, shares, -np.inf)
