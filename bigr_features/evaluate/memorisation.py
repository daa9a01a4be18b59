"""Are generated images copies of training images? A Frechet distance does not see that.   n generated, m training, l test samples"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .distances import Points, nearest
from .feature_arrays import feature_array, feature_pair


@dataclass(frozen=True)
class Memorisation:
    """How near generated images lie to training images, measured by how near unseen real images lie.

    closer_than_test : probability that a generated image lies nearer to its nearest training image than a test image does to its own:
        about 0.5 of a model whose images are as new as test images; near 1 where it copies, near 0 where it is far from real images.
        Interval: 95 % bootstrap over generated images.
    distance_ratio : median distance to the nearest training image, over that of test images.
    copies : share of generated images nearer than the nearest 1 % of test images; 0.01 is expected.
    authentic : share of generated images that lie farther from their nearest training image than that one from its nearest other
        (arXiv:2102.08921).
    nearest : int (n,), the nearest training image of each generated one.
    distances : float (n,), the distance to it.
    """

    closer_than_test: float
    interval: tuple[float, float]
    distance_ratio: float | None
    copies: float
    authentic: float
    nearest: np.ndarray
    distances: np.ndarray


def memorisation(
    features: np.ndarray, train: np.ndarray, test: np.ndarray, resamples: int = 1000, seed: int = 0, block_rows: int | None = None
) -> Memorisation:
    """Nearest training image of generated images against nearest training image of test images, by Euclidean distance of features.

    Parameters
    ----------
    features, train, test : arrays (n, D), (m, D), (l, D)
        Of one network. `train` holds the images that the model was trained on, `test` images of the same source that it never saw.

    Raises
    ------
    ValueError
        For arrays that do not fit.
    """
    features, train = feature_pair(features, train)
    test, train = feature_pair(feature_array(test, "test features"), train)
    points = Points(train)
    squared, indices = nearest(features, points, block_rows)
    distances = np.sqrt(squared)
    test_distances = np.sort(np.sqrt(nearest(test, points, block_rows)[0]))
    found, place = np.unique(indices, return_inverse=True)
    own = np.sqrt(_nearest_other(points, found, block_rows))[place]
    count = len(test_distances)
    farther = count - np.searchsorted(test_distances, distances, "right")
    equal = count - farther - np.searchsorted(test_distances, distances, "left")
    wins = (farther + 0.5 * equal) / count  # (n,)
    rng = np.random.default_rng(seed)
    drawn = [wins[rng.integers(len(wins), size=len(wins))].mean() for _ in range(resamples)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    middle = float(np.median(test_distances))
    return Memorisation(
        closer_than_test=float(wins.mean()),
        interval=(float(low), float(high)),
        distance_ratio=float(np.median(distances)) / middle if middle > 0 else None,
        copies=float((distances < np.quantile(test_distances, 0.01)).mean()),
        authentic=float((distances > own).mean()),
        nearest=indices,
        distances=distances,
    )


def _nearest_other(points: Points, indices: np.ndarray, block_rows: int | None) -> np.ndarray:
    """Squared distance (k,) of some of the points to the nearest other one."""
    found = np.empty(len(indices))
    chosen = points.points[indices]
    for rows, squared, _ in points.blocks(chosen, block_rows):
        squared[np.arange(rows.stop - rows.start), indices[rows]] = np.inf
        best = squared.argmin(1)
        found[rows] = points.pairs(chosen[rows], best[:, None])[:, 0]
    return found
