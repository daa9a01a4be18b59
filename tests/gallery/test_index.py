"""Promises of indexes and binarizers: chosen by size, filled exactly, and bits that keep what is near near."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features import Gallery
from bigr_features.nearest.binarize import Binarizer, fit_binarizer
from bigr_features.nearest.exact import FlatRows, nearest_by_cosine, nearest_by_hamming
from bigr_features.nearest.index import chosen_factory

from .test_gallery import cosines, distances, names, packed, vectors


@pytest.mark.parametrize(("index", "metric", "count", "factory"), [
    ("flat", "cosine", 10**9, "Flat"), ("auto", "cosine", 100_000, "Flat"), ("auto", "cosine", 1_000_000, "IVF4096,SQfp16"),
    ("auto", "hamming", 2_000_000, "BFlat"), ("auto", "hamming", 10_000_000, "BIVF16384"), ("HNSW32", "cosine", 5, "HNSW32"),
])  # fmt: skip
def test_auto_goes_by_size(index, metric, count, factory):
    assert chosen_factory(index, metric, count) == factory


def test_a_gallery_that_outgrows_a_flat_index_gets_another_one(tmp_path, monkeypatch):
    monkeypatch.setattr("bigr_features.nearest.index.FLAT_LIMIT", 300)
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(200), ids=names(200))
    assert gallery.index_factory == "Flat"
    gallery.add(vectors(400)[200:], ids=names(200, 200))
    assert gallery.index_factory == "IVF64,SQfp16"
    gallery.add(vectors(500)[400:], ids=names(100, 400))
    assert gallery.index_factory == "IVF64,SQfp16"
    assert (gallery.search_ids(names(500), k=1).scores > 0.5).all()
    assert Gallery(tmp_path / "g").ids.tolist() == names(500)


@pytest.mark.parametrize("chunk", [1, 100, 1 << 26])
def test_exact_search_does_not_depend_on_chunks(monkeypatch, chunk):
    monkeypatch.setattr("bigr_features.storage.append_file.CHUNK_BYTES", chunk)
    where = np.arange(0, 60, 3)
    scores, rows = nearest_by_cosine(vectors(5, seed=1), vectors(60), 7, where)
    assert (rows % 3 == 0).all()
    np.testing.assert_allclose(scores, -np.sort(-cosines(vectors(5, seed=1), vectors(60))[:, where], 1)[:, :7], atol=1e-6)
    apart, rows = nearest_by_hamming(packed(5, seed=1), packed(60), 7)
    np.testing.assert_array_equal(apart, np.sort(distances(packed(5, seed=1), packed(60)), 1)[:, :7])
    np.testing.assert_array_equal(np.take_along_axis(distances(packed(5, seed=1), packed(60)), rows, 1), apart)


@pytest.mark.parametrize("chunk", [1, 1 << 26])
def test_a_flat_index_holds_its_rows_and_no_more(monkeypatch, chunk):
    monkeypatch.setattr("bigr_features.storage.append_file.CHUNK_BYTES", chunk)
    rows = np.concatenate([packed(50), packed(3, seed=1)])
    index = FlatRows(rows[:50], hamming=True)
    assert index.nbytes == 50 * 8
    index.grow(rows)
    assert (index.nbytes, len(index)) == (53 * 8, 53)
    assert index.search(packed(3, seed=1), 1, None)[1].ravel().tolist() == [50, 51, 52]
    index = FlatRows(vectors(50), hamming=False, start=20)
    assert index.nbytes == 30 * 64
    assert index.search(vectors(50)[20:], 1, None)[1].ravel().tolist() == list(range(20, 50))
    for count in (3, 30):  # few queries go through a selector, many through a copy
        allowed = np.arange(50) % 2 == 0
        scores, numbers = index.search(vectors(50)[:count], 15, allowed)
        assert (numbers % 2 == 0).all()
        assert (numbers >= 20).all()
        np.testing.assert_allclose(scores[:, 0], cosines(vectors(50)[:count], vectors(50))[:, 20::2].max(1), atol=1e-6)


def test_bits_by_sign_by_hand():
    features = np.array([[1.0, 5], [3, 1], [2, 9]], np.float32)  # means 2 and 5
    assert np.unpackbits(fit_binarizer("sign", features).bits(features), axis=1)[:, :2].tolist() == [[0, 0], [1, 0], [0, 1]]


def test_itq_is_a_rotation_of_principal_axes_that_loses_less():
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((2000, 12)) * np.linspace(3, 0.2, 12)) @ np.linalg.qr(rng.standard_normal((12, 12)))[0] + 5

    def loss(binarizer: Binarizer) -> float:
        projected = (features - binarizer.mean) @ binarizer.rotation
        return float(((np.sign(projected) - projected) ** 2).mean())

    turned, plain = (fit_binarizer("itq", features, 4, iterations=n) for n in (50, 0))
    np.testing.assert_allclose(turned.rotation.T @ turned.rotation, np.eye(4), atol=1e-5)
    kept = ((features - turned.mean) @ turned.rotation).var(0).sum()
    assert kept == pytest.approx(np.sort(np.linalg.eigvalsh(np.cov(features.T)))[-4:].sum(), rel=1e-3)
    assert loss(turned) < loss(plain)
    assert turned.bits(features).shape == (2000, 1)


def test_learned_bits_find_more_neighbours_than_signs():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1000, 32)) * np.linspace(3, 0.1, 32)
    exact = np.argsort(-cosines(features[:50], features), 1)[:, 1:11]
    recall = {}
    for kind in ("sign", "itq"):
        bits = fit_binarizer(kind, features, 32).bits(features)
        found = nearest_by_hamming(bits[:50], bits, 51)[1]
        recall[kind] = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)])
    assert recall["itq"] > recall["sign"] + 0.05
