"""Precision, recall, density and coverage: fidelity and variety apart.   n generated, m real samples, D features

Each set is described by balls: around each of its points, as far as its k-th neighbour in its own set. A point at the very rim of a ball
lies inside, as in the evaluator of ADM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .distances import Points, inside, neighbor_distances
from .feature_arrays import feature_pair


@dataclass(frozen=True)
class ManifoldHits:
    """What each sample contributes; the metrics are means of these.

    precise : bool (n,), a generated sample lies in some real ball (k neighbours).
    recalled : bool (m,), a real sample lies in some generated ball (k neighbours).
    balls : int (n,), number of real balls (density_k neighbours) that hold a generated sample.
    covered : bool (m,), the ball of a real sample (density_k neighbours) holds a generated one.
    """

    precise: np.ndarray
    recalled: np.ndarray
    balls: np.ndarray
    covered: np.ndarray
    k: int
    density_k: int

    @property
    def precision(self) -> float:
        return float(self.precise.mean())

    @property
    def recall(self) -> float:
        return float(self.recalled.mean())

    @property
    def density(self) -> float:
        return float(self.balls.mean() / self.density_k)

    @property
    def coverage(self) -> float:
        return float(self.covered.mean())


def manifold_hits(
    features: np.ndarray, reference: np.ndarray, k: int = 3, density_k: int = 5, block_rows: int | None = None
) -> ManifoldHits:
    """Which samples lie in whose balls.

    Parameters
    ----------
    features : array (n, D)
        Of generated images.
    reference : array (m, D)
        Of real images, from the same network.
    k : int
        Neighbours of precision and recall (arXiv:1904.06991).
    density_k : int
        Neighbours of density and coverage (arXiv:2002.09797). If both sets come from one distribution, density is about 1 and
        coverage about 1 - 2^-k.
    block_rows : int, optional
        Rows of distances computed at a time.

    Raises
    ------
    ValueError
        For arrays that do not fit, or sets of k samples or fewer.
    """
    features, reference = feature_pair(features, reference)
    real, generated = Points(reference), Points(features)
    real_radii, real_density_radii = neighbor_distances(real, (k, density_k), block_rows)
    (generated_radii,) = neighbor_distances(generated, (k,), block_rows)
    precise, balls = np.zeros(len(features), dtype=bool), np.zeros(len(features), dtype=np.int64)
    recalled, covered = np.zeros(len(reference), dtype=bool), np.zeros(len(reference), dtype=bool)
    for rows, squared, error in real.blocks(features, block_rows):
        between = error, features[rows], reference
        precise[rows] = inside(squared, real_radii, *between).any(1)
        recalled |= inside(squared, generated_radii[rows, None], *between).any(0)
        held = inside(squared, real_density_radii, *between)
        balls[rows] = held.sum(1)
        covered |= held.any(0)
    return ManifoldHits(precise, recalled, balls, covered, k, density_k)


def precision_recall(features: np.ndarray, reference: np.ndarray, k: int = 3) -> tuple[float, float]:
    """Share of generated samples (n, D) inside the real balls, and of real samples (m, D) inside the generated ones (arXiv:1904.06991)."""
    hits = manifold_hits(features, reference, k, k)
    return hits.precision, hits.recall


def density_coverage(features: np.ndarray, reference: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Mean number of real balls around a generated sample over k, and share of real balls that hold one (arXiv:2002.09797).

    Density can exceed 1, and rewards collapse; read it beside coverage.
    """
    hits = manifold_hits(features, reference, k, k)
    return hits.density, hits.coverage
