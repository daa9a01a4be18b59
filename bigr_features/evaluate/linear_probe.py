"""Linear probe: a linear classifier on frozen features.   n samples, D features"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data


class LinearProbe(ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression on standardised features, its regularisation chosen on held-out training data.

    Parameters
    ----------
    Cs : tuple of float
        Inverse regularisation strengths to choose from, as in scikit-learn's LogisticRegression. One value skips the choice.
    holdout : float
        Share of the training data, drawn by class, on which C is chosen; the final fit uses all of it.
    max_iter : int
        L-BFGS iterations.
    random_state : int
        Seed of the held-out split.

    Attributes
    ----------
    C_ : float
        The chosen value.
    holdout_accuracies_ : array (len(Cs),)
        Accuracy on the held-out part for each of Cs; NaN if there was no choice to make.
    classes_ : array
    n_iter_ : int
        Iterations of the final fit.
    probe_ : Pipeline
        Fitted StandardScaler and LogisticRegression.
    """

    def __init__(self, Cs=(0.001, 0.01, 0.1, 1.0, 10.0, 100.0), holdout=0.2, max_iter=200, random_state=0):
        self.Cs = Cs
        self.holdout = holdout
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X, y):
        """Choose C on the held-out part, then fit on all of X (n, D) and y (n,)."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y)
        Cs = np.atleast_1d(np.asarray(self.Cs, dtype=float))
        if Cs.ndim != 1 or not len(Cs) or not (Cs > 0).all():
            raise ValueError(f"Cs={self.Cs!r}; expected one or more positive numbers.")
        self.classes_, counts = np.unique(y, return_counts=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}; a classifier needs at least 2 classes.")
        self.holdout_accuracies_ = np.full(len(Cs), np.nan)
        if len(Cs) > 1:
            self.holdout_accuracies_ = self._choose(X, y, Cs, counts)
        self.C_ = float(Cs[0] if len(Cs) == 1 else Cs[np.argmax(self.holdout_accuracies_)])
        self.probe_ = self._fit_one(X, y, self.C_)
        self.n_iter_ = int(self.probe_[-1].n_iter_.max())
        return self

    def _choose(self, X, y, Cs, counts) -> np.ndarray:
        if not 0 < self.holdout < 1:
            raise ValueError(f"holdout={self.holdout}; expected a share between 0 and 1.")
        if counts.min() < 2 or round(self.holdout * len(y)) < len(counts):
            raise ValueError(
                f"the smallest of {len(counts)} classes has {counts.min()} of {len(y)} samples, too few to hold {self.holdout:.0%} of "
                "each class out; give more samples, or a single C."
            )
        split = StratifiedShuffleSplit(1, test_size=self.holdout, random_state=self.random_state)
        fit, held_out = next(split.split(X, y))
        return np.array([self._fit_one(X[fit], y[fit], C).score(X[held_out], y[held_out]) for C in Cs])

    def _fit_one(self, X, y, C) -> Pipeline:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=self.max_iter))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return probe.fit(X, y)

    def predict(self, X):
        """Classes (n,)."""
        check_is_fitted(self)
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]

    def predict_proba(self, X):
        """Class probabilities (n, number of classes)."""
        check_is_fitted(self)
        return self.probe_.predict_proba(validate_data(self, X, dtype=[np.float32, np.float64], reset=False))
