"""How far a picture can be believed: the same scores where the features live and in the plane.   n items, D dimensions

A plot can invent clusters. t-SNE of 100 faint groups reached a silhouette of 0.93 in the picture where the features had 0.12, so
every score here is taken in both spaces.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from .projection import scaled


@dataclass(frozen=True)
class SpaceScores:
    """Scores of labelled points in one space; None where they say nothing (one class, or no class with two items).

    silhouette : mean silhouette coefficient in [-1, 1], Euclidean.
    purity : mean share of an item's k nearest neighbours that are of its class, in [0, 1].
    """

    silhouette: float | None
    purity: float | None


@dataclass(frozen=True)
class ClusterScores:
    """Scores of a picture.

    features, plane : SpaceScores in feature space and in the plane; None without labels.
    trustworthiness : in [0, 1], 1 if neighbours in the plane are neighbours in feature space (Venna & Kaski 2001).
    chance : purity that labels without any structure would give.
    n_neighbors : k of purity and trustworthiness.
    n_items, n_scored, seed : items there are, items drawn for the scores, and the seed of the draw. Neighbours of the drawn items are
        sought among all items for purity, among the drawn ones for trustworthiness and silhouette.
    """

    features: SpaceScores | None
    plane: SpaceScores | None
    trustworthiness: float
    chance: float | None
    n_neighbors: int
    n_items: int
    n_scored: int
    seed: int

    def to_dict(self) -> dict:
        """Plain numbers, for JSON."""
        return asdict(self)

    def pairs(self) -> list[tuple[str, str, str]]:
        """Name and two digits in feature space and in the plane, of purity and silhouette as far as there are labels."""
        if self.features is None or self.plane is None:
            return []
        purity = f"{self.n_neighbors}-NN purity", self.features.purity, self.plane.purity
        silhouette = "silhouette", self.features.silhouette, self.plane.silhouette
        return [
            (name, two_digits(before), two_digits(after))
            for name, before, after in (purity, silhouette)
            if before is not None and after is not None
        ]

    def describe(self) -> str:
        """The numbers in words, as a caption has them; arrows go from feature space to the plane."""
        parts = []
        parts += [f"{name} {before} → {after} in 2-D" for name, before, after in self.pairs()]
        parts.append(f"trustworthiness {two_digits(self.trustworthiness)}")
        if self.features is not None and self.features.purity is None:
            parts.append("one class only, so no silhouette or purity")
        return ", ".join(parts)


def cluster_scores(
    features: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    n_neighbors: int | None = None,
    max_items: int = 2000,
    seed: int = 0,
) -> ClusterScores:
    """Silhouette, k-NN purity and trustworthiness of a picture.

    Parameters
    ----------
    features : array (n, D), as given to `embed` (normalise first for cosine)
    points : array (n, 2)
    labels : integer or string array (n,), or None
    n_neighbors : int or None
        k; None is 10, or less where 10 are half of the items scored.
    max_items : int
        Items drawn for the scores, whose cost grows with the square of their number.
    seed : int
        Seed of the draw.

    Raises
    ------
    ValueError
        For lengths that differ, fewer than 3 items, or n_neighbors of half the items or more.
    """
    features, points = scaled(np.asarray(features)), np.asarray(points, dtype=np.float32)
    n = len(points)
    if len(features) != n or (labels is not None and len(labels) != n):
        count = "no" if labels is None else len(labels)
        raise ValueError(f"there are {len(features)} features, {n} points and {count} labels; expected as many of each.")
    if n < 3 or max_items < 3:
        raise ValueError(f"{min(n, max_items)} items are too few for scores; give 3 or more.")
    drawn = np.arange(n) if n <= max_items else np.sort(np.random.default_rng(seed).choice(n, max_items, replace=False))
    if n_neighbors is None:
        n_neighbors = min(10, (len(drawn) - 1) // 2)
    if not 1 <= n_neighbors < len(drawn) / 2:
        raise ValueError(f"n_neighbors={n_neighbors} with {len(drawn)} items scored; give 1 to {(len(drawn) - 1) // 2}.")

    from sklearn.manifold import trustworthiness

    trust = trustworthiness(features[drawn], points[drawn], n_neighbors=n_neighbors)
    spaces: list[SpaceScores | None] = [None, None]
    chance = None
    if labels is not None:
        classes, codes = np.unique(np.asarray(labels), return_inverse=True)
        spaces = [
            SpaceScores(_silhouette(x[drawn], codes[drawn]), _purity(x, codes, drawn, n_neighbors) if len(classes) > 1 else None)
            for x in (features, points)
        ]
        sizes = np.bincount(codes)
        chance = float((sizes * (sizes - 1)).sum() / (n * (n - 1)))
    return ClusterScores(spaces[0], spaces[1], float(trust), chance, n_neighbors, n, len(drawn), seed)


def _purity(x: np.ndarray, labels: np.ndarray, queries: np.ndarray, n_neighbors: int) -> float:
    """Mean share of same-class items among the nearest others of each query."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=n_neighbors + 1).fit(x).kneighbors(x[queries], return_distance=False)  # (q, k + 1)
    itself = found == queries[:, None]
    itself[~itself.any(1), -1] = True  # an item with many copies may not be among its own neighbours: drop the farthest one
    others = found[~itself].reshape(len(queries), n_neighbors)
    return float((labels[others] == labels[queries, None]).mean())


def _silhouette(x: np.ndarray, labels: np.ndarray) -> float | None:
    from sklearn.metrics import silhouette_score

    count = len(np.unique(labels))
    return float(silhouette_score(x, labels)) if 2 <= count < len(labels) else None


def two_digits(value: float) -> str:
    """0.123 as 0.12, and -0.001 as 0.00."""
    return f"{round(value, 2) + 0.0:.2f}"
