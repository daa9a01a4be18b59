"""Promises of `embed`: methods, seeds, settings that tell the whole story, and clear refusals."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bigr_features.plots import cluster_scores, embed, projection


def groups(per_class: int = 40, classes: int = 3, dimensions: int = 8, apart: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """Well separated Gaussian groups and their labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), per_class)
    return (rng.normal(size=(len(labels), dimensions)) + apart * rng.normal(size=(classes, dimensions))[labels]).astype(np.float32), labels


def test_importing_plots_imports_no_heavy_library():
    heavy = ("matplotlib", "sklearn", "umap", "numba", "bokeh", "openTSNE", "bigr_features.data")
    code = f"import sys, bigr_features; before = set(sys.modules); import bigr_features.plots; new = set(sys.modules) - before; \
        print([name for name in {heavy!r} if name in new])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("backend", ["sklearn", "opentsne"])
def test_tsne_keeps_groups_apart_and_repeats_with_its_seed(backend):
    if backend == "opentsne":
        pytest.importorskip("openTSNE")
    x, labels = groups()
    result = embed(x, perplexity=10, seed=3, backend=backend)
    assert result.points.shape == (120, 2)
    assert result.points.dtype == np.float32
    assert cluster_scores(x, result.points, labels).plane.purity == 1.0
    np.testing.assert_array_equal(result.points, embed(x, perplexity=10, seed=3, backend=backend).points)
    assert result.settings == {"seed": 3, "metric": "euclidean", "pca_dimensions": 8, "perplexity": 10.0, "backend": backend}
    assert result.describe() == "t-SNE, perplexity 10, seed 3"


def test_no_seed_is_recorded():
    result = embed(groups(10)[0], perplexity=5, seed=None)
    assert result.settings["seed"] is None
    assert "no seed" in result.describe()


def test_pca_is_the_projection_with_most_variance():
    rng = np.random.default_rng(0)
    x = np.zeros((200, 5), dtype=np.float32)
    x[:, 3], x[:, 1] = 9 * rng.normal(size=200), 3 * rng.normal(size=200)
    result = embed(x, "pca")
    centered = x - x.mean(0)
    np.testing.assert_allclose(np.abs(np.corrcoef(result.points[:, 0], centered[:, 3])[0, 1]), 1, atol=1e-3)
    assert result.settings["explained_variance"][0] > 0.85
    np.testing.assert_allclose(sum(result.settings["explained_variance"]), 1, rtol=1e-4)


def test_cosine_ignores_lengths():
    x, _ = groups(20)
    stretched = x * np.random.default_rng(1).uniform(0.5, 2, size=(len(x), 1)).astype(np.float32)
    np.testing.assert_allclose(embed(x, "pca", metric="cosine").points, embed(stretched, "pca", metric="cosine").points, atol=1e-5)


def test_wide_features_go_through_fifty_components():
    x = np.random.default_rng(0).normal(size=(80, 90)).astype(np.float16)
    assert embed(x, perplexity=5).settings["pca_dimensions"] == 50


def test_umap_of_bits_uses_the_hamming_distance():
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    prototypes, labels = rng.random((2, 64)) < 0.5, np.repeat([0, 1], 20)
    bits = prototypes[labels] ^ (rng.random((40, 64)) < 0.05)
    result = embed(bits, "umap", n_neighbors=8)
    assert result.settings == {"seed": 0, "metric": "hamming", "n_neighbors": 8}
    assert cluster_scores(bits, result.points, labels).plane.purity > 0.95
    assert result.describe() == "UMAP, 8 neighbours, hamming, seed 0"


GOOD = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
HOLED = GOOD.copy()
HOLED[[4, 7], 2] = np.nan


@pytest.mark.parametrize(
    ("features", "settings", "error", "message"),
    [
        (GOOD, {"perplexity": 30}, ValueError, "perplexity=30 does not fit 40 items.*between 1 and 13, or at least 91 items"),
        (GOOD, {"perplexity": float("nan")}, ValueError, "perplexity=nan"),
        (GOOD[:3], {}, ValueError, "t-SNE needs 4 items or more, but there are 3"),
        (GOOD, {"method": "umap", "n_neighbors": 40}, ValueError, "n_neighbors=40 does not fit 40 items; give 2 to 39"),
        (GOOD[:1], {"method": "pca"}, ValueError, r"nothing to arrange with 1 item"),
        (GOOD[:0], {"method": "pca"}, ValueError, r"nothing to arrange with 0 item"),
        (HOLED, {}, ValueError, r"features of 2 of 40 items hold NaN or infinity \(items 4, 7\)"),
        (np.ones((40, 6)), {}, ValueError, "features of all 40 items are the same"),
        (GOOD[:, :1], {}, ValueError, r"shape \(40, 1\)"),
        (GOOD[0], {}, ValueError, r"shape \(6,\)"),
        (np.zeros((40, 6), dtype=np.uint8), {}, TypeError, "dtype uint8.*unpack_bits"),
        (np.array([["a", "b"]] * 4), {}, TypeError, "dtype <U1"),
        (GOOD, {"method": "lda"}, ValueError, "method='lda'; choose one of 'tsne', 'umap', 'pca'"),
        (GOOD, {"metric": "hamming"}, ValueError, "metric='hamming' compares bits"),
        (GOOD, {"backend": "cuda"}, ValueError, "backend='cuda'"),
        (GOOD * 0 + np.arange(40)[:, None], {"metric": "cosine", "method": "pca"}, ValueError, "1 row is all zero and has no direction"),
    ],
)
def test_what_cannot_be_drawn_is_refused(features, settings, error, message):
    with pytest.raises(error, match=message):
        embed(features, **settings)


def test_auto_takes_what_is_installed_and_says_so(monkeypatch):
    x, _ = groups()
    pytest.importorskip("openTSNE")
    assert embed(x, perplexity=10).settings["backend"] == "opentsne"
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    assert embed(x, perplexity=10).settings["backend"] == "sklearn"


@pytest.mark.parametrize(("method", "backend", "module"), [("umap", "sklearn", "umap"), ("tsne", "opentsne", "openTSNE")])
def test_a_missing_extra_names_its_install_command(monkeypatch, method, backend, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install bigr-features\[plots\]"):
        embed(GOOD, method, perplexity=5, backend=backend)


@pytest.mark.parametrize("method", ["pca", "tsne", "umap"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(
    ("scale", "dtype"), [(1e19, np.float32), (1e25, np.float32), (1e200, np.float64), (1e-30, np.float32), (1e4, np.float16)]
)
def test_finite_features_of_any_size_get_a_place_and_scores(method, metric, scale, dtype):
    if method == "umap":
        pytest.importorskip("umap")
    x = (np.random.default_rng(0).normal(size=(40, 6)) * scale).astype(dtype)
    settings = {"perplexity": 5.0} if method == "tsne" else {"n_neighbors": 5} if method == "umap" else {}
    result = projection.embed(x, method, metric=metric, **settings)
    assert np.isfinite(result.points).all()
    assert np.ptp(result.points, axis=0).min() > 0
    scores = cluster_scores(x, result.points, np.arange(40) % 2)
    assert np.isfinite([scores.trustworthiness, scores.features.silhouette, scores.features.purity]).all()


def test_features_of_a_usual_size_are_left_exactly_as_they_are():
    for scale in (1e-6, 1.0, 1e9):
        x = (np.random.default_rng(1).normal(size=(9, 4)) * scale).astype(np.float32)
        assert np.array_equal(projection.scaled(x), x)
    big = np.float64(2.0) ** 300 * np.arange(8.0).reshape(2, 4)
    np.testing.assert_allclose(projection.scaled(big) / projection.scaled(big).max(), big / big.max(), rtol=1e-6)
