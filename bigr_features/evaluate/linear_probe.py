"""Linear probe: a linear classifier on frozen features.   n samples, D features, C classes"""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from .arrays import StandardizedRows, check_features, check_features_and_labels, read_blocks, rows_per_block, standardized
from .devices import checked_device, has_float64
from .logistic import LogisticFit, fit_path
from .logits import LogitClassifier
from .selection import holdout_split

log = logging.getLogger(__name__)
ROUNDING_GAP = 1e-3  # a fit that rounding stopped this close to its minimum, relative to the objective, is not worth a warning


class LinearProbe(LogitClassifier, BaseEstimator):
    """Multinomial logistic regression on standardised features, its regularisation chosen on held-out training data.

    Solves what scikit-learn's StandardScaler and LogisticRegression(C) solve, for a path of C in a fraction of the time. Memory maps and
    columns of a feature store are read by blocks, so X may be larger than memory.

    Parameters
    ----------
    Cs : tuple of float
        Inverse regularisation strengths to choose from, as in scikit-learn's LogisticRegression. One value skips the choice.
    holdout : float
        Share of the training data, drawn by class, on which C is chosen; the final fit uses all of it.
    max_iter : int
        L-BFGS iterations for each C.
    tol : float
        A fit ends when its objective is estimated to lie within this fraction of the minimum (or of a hundredth of the objective without
        features, if that is more), and of what the features explain.
    random_state : int
        Seed of the held-out split.
    max_bytes : int
        Standardised features are kept in memory if they take at most this; otherwise X is read again in each iteration. Beside them,
        and what is returned, memory is bounded: blocks of some 32 MB of rows or logits, and matrices (D, D) and (C, D).
    device : str or torch.device
        Where to fit and to predict. float64 features are computed in float32 on a device that lacks float64.

    Attributes
    ----------
    C_ : float
        The chosen value.
    holdout_accuracies_ : array (len(Cs),)
        Accuracy on the held-out part for each of Cs; NaN if there was no choice to make.
    classes_ : array (C,)
    coef_, intercept_ : arrays (C, D), (C,)
        In units of X; (1, D), (1,) for two classes, as in scikit-learn.
    objective_ : float
        mean cross-entropy + |w|^2 / (2 n C) of the final fit on standardised features, nats.
    n_iter_ : int
        Iterations of the final fit.
    """

    def __init__(
        self,
        Cs=(0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
        holdout=0.2,
        max_iter=200,
        tol=1e-6,
        random_state=0,
        max_bytes=2**32,
        device="cpu",
    ):
        self.Cs = Cs
        self.holdout = holdout
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.max_bytes = max_bytes
        self.device = device

    def fit(self, X, y):
        """Choose C on the held-out part, then fit on all of X (n, D) and y (n,)."""
        device = checked_device(self.device)
        X, self.classes_, labels = check_features_and_labels(self, X, y)
        Cs = np.atleast_1d(np.asarray(self.Cs, dtype=float))
        if Cs.ndim != 1 or not len(Cs) or not (Cs > 0).all():
            raise ValueError(f"Cs={self.Cs!r}; expected one or more positive numbers.")
        self.holdout_accuracies_ = np.full(len(Cs), np.nan)
        where = {"max_bytes": self.max_bytes, "device": device, "widest": len(self.classes_)}
        start, best = None, 0
        if len(Cs) > 1:
            training, held_out = holdout_split(labels, self.holdout, self.random_state)
            part = StandardizedRows(X, training, **where)
            path = self._fit_path(part, labels[training], Cs)
            self.holdout_accuracies_ = _path_accuracies(X, held_out, labels[held_out], part, path)
            best = int(np.argmax(self.holdout_accuracies_))
            start = path[best]
        self.C_ = float(Cs[best])
        rows = StandardizedRows(X, **where)
        if rows.constant.any():
            log.warning("%d of %d features are constant over the training samples and get weight 0.", rows.constant.sum(), X.shape[1])
        if start is not None:
            start = _rescaled(start, part, rows)
        self._fit = self._fit_path(rows, labels, [self.C_], start)[0]
        self._mean, self._scale = rows.mean, rows.scale
        _warn_if_short(self._fit, self.max_iter, self.tol)
        weight, bias = (values.numpy().astype(np.float64) for values in (self._fit.weight, self._fit.bias))
        self.coef_, self.intercept_ = weight / self._scale, bias - (weight / self._scale) @ self._mean
        if len(self.classes_) == 2:
            self.coef_, self.intercept_ = (np.diff(values, axis=0) for values in (self.coef_, self.intercept_))
        self.objective_, self.n_iter_ = self._fit.objective, self._fit.n_iter
        return self

    def _fit_path(self, rows: StandardizedRows, labels: np.ndarray, Cs, start: LogisticFit | None = None) -> list[LogisticFit]:
        return fit_path(rows, labels, len(self.classes_), Cs, max_iter=self.max_iter, tol=self.tol, start=start)

    def _check_queries(self, X):
        return check_features(self, X)

    def _logit_blocks(self, X):
        blocks = _logits(X, None, self._mean, self._scale, self._fit, checked_device(self.device))
        return ((place, logits.cpu().numpy()) for place, logits in blocks)


def _warn_if_short(fit: LogisticFit, max_iter: int, tol: float) -> None:
    """Warn of a fit that ran out of iterations, or that rounding stopped where it matters."""
    where = f"L-BFGS stopped after {fit.n_iter} iterations at C={fit.C:g}"
    if fit.converged:
        return
    if fit.n_iter >= max_iter:
        warnings.warn(f"{where}, short of tol={tol:g}; raise max_iter.", ConvergenceWarning, stacklevel=3)
    elif fit.gap > ROUNDING_GAP * fit.objective:
        share = fit.gap / fit.objective
        warnings.warn(
            f"{where} by rounding, about {share:.1g} of the objective above its minimum; give float64 features.",
            ConvergenceWarning,
            stacklevel=3,
        )


def _path_accuracies(X, rows: np.ndarray, labels: np.ndarray, part: StandardizedRows, path: list[LogisticFit]) -> np.ndarray:
    """Accuracy (len(Cs),) of every fit of the path on the given rows."""
    stacked = replace(path[0], weight=torch.cat([fit.weight for fit in path]), bias=torch.cat([fit.bias for fit in path]))
    correct = np.zeros(len(path))
    for place, logits in _logits(X, rows, part.mean, part.scale, stacked, part.device):
        guesses = logits.unflatten(1, (len(path), -1)).argmax(2).cpu().numpy()  # (m, len(Cs))
        correct += (guesses == labels[place, None]).sum(0)
    return correct / len(rows)


def _logits(X, rows: np.ndarray | None, mean: np.ndarray, scale: np.ndarray, fit: LogisticFit, device: torch.device):
    """(positions, logits (m, classes of the fit) on the device), block by block."""
    dtype = np.float64 if X.dtype == np.float64 and has_float64(device) else np.float32
    precision = torch.float64 if dtype is np.float64 else torch.float32
    weight, bias = (tensor.to(precision).to(device) for tensor in (fit.weight, fit.bias))
    for place, x in read_blocks(X, rows, dtype, rows_per_block(max(weight.shape), dtype)):
        yield place, standardized(x, mean, scale, device) @ weight.T + bias


def _rescaled(fit: LogisticFit, old: StandardizedRows, new: StandardizedRows) -> LogisticFit:
    """The same function of X, for features standardised otherwise."""
    old_weight, bias = fit.weight.numpy(), fit.bias.numpy()
    weight = old_weight / old.scale  # float64
    bias = bias + weight @ (new.mean - old.mean)
    weight, bias = (torch.from_numpy(values.astype(old_weight.dtype)) for values in (weight * new.scale, bias))
    return replace(fit, weight=weight, bias=bias)
