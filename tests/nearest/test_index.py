"""Promises of indexes: chosen by size, and of kinds that faiss can bear."""

from __future__ import annotations

import pytest

from bigr_features import Gallery
from bigr_features.nearest.index import BitIndex, VectorIndex, chosen_factory

from ..gallery.test_gallery import names, vectors


@pytest.mark.parametrize(("index", "metric", "count", "factory"), [
    ("flat", "cosine", 10**9, "Flat"), ("auto", "cosine", 100_000, "Flat"), ("auto", "cosine", 1_000_000, "IVF4096,SQfp16"),
    ("auto", "hamming", 2_000_000, "BFlat"), ("auto", "hamming", 10_000_000, "BIVF16384"), ("HNSW32", "cosine", 5, "HNSW32"),
])  # fmt: skip
def test_auto_goes_by_size(index, metric, count, factory):
    assert chosen_factory(index, metric, count) == factory


@pytest.mark.parametrize(("factory", "message"), [
    ("IVF2000000000,Flat", "has a number above 1048576"), ("HNSW100000000", "has a number above"),
    ("OPQ4_99999999,Flat", "has a number above"),
    ("HNSW0", "graphs of 0 links"), ("HNSW1", "graphs of 1 links"), ("IVF4_HNSW1,Flat", "graphs of 1 links"),
    ("NSG16", "NSG cannot be added to"), ("IDMap,Flat", "IDMap keeps ids"), ("IVF4,PQ0", "M must be > 0"), ("nothing", "could not parse"),
])  # fmt: skip
def test_a_kind_of_index_that_would_end_the_process_is_refused(factory, message):
    with pytest.raises(ValueError, match=message):
        VectorIndex(16, factory)


@pytest.mark.parametrize(("factory", "message"), [
    ("BIVF2000000000", "has a number above"), ("BHNSW0", "graphs of 0 links"),
    ("BIDMap,BFlat", "IDMap keeps ids"), ("Flat", "makes no binary"),
])  # fmt: skip
def test_a_kind_of_binary_index_that_would_end_the_process_is_refused(factory, message):
    with pytest.raises(ValueError, match=message):
        BitIndex(8, factory)


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
