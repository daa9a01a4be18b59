"""k nearest neighbours on frozen features.   n samples, q queries, D features, C classes"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from .arrays import BLOCK_BYTES, SelectedRows, check_features, check_features_and_labels, read_blocks
from .devices import checked_device
from .metrics import top_k_correct
from .neighbors import CosineSearch
from .selection import holdout_split
from .whitening import Whitener


class KNNClassifier(ClassifierMixin, BaseEstimator):
    """Similarity-weighted vote of the nearest training samples by cosine: each has weight exp(similarity / temperature).

    The protocol of DINO (arXiv:2104.14294) and DINOv2, exact. Where several k, temperatures or whitenings are given, they are compared on
    held-out training data, with one search for each whitening. Similarities are computed in float32; of equally similar samples the one
    with the lower index counts first.

    Memory: X is read by blocks and kept once, as float32 of unit length, 4 n D bytes (half as much again with `fast`); queries are
    searched and their votes counted in blocks, which with the similarities take less than 0.5 GB whatever the numbers of samples, queries
    and classes. So `fit`, `predict`, `score` and `leave_one_out_accuracy` need no more; `kneighbors` and `predict_proba` need what they
    return, besides.

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
        Whether to shortlist in bfloat16, with the same result; default where the device has instructions for it.
    device : str or torch.device
        Where similarities are computed.

    Attributes
    ----------
    n_neighbors_, temperature_, whiten_ : int, float, float or None
        The chosen values.
    holdout_accuracies_ : array (number of whitenings, number of k, number of temperatures)
        NaN if there was no choice to make.
    classes_ : array (C,)
    """

    def __init__(self, n_neighbors=20, temperature=0.07, whiten=None, holdout=0.2, random_state=0, fast=None, device="cpu"):
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.whiten = whiten
        self.holdout = holdout
        self.random_state = random_state
        self.fast = fast
        self.device = device

    def fit(self, X, y):
        """Choose k and temperature if there is a choice, and keep X (n, D) and y (n,)."""
        checked_device(self.device)
        X, self.classes_, self._labels = check_features_and_labels(self, X, y)
        self._ks, self._temperatures, whitenings = self._settings()
        self.holdout_accuracies_ = np.full((len(whitenings), len(self._ks), len(self._temperatures)), np.nan)
        chosen = 0, 0, 0
        if self.holdout_accuracies_.size > 1:
            training, held_out = holdout_split(self._labels, self.holdout, self.random_state)
            self._check_k(len(training), "training samples that are not held out")
            for i, whitening in enumerate(whitenings):
                self.holdout_accuracies_[i] = self._held_out(X, training, held_out, whitening)
            chosen = np.unravel_index(np.argmax(self.holdout_accuracies_), self.holdout_accuracies_.shape)
        self._check_k(X.shape[0], "training samples")
        self.whiten_, self.n_neighbors_, self.temperature_ = (
            values[place] for values, place in zip((whitenings, self._ks, self._temperatures), chosen, strict=True)
        )
        self._whitener = whitener(self.whiten_, X)
        self._search = self._gallery(X, None, self._whitener)
        return self

    def _gallery(self, X, rows, whitener) -> CosineSearch:
        """The given rows of X (default all), whitened, ready to be searched."""
        gallery = np.empty((X.shape[0] if rows is None else len(rows), X.shape[1]), np.float32)
        for place, block in read_blocks(X, rows):
            gallery[place] = whitener.transform(block)
        return CosineSearch(gallery, self.fast, checked_device(self.device), copy=False)

    def _held_out(self, X, training, held_out, whitening) -> np.ndarray:
        """Held-out accuracies (number of k, number of temperatures); the whitening is that of the training part."""
        fitted = whitener(whitening, SelectedRows(X, training))
        search, labels = self._gallery(X, training, fitted), self._labels[training]
        correct = np.zeros((len(self._ks), len(self._temperatures)))
        for place, block in self._query_blocks(X, held_out):
            found, truth = search.search(fitted.transform(block), max(self._ks)), self._labels[held_out[place]]
            for i, k in enumerate(self._ks):
                for j, temperature in enumerate(self._temperatures):
                    correct[i, j] += (self._votes(*found, k, temperature, labels).argmax(1) == truth).sum()
        return correct / len(held_out)

    def _query_blocks(self, X, rows=None):
        """Blocks of queries, few enough that their neighbours and votes are no larger than a block of features."""
        widest = 8 * max(len(self.classes_), max(self._ks), X.shape[1] // 2)
        return read_blocks(X, rows, block_rows=max(64, BLOCK_BYTES // widest))

    def _found(self, X, k: int) -> Iterator[tuple[slice, tuple[np.ndarray, np.ndarray]]]:
        """(positions, (similarities, indices)) of the neighbours of X, block by block."""
        for place, block in self._query_blocks(X):
            yield place, self._search.search(self._whitener.transform(block), k)

    def kneighbors(self, X, n_neighbors=None):
        """The nearest training samples of X (q, D), best first.

        Returns
        -------
        similarities float32 (q, k), indices int64 (q, k)
        """
        check_is_fitted(self)
        k = self.n_neighbors_ if n_neighbors is None else n_neighbors
        found = [parts for _, parts in self._found(check_features(self, X), k)]
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def predict_proba(self, X):
        """Shares of the votes (q, C)."""
        check_is_fitted(self)
        return self._shares(X, [self.n_neighbors_])[self.n_neighbors_]

    def predict(self, X):
        """Classes (q,)."""
        check_is_fitted(self)
        k, found = self.n_neighbors_, self._found(check_features(self, X), self.n_neighbors_)
        return self.classes_[np.concatenate([self._votes(*parts, k, self.temperature_).argmax(1) for _, parts in found])]

    def predict_proba_each(self, X):
        """Shares of the votes for every k of n_neighbors, from one search: {k: (q, C)}, with the chosen temperature."""
        check_is_fitted(self)
        return self._shares(X, self._ks)

    def _shares(self, X, ks) -> dict[int, np.ndarray]:
        X = check_features(self, X)
        shares = {k: np.empty((X.shape[0], len(self.classes_))) for k in ks}
        for rows, found in self._found(X, max(ks)):
            for k, share in shares.items():
                share[rows] = self._votes(found[0], found[1], k, self.temperature_)
        return shares

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
        known, correct = np.arange(len(self.classes_)), dict.fromkeys(self._ks, 0)
        for place, block in self._query_blocks(gallery):
            similarities, indices = self._search.search(block, max(self._ks) + 1)
            itself = indices == np.arange(place.start, place.stop)[:, None]
            itself[~itself.any(1), -1] = True  # a sample that is not found, for its many copies: the last neighbour is dropped instead
            found = [array[~itself].reshape(len(block), -1) for array in (similarities, indices)]
            for k in self._ks:
                scores = voted_scores(self._votes(*found, k, self.temperature_))
                correct[k] += int(top_k_correct(scores, self._labels[place], known, top).sum())
        return {k: count / len(gallery) for k, count in correct.items()}

    def _votes(self, similarities, indices, k, temperature, labels=None) -> np.ndarray:
        labels = self._labels if labels is None else labels
        # the largest weight is 1 whatever the temperature, so that none overflows
        weights = np.exp((similarities[:, :k] - similarities[:, :1]).astype(np.float64) / temperature)  # (q, k)
        count, classes = len(weights), len(self.classes_)
        cells = np.arange(count)[:, None] * classes + labels[indices[:, :k]]
        votes = np.bincount(cells.ravel(), weights.ravel(), count * classes).reshape(count, classes)
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


def whitener(shrinkage: float | None, features):
    """Whitener fitted to features (n, D), or a transformer that leaves them as they are."""
    return FunctionTransformer() if shrinkage is None else Whitener(shrinkage).fit(features)


def voted_scores(shares: np.ndarray) -> np.ndarray:
    """Shares of votes as scores for top_k_correct: a class that nobody voted for is no guess, however few others there are."""
    return np.where(shares > 0, shares, -np.inf)
