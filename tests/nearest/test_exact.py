"""Promises of exact search: the same answer whatever is in memory at a time, and no more memory than the rows."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.nearest.exact import FlatRows, nearest_by_cosine, nearest_by_hamming

from ..gallery.test_gallery import cosines, distances, packed, vectors


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
