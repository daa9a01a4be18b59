"""Features in the plane, by t-SNE, UMAP or PCA.   n items, D dimensions"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..functional.vectors import unit_length

METHODS = ("tsne", "umap", "pca")
METRICS = ("euclidean", "cosine", "hamming")
BACKENDS = ("auto", "sklearn", "opentsne")
PCA_DIMENSIONS = 50
LEAST, MOST = 1e-12, 1e12  # of the largest feature: squares, and sums of many, stay within float32


@dataclass(frozen=True)
class Embedding:
    """Points in the plane and how they came to lie there.

    points : float32 array (n, 2).
    method : "tsne", "umap" or "pca".
    settings : all that shaped the picture, `seed` among them (None: not reproducible).
    """

    points: np.ndarray
    method: str
    settings: dict = field(default_factory=dict)

    def describe(self) -> str:
        """The settings in words, as a caption has them."""
        if self.method == "pca":
            shares = self.settings["explained_variance"]
            return f"PCA, {shares[0]:.0%} + {shares[1]:.0%} of the variance"
        seed = "no seed" if self.settings["seed"] is None else f"seed {self.settings['seed']}"
        metric = "" if self.settings["metric"] == "euclidean" else f", {self.settings['metric']}"
        if self.method == "tsne":
            return f"t-SNE, perplexity {self.settings['perplexity']:g}{metric}, {seed}"
        return f"UMAP, {self.settings['n_neighbors']} neighbours{metric}, {seed}"


def embed(
    features: np.ndarray,
    method: str = "tsne",
    *,
    seed: int | None = 0,
    perplexity: float = 30.0,
    n_neighbors: int = 15,
    metric: str | None = None,
    backend: str = "auto",
) -> Embedding:
    """Place items in the plane so that near ones stay near.

    t-SNE and UMAP see the first 50 principal components and start from the first two, so that the picture keeps what it can of the
    coarse arrangement; sizes of clusters and distances between them still mean little.

    Parameters
    ----------
    features : float array (n, D), or bool array for bits
    method : "tsne", "umap" or "pca"
    seed : int or None
        None lets UMAP use several threads, and gives another picture each time.
    perplexity : float
        t-SNE: effective number of neighbours; needs more than three times as many items.
    n_neighbors : int
        UMAP: neighbours of each item, fewer than there are items.
    metric : "euclidean", "cosine", "hamming" or None
        cosine compares L2-normalised features. hamming is for bits under UMAP and the default there (the squared Euclidean distance
        that t-SNE takes *is* the Hamming distance on bits); None is euclidean otherwise.
    backend : "auto", "sklearn" or "opentsne"
        t-SNE only. auto is openTSNE where it is installed, which takes two thirds of the time, and half from 20,000 items on; else
        scikit-learn. They give other pictures of the same seed; the result's settings say which it was.

    Returns
    -------
    Embedding

    Raises
    ------
    TypeError, ValueError
        For another dtype or shape, features that are not finite (naming the items) or all alike, or too few items.
    ImportError
        If umap-learn or openTSNE is missing.
    """
    for name, value, known in (("method", method, METHODS), ("backend", backend, BACKENDS), ("metric", metric, (None, *METRICS))):
        if value not in known:
            raise ValueError(f"{name}={value!r}; choose one of {', '.join(repr(choice) for choice in known)}.")
    x = check_features(features)
    is_bits = np.asarray(features).dtype == bool
    metric = metric or ("hamming" if is_bits and method == "umap" else "euclidean")
    check_settings(len(x), method, metric, is_bits, perplexity, n_neighbors)
    if metric == "cosine":
        x = unit_length(x, zero="refuse")
    if method == "pca":
        reduced, shares = principal_components(x, 2, seed)
        return Embedding(reduced, method, {"seed": seed, "metric": metric, "explained_variance": [float(share) for share in shares]})

    settings: dict[str, Any] = {"seed": seed, "metric": metric}
    if metric != "hamming":
        x, _ = principal_components(x, PCA_DIMENSIONS, seed)  # (n, at most 50)
        settings["pca_dimensions"] = x.shape[1]
    if method == "umap":
        settings["n_neighbors"] = n_neighbors
        points = _umap(x, n_neighbors, metric, seed)
    else:
        if backend == "auto":
            backend = "sklearn" if importlib.util.find_spec("openTSNE") is None else "opentsne"
        settings.update(perplexity=float(perplexity), backend=backend)
        points = (_sklearn_tsne if backend == "sklearn" else _opentsne)(x, perplexity, seed)
    return Embedding(np.ascontiguousarray(points, dtype=np.float32), method, settings)


def check_features(features: np.ndarray) -> np.ndarray:
    """The features as float32 (n, D), if they can be placed in a plane.

    Raises
    ------
    TypeError, ValueError
        Naming what is wrong with them, and which items are not finite.
    """
    features = np.asarray(features)
    if features.dtype != bool and features.dtype.kind != "f":
        raise TypeError(
            f"features have dtype {features.dtype}; expected floats, or bool for bits "
            "(packed bits: bigr_features.functional.packing.unpack_bits first, then .astype(bool))."
        )
    if features.ndim != 2 or features.shape[1] < 2:
        raise ValueError(f"features have shape {features.shape}; expected (items, dimensions) with 2 dimensions or more.")
    if len(features) < 3:
        raise ValueError(f"there is nothing to arrange with {len(features)} item(s); give 3 or more.")
    x = features if features.dtype.kind == "f" else features.astype(np.float32)
    wrong = np.flatnonzero(~np.isfinite(x).all(1))
    if len(wrong):
        some = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        raise ValueError(f"features of {len(wrong)} of {len(x)} items hold NaN or infinity (items {some}); leave these items out.")
    if (x == x[0]).all():
        raise ValueError(f"the features of all {len(x)} items are the same, so there is nothing to draw; check the layer and the model.")
    return scaled(x)


def scaled(x: np.ndarray) -> np.ndarray:
    """Finite features as float32, divided by a power of two if squares of them would overflow or vanish; else as they are."""
    peak = float(np.abs(x).max())
    if peak == 0 or LEAST <= peak <= MOST:
        return x.astype(np.float32)
    return np.ldexp(x.astype(np.float64), -int(np.frexp(peak)[1])).astype(np.float32)


def check_settings(n: int, method: str, metric: str, is_bits: bool, perplexity: float, n_neighbors: int) -> None:
    """Settings that n items cannot carry are refused here, because the libraries lower them silently or fail without a number."""
    if metric == "hamming" and not (is_bits and method == "umap"):
        raise ValueError(
            "metric='hamming' compares bits under UMAP: give bool features and method='umap'; "
            "for t-SNE and PCA of bits take 'euclidean', whose square is the Hamming distance."
        )
    if method == "tsne" and not 1 <= perplexity <= (n - 1) / 3:
        if np.isnan(perplexity):
            raise ValueError("perplexity=nan; give a number of 1 or more.")
        if n < 4:
            raise ValueError(f"t-SNE needs 4 items or more, but there are {n}; give more items, or method='pca'.")
        raise ValueError(
            f"perplexity={perplexity:g} does not fit {n} items: t-SNE looks at three times as many neighbours; "
            f"give a perplexity between 1 and {(n - 1) // 3}, or at least {int(np.ceil(3 * perplexity)) + 1} items."
        )
    if method == "umap" and not 2 <= n_neighbors < n:
        raise ValueError(f"n_neighbors={n_neighbors} does not fit {n} items; give 2 to {n - 1}, or more items.")


def principal_components(x: np.ndarray, count: int, seed: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components (n, at most count), and each one's share of the variance."""
    from sklearn.decomposition import PCA

    model = PCA(min(count, *x.shape), random_state=seed)
    return model.fit_transform(x).astype(np.float32), model.explained_variance_ratio_


def threads_for(n: int) -> int:
    """Threads of t-SNE, -1 for all: below some thousand items they cost more than they give."""
    return 1 if n < 2000 else -1


def _sklearn_tsne(x: np.ndarray, perplexity: float, seed: int | None) -> np.ndarray:
    from sklearn.manifold import TSNE

    return TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=seed, n_jobs=threads_for(len(x))).fit_transform(x)


def _opentsne(x: np.ndarray, perplexity: float, seed: int | None) -> np.ndarray:
    try:
        from openTSNE import TSNE
    except ImportError as error:
        raise ImportError("backend='opentsne' needs openTSNE: pip install bigr-features[plots]") from error
    return np.asarray(TSNE(2, perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=threads_for(len(x))).fit(x))


def _umap(x: np.ndarray, n_neighbors: int, metric: str, seed: int | None) -> np.ndarray:
    try:
        from umap import UMAP
    except ImportError as error:
        raise ImportError("method='umap' needs umap-learn: pip install bigr-features[plots]") from error
    threads = {} if seed is None else {"n_jobs": 1}  # a seed and several threads exclude each other
    start, _ = principal_components(x, 2, seed)
    start *= 10 / np.abs(start).max()
    data = x.astype(bool) if metric == "hamming" else x
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="gradient function is not yet implemented")  # of the inverse, which is not used
        return UMAP(n_neighbors=n_neighbors, metric=metric, init=start, random_state=seed, **threads).fit_transform(data)
