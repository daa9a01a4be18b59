"""Kernel distance (KID): an unbiased measure of how close two sets are, also of few samples.   n, m samples, D features"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .feature_arrays import feature_pair


@dataclass(frozen=True)
class KernelDistance:
    """mean, std : over the subsets. interval : of the mean, 95 %, from the generated samples; the reference is held fixed."""

    mean: float
    std: float
    interval: tuple[float, float]
    subsets: int
    subset_size: int


def kernel_distance(
    features: np.ndarray, reference: np.ndarray, subsets: int = 100, subset_size: int = 1000, seed: int = 2020, resamples: int = 1000
) -> KernelDistance:
    """Unbiased squared MMD with the kernel (x.y / D + 1)^3, mean over random subsets (KID, arXiv:1801.01401).

    It may be slightly negative. Subsets are drawn as in torch-fidelity, whose numbers it gives for the same seed.

    Parameters
    ----------
    features, reference : arrays (n, D), (m, D)
    subsets, subset_size : int
        How many subsets, and samples of each set in one.
    resamples : int
        Bootstrap resamples of the interval. They weigh generated samples by their share in the distance (its first-order influence), as
        resampling them whole would count pairs of copies.

    Raises
    ------
    ValueError
        For arrays that do not fit, or subsets larger than a set.
    """
    features, reference = feature_pair(features, reference)
    n, m = len(features), len(reference)
    if not 2 <= subset_size <= min(n, m):
        raise ValueError(
            f"subset_size={subset_size}, but there are {n} samples and {m} of the reference; give 2 to {min(n, m)}, the same for all "
            "that is compared."
        )
    if subsets < 1:
        raise ValueError(f"subsets={subsets}; expected 1 or more.")
    rng = np.random.RandomState(seed)  # the generator of torch-fidelity, for its subsets
    found, influence, times = np.empty(subsets), np.zeros(n), np.zeros(n)
    for i in range(subsets):
        ours = rng.choice(n, subset_size, replace=False)
        theirs = rng.choice(m, subset_size, replace=False)
        within, between, within_reference = _row_means(features[ours], reference[theirs])
        found[i] = within.mean() + within_reference - 2 * between.mean()
        np.add.at(influence, ours, 2 * (within - between))
        np.add.at(times, ours, 1)
    shares = influence[times > 0] / times[times > 0]
    draws = np.random.default_rng(seed)
    drawn = np.array([shares[draws.integers(len(shares), size=len(shares))].mean() for _ in range(resamples)]) - shares.mean()
    low, high = np.quantile(drawn, [0.025, 0.975])
    mean = float(found.mean())
    return KernelDistance(mean, float(found.std()), (mean + float(low), mean + float(high)), subsets, subset_size)


def _row_means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean kernel of each x to the other x (s,), to the y (s,), and of all pairs of different y."""
    size = len(x)

    def among(z):
        products = _kernel(z, z)
        return (products.sum(1) - products.diagonal()) / (size - 1)

    return among(x), _kernel(x, y).mean(1), float(among(y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    products = x @ y.T / x.shape[1] + 1
    return products * products * products
