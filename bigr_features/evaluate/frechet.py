"""How close two sets of pictures are, from features of any network.   n samples, D features

Functions of arrays, computed in float64. Numbers depend on the network and on n; only those of the same network, the same reference and
the same n can be compared. None of them is comparable with published ImageNet FIDs unless features and reference are the published ones.
"""

from __future__ import annotations

import numpy as np


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and unbiased covariance (D, D), float64, of features (n, D).

    Raises
    ------
    ValueError
        For fewer than 2 samples, another shape, or values that are not finite.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2 or features.shape[1] < 1:
        raise ValueError(f"features have shape {features.shape}; expected (n, D) with n of 2 or more.")
    if not np.isfinite(features).all():
        raise ValueError("features hold NaN or infinite values; check the network and its input.")
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(mean: np.ndarray, covariance: np.ndarray, other_mean: np.ndarray, other_covariance: np.ndarray) -> float:
    """Squared Frechet (2-Wasserstein) distance of two Gaussians: |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2))  (FID, arXiv:1706.08500).

    The trace of the root is the sum of the singular values of S^(1/2) S'^(1/2), so singular covariances (n <= D) need no correction.

    Parameters
    ----------
    mean, other_mean : arrays (D,)
    covariance, other_covariance : arrays (D, D), symmetric, positive semidefinite

    Returns
    -------
    float, 0 or more, in squared feature units

    Raises
    ------
    ValueError
        If shapes do not fit, or a covariance is not symmetric and positive semidefinite.
    """
    mean, other_mean = np.asarray(mean, dtype=np.float64), np.asarray(other_mean, dtype=np.float64)
    covariance, other_covariance = np.asarray(covariance, dtype=np.float64), np.asarray(other_covariance, dtype=np.float64)
    shapes = mean.shape, covariance.shape, other_mean.shape, other_covariance.shape
    dim = mean.shape[0] if mean.ndim == 1 else 0
    if shapes != ((dim,), (dim, dim), (dim,), (dim, dim)) or dim == 0:
        raise ValueError(f"shapes {shapes} do not fit; expected means (D,) and covariances (D, D) of the same D.")
    overlap = np.linalg.svd(_root(covariance) @ _root(other_covariance), compute_uv=False).sum()
    distance = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * overlap
    return float(max(distance, 0.0))


def frechet_feature_distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to two feature arrays, (n, D) and (m, D)."""
    return frechet_distance(*moments(features), *moments(reference))


def frechet_interval(
    features: np.ndarray, reference: np.ndarray, level: float = 0.95, resamples: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Interval of the Frechet distance around its estimate, from bootstrap resamples of `features`; the reference is held fixed.

    Resampling with replacement lowers the rank and raises the distance; so the spread of the resamples about their own mean is laid around
    the distance of the whole set.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}; expected a number between 0 and 1.")
    rng = np.random.default_rng(seed)
    features, fixed = np.asarray(features, dtype=np.float64), moments(reference)
    drawn = [frechet_distance(*moments(features[rng.integers(len(features), size=len(features))]), *fixed) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - np.mean(drawn)
    whole = frechet_distance(*moments(features), *fixed)
    return float(max(whole + low, 0.0)), float(whole + high)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semidefinite matrix."""
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-12 * max(1.0, np.abs(covariance).max())):
        raise ValueError("a covariance is not symmetric; give what `moments` or np.cov gives.")
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if values[0] < -1e-8 * max(values[-1], 1e-300):
        raise ValueError(f"a covariance has the eigenvalue {values[0]:.3g}; expected none below 0.")
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
