"""How close two sets of pictures are, from features of any network.   n samples, D features

Functions of arrays, computed in float64. Numbers depend on the network and on n; only those of the same network, the same reference and
the same n can be compared. None of them is comparable with published ImageNet FIDs unless features and reference are the published ones.
"""

from __future__ import annotations

import numpy as np

from .feature_arrays import feature_array, rows_per_block

SAMPLES_PER_FEATURE = 2  # below it, the distance is mostly bias, and refused


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and unbiased covariance (D, D), float64, of features (n, D); read in blocks of rows.

    Raises
    ------
    ValueError
        For fewer than 2 samples, another shape, or values that are not finite.
    """
    return _weighted_moments(feature_array(features))


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
        If shapes do not fit, values are not finite, or a covariance is not symmetric and positive semidefinite.
    """
    mean, other_mean = np.asarray(mean, dtype=np.float64), np.asarray(other_mean, dtype=np.float64)
    covariance, other_covariance = np.asarray(covariance, dtype=np.float64), np.asarray(other_covariance, dtype=np.float64)
    shapes = mean.shape, covariance.shape, other_mean.shape, other_covariance.shape
    dim = mean.shape[0] if mean.ndim == 1 else 0
    if shapes != ((dim,), (dim, dim), (dim,), (dim, dim)) or dim == 0:
        raise ValueError(f"shapes {shapes} do not fit; expected means (D,) and covariances (D, D) of the same D.")
    if not all(np.isfinite(part).all() for part in (mean, covariance, other_mean, other_covariance)):
        raise ValueError("a mean or covariance holds NaN or infinite values; give what `moments` gives.")
    overlap = np.linalg.svd(_root(covariance) @ _root(other_covariance), compute_uv=False).sum()
    distance = ((mean - other_mean) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * overlap
    return float(max(distance, 0.0))


def frechet_feature_distance(features: np.ndarray, reference: np.ndarray, *, few_samples: bool = False) -> float:
    """Frechet distance of the Gaussians fitted to two feature arrays, (n, D) and (m, D).

    Parameters
    ----------
    few_samples : bool
        Compute it also from fewer than 2 D samples, where bias is most of it.

    Raises
    ------
    ValueError
        For fewer than 2 D samples in either array, unless asked; with the bias to expect.
    """
    ours, theirs = moments(features), moments(reference)
    if not few_samples:
        check_sample_count(len(features), len(reference), theirs[1])
    return frechet_distance(*ours, *theirs)


def check_sample_count(n: int, m: int | None, covariance: np.ndarray) -> None:
    """Refuse a Frechet distance of n samples from a reference of m whose covariance is (D, D), where bias would be most of it.

    Raises
    ------
    ValueError
        If n or m is below 2 D, naming the expected bias.
    """
    dim = len(covariance)
    fewest = n if m is None else min(n, m)
    if fewest < SAMPLES_PER_FEATURE * dim:
        bias = expected_bias(covariance, n, m)
        raise ValueError(
            f"{fewest} samples are too few for the Frechet distance of {dim} features: about {bias:.4g} of it would be bias "
            f"({n} samples{'' if m is None else f', {m} of the reference'}). Give {SAMPLES_PER_FEATURE * dim} or more, take a network with "
            "fewer features or KID, which has no bias, or ask for few samples to be allowed and compare at equal n only."
        )


def expected_bias(covariance: np.ndarray, n: int, m: int | None = None) -> float:
    """How far the Frechet distance of n samples lies above 0 if they come from the Gaussian that the m samples of the reference come from.

    To first order in 1/n and 1/m: (1/n + 1/m) (tr S + 1/2 sum_ij l_i l_j (1 + [i = j]) / (l_i + l_j)), l the eigenvalues of S. The first
    term is the error of the means, the second that of the covariances in the Bures metric.

    Parameters
    ----------
    covariance : array (D, D)
        That of the reference.
    n, m : int
        m None: the reference's Gaussian is known exactly.
    """
    values = np.linalg.eigvalsh(covariance).clip(min=0)
    values = values[values > 1e-14 * max(values.max(initial=0.0), 1e-300)]
    if not len(values):
        return 0.0
    pairs = (values[:, None] * values[None]) / (values[:, None] + values[None])
    second = 0.5 * (pairs.sum() + np.trace(pairs))
    return float((1 / n + (1 / m if m else 0)) * (values.sum() + second))


def covariance_rank(covariance: np.ndarray) -> int:
    """Number of directions in which the features vary at all."""
    values = np.linalg.eigvalsh(np.asarray(covariance, dtype=np.float64))
    return int((values > len(values) * np.finfo(np.float64).eps * max(values[-1], 1e-300)).sum())


def frechet_interval(
    features: np.ndarray,
    reference: np.ndarray | tuple[np.ndarray, np.ndarray],
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of the Frechet distance around its estimate, from bootstrap resamples of `features`; the reference is held fixed.

    Resampling with replacement lowers the rank and raises the distance; so the spread of the resamples about their own mean is laid around
    the distance of the whole set.

    Parameters
    ----------
    features : array (n, D)
    reference : array (m, D), or its mean (D,) and covariance (D, D)
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}; expected a number between 0 and 1.")
    rng = np.random.default_rng(seed)
    features, fixed = feature_array(features), reference if isinstance(reference, tuple) else moments(reference)
    even = np.full(len(features), 1 / len(features))
    drawn = [frechet_distance(*_weighted_moments(features, rng.multinomial(len(features), even)), *fixed) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - np.mean(drawn)
    whole = frechet_distance(*moments(features), *fixed)
    return float(max(whole + low, 0.0)), float(whole + high)


class RunningMoments:
    """Mean and unbiased covariance of rows that come block by block; relative to the first row, so that large means cost no digits."""

    def __init__(self):
        self.count = 0

    def update(self, block: np.ndarray, counts: np.ndarray | None = None) -> None:
        """Add rows (b, D), finite; with `counts` (b,), each so often."""
        block = np.asarray(block, dtype=np.float64)
        if not self.count:
            self._first = block[0].copy()
            self._total, self._products = np.zeros(block.shape[1]), np.zeros((block.shape[1],) * 2)
        block = block - self._first
        weighted = block if counts is None else block * counts[:, None]
        self._total += weighted.sum(0)
        self._products += weighted.T @ block
        self.count += len(block) if counts is None else int(counts.sum())

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (D,) and covariance (D, D)."""
        if self.count < 2:
            raise ValueError(f"{self.count} samples have no covariance; give 2 or more.")
        covariance = (self._products - np.outer(self._total, self._total) / self.count) / (self.count - 1)
        return self._first + self._total / self.count, (covariance + covariance.T) / 2


def _weighted_moments(features: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    running, step = RunningMoments(), rows_per_block(features.shape[1])
    for start in range(0, len(features), step):
        running.update(features[start : start + step], None if counts is None else counts[start : start + step])
    return running.result()


def _root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root of a positive semidefinite matrix. Eigenvalues within rounding of 0 are 0: their roots would not be small."""
    if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-12 * max(1.0, np.abs(covariance).max())):
        raise ValueError("a covariance is not symmetric; give what `moments` or np.cov gives.")
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if values[0] < -1e-8 * max(values[-1], 1e-300):
        raise ValueError(f"a covariance has the eigenvalue {values[0]:.3g}; expected none below 0.")
    rounding = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    return (vectors * np.sqrt(np.where(values > rounding, values, 0.0))) @ vectors.T
