"""Promises of the retrieval metrics: the values one works out by hand, and a query that never finds itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bigr_features.evaluate.retrieval import (  # fmt: skip
    average_precision,
    evaluate_retrieval,
    index_recall,
    mean_average_precision,
    mean_interval,
    precision_at_k,
    rank_all,
    recall_at_k,
    relevance,
)

# two queries; the first finds its class at ranks 1 and 3, the second at rank 4 only
RANKED = np.array([[True, False, True, False], [False, False, False, True]])


def test_recall_is_the_share_of_queries_with_a_hit():
    assert [recall_at_k(RANKED, k) for k in (1, 2, 3, 4)] == [0.5, 0.5, 0.5, 1.0]


def test_precision_is_the_share_of_hits():
    assert [precision_at_k(RANKED, k) for k in (1, 2, 4)] == [1 / 2, 1 / 4, 3 / 8]


def test_average_precision_by_hand():
    np.testing.assert_allclose(average_precision(RANKED), [(1 / 1 + 2 / 3) / 2, 1 / 4])
    assert mean_average_precision(RANKED) == pytest.approx((5 / 6 + 1 / 4) / 2)


def test_a_cut_ranking_is_divided_by_what_could_be_found():
    np.testing.assert_allclose(average_precision(RANKED, k=2), [1 / 2, 0])  # 2 of the class, 2 ranks; 1 of the class
    np.testing.assert_allclose(average_precision(RANKED, np.array([5, 1])), [(1 + 2 / 3) / 5, 1 / 4])
    np.testing.assert_allclose(average_precision(RANKED, np.array([5, 1]), k=3), [(1 + 2 / 3) / 3, 0])
    assert mean_average_precision(np.ones((3, 7), bool), np.full(3, 50), k=7) == 1


def test_index_recall_by_hand():
    assert index_recall([[3, 1], [-1, -1], [5, -1]], [[1, 3], [2, 4], [5, 6]]) == pytest.approx((1 + 0 + 0.5) / 3)


def test_relevance_compares_labels():
    found = relevance(np.array([[0, 2], [1, 0]]), np.array([7, 8]), np.array([7, 8, 9]))
    assert found.tolist() == [[True, False], [True, False]]


def test_the_whole_ranking_by_cosine():
    gallery = np.array([[1.0, 0], [0, 1], [-1, 0], [1, 1]])
    ((part, order),) = rank_all(np.array([[2.0, 0.1]]), gallery)
    assert (part, order.tolist()) == (slice(0, 1), [[0, 3, 1, 2]])


def test_the_whole_ranking_by_hamming():
    gallery = np.array([[0b0111], [0b1111], [0b0000]], np.uint8)
    ((_, order),) = rank_all(np.array([[0b1110]], np.uint8), gallery, metric="hamming")
    assert order.tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("metric", ["cosine", "hamming"])
def test_a_query_never_finds_itself(metric):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (30, 2), dtype=np.uint8) if metric == "hamming" else rng.standard_normal((30, 4))
    rows[5] = rows[6]  # a copy, with an id of its own, is found
    ids = np.array([f"i{i}" for i in range(30)])
    orders = np.concatenate([order for _, order in rank_all(rows[4:9], rows, metric=metric, query_ids=ids[4:9], gallery_ids=ids)])
    assert orders.shape == (5, 29)
    for query, order in zip(range(4, 9), orders, strict=True):
        assert set(order.tolist()) == set(range(30)) - {query}
    assert orders[1, 0] == 6
    labels = np.arange(30) % 3
    scores = evaluate_retrieval(rows, rows, labels, labels, metric=metric, query_ids=ids, gallery_ids=ids, ks=(1, 29))
    assert scores.recall[1] < 1
    assert scores.precision[29] == pytest.approx(9 / 29)


def test_ranks_do_not_depend_on_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    queries, gallery = rng.standard_normal((17, 5)), rng.standard_normal((40, 5))
    whole = np.concatenate([order for _, order in rank_all(queries, gallery)])
    monkeypatch.setattr("bigr_features.evaluate.retrieval.BLOCK", 4 * 40 * 3)
    np.testing.assert_array_equal(np.concatenate([order for _, order in rank_all(queries, gallery)]), whole)


def test_equal_distances_say_nothing_about_the_order_of_the_gallery():
    """A gallery sorted by class, and features that tell nothing: mAP is that of chance, whatever the class."""
    labels = np.repeat(np.arange(4), 500)
    bits = np.zeros((2000, 1), np.uint8)
    scores = evaluate_retrieval(bits[:4], bits, np.arange(4), labels, metric="hamming")
    assert scores.mean_average_precision == pytest.approx(0.25, abs=0.03)


def test_scores_together():
    gallery, labels = np.array([[1.0, 0], [0.9, 0.2], [0, 1]]), np.array([0, 1, 0])
    scores = evaluate_retrieval(np.array([[1.0, 0.01], [0.1, 1], [1, 1]]), gallery, np.array([0, 1, 5]), labels, ks=(1, 2))
    assert (scores.num_queries, scores.left_out) == (2, 1)
    assert scores.recall == {1: 0.5, 2: 1.0}
    assert scores.mean_average_precision == pytest.approx(((1 + 2 / 3) / 2 + 1 / 2) / 2)
    assert scores.interval[0] <= scores.mean_average_precision <= scores.interval[1]
    assert json.loads(json.dumps(scores.as_json()))["recall"] == {"1": 0.5, "2": 1.0}


def test_the_interval_of_a_mean_narrows_with_more_values():
    values = np.random.default_rng(0).random(4000)
    wide, narrow = mean_interval(values[:40]), mean_interval(values)
    assert narrow[0] < 0.5 < narrow[1]
    assert narrow[1] - narrow[0] == pytest.approx(2 * 1.96 * 12**-0.5 / 4000**0.5, rel=0.15)
    assert wide[1] - wide[0] > 5 * (narrow[1] - narrow[0])


@pytest.mark.parametrize(("call", "message"), [
    (lambda: recall_at_k(RANKED, 5), r"k=5, but the ranking has 4 ranks"),
    (lambda: precision_at_k(RANKED, 0), "k=0"),
    (lambda: recall_at_k(RANKED.astype(int), 1), "expected bool"),
    (lambda: average_precision(np.array([[True], [False]])), "query 1 has no item of its class"),
    (lambda: average_precision(RANKED, np.array([1, 1])), "below what was found"),
    (lambda: index_recall([[1]], [[1, 2]]), "expected the same"),
    (lambda: relevance(np.array([[0, -1]]), [0], [0]), "-1 removed"),
    (lambda: relevance(np.array([0]), [0], [0]), "expected integers"),
    (lambda: list(rank_all(np.ones((1, 3)), np.ones((2, 4)))), r"queries have shape \(1, 3\)"),
    (lambda: list(rank_all(np.ones((1, 3)), np.full((2, 3), np.nan))), "NaN"),
    (lambda: list(rank_all(np.zeros((1, 3)), np.ones((2, 3)))), "all zero"),
    (lambda: list(rank_all(np.ones((1, 3)), np.ones((2, 3)), metric="l1")), "metric='l1' is unknown"),
    (lambda: list(rank_all(np.ones((1, 3)), np.ones((2, 3)), query_ids=np.array(["a"]))), "for queries or gallery only"),
    (lambda: list(rank_all(np.ones((1, 3)), np.ones((2, 3)), query_ids=["a"], gallery_ids=["a", "a"])), "stands twice"),
    (lambda: list(rank_all(np.ones((2, 3)), np.ones((2, 3)), query_ids=["a", "c"], gallery_ids=["a", "b"])), "evaluate them apart"),
    (lambda: evaluate_retrieval(np.ones((1, 3)), np.ones((2, 3)), [9], [1, 2], ks=(1,)), "do not overlap"),
    (lambda: evaluate_retrieval(np.ones((1, 3)), np.ones((2, 3)), [1, 1], [1, 2]), "2 and 2 labels for 1 queries and 2 items"),
])  # fmt: skip
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_unpacked_bits_are_refused():
    with pytest.raises(TypeError, match="eight bits a byte"):
        list(rank_all(np.ones((1, 8)), np.ones((2, 8)), metric="hamming"))
