"""Whitening: features whose directions all vary alike.   n samples, D features"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .arrays import check_features, read_blocks


class Whitener(TransformerMixin, BaseEstimator):
    """Rotate centred features to their principal axes and divide each by sqrt(variance + shrinkage x mean variance).

    Cosine similarity weighs directions by their variance, and the streams of a transformer vary most along few of them; whitening lets
    every direction speak (Jegou and Chum 2012, "Negative evidences and co-occurrences in image retrieval"). The shrinkage keeps directions
    of next to no variance from being blown up; a large one leaves centred and rotated features, which cosine sees as merely centred.

    Parameters
    ----------
    shrinkage : float
        0 or more, in units of the mean variance over directions. With 0, directions without variance get weight 0.

    Attributes
    ----------
    mean_ : array (D,)
    projection_ : array (D, D)
        transform(X) = (X - mean_) @ projection_
    """

    def __init__(self, shrinkage=1e-3):
        self.shrinkage = shrinkage

    def fit(self, X, y=None):
        """Learn mean and principal axes of X (n, D), n of 2 or more, in memory or read by blocks; y is not looked at."""
        X = check_features(self, X, reset=True)
        n, num_features = X.shape
        if n < 2:
            raise ValueError(f"X has n_samples={n}; the principal axes of a whitening need 2 samples or more.")
        if not self.shrinkage >= 0:
            raise ValueError(f"shrinkage={self.shrinkage!r}; expected 0 or more.")
        self.mean_ = sum(block.sum(0) for _, block in read_blocks(X, dtype=np.float64)) / n
        covariance = np.zeros((num_features, num_features))
        for _, block in read_blocks(X, dtype=np.float64):  # in double precision, without a copy of all of X in it
            centred = block - self.mean_
            covariance += centred.T @ centred / n
        variances, axes = np.linalg.eigh(covariance)
        variances = np.maximum(variances, 0)
        floor = variances.max() * np.finfo(np.float64).eps * len(variances)
        scale = np.where(variances > floor, variances, 0.0) + self.shrinkage * variances.mean()
        self.projection_ = axes / np.where(scale > 0, np.sqrt(scale), np.inf)
        return self

    def transform(self, X):
        """Whitened features (n, D), of X's precision."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return (X - self.mean_.astype(X.dtype)) @ self.projection_.astype(X.dtype)
