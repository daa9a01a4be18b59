"""Scores of pictures, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bigr_features.plots import cluster_scores

LINE = np.array([[0.0, 0], [1, 0], [10, 0], [11, 0]])


def test_purity_and_silhouette_by_hand():
    scores = cluster_scores(LINE, LINE, np.array([0, 0, 1, 1]), n_neighbors=1)
    assert scores.features.purity == 1.0
    # outer items: own distance 1, other 10.5; inner items: 1 and 9.5
    np.testing.assert_allclose(scores.features.silhouette, (2 * (9.5 / 10.5) + 2 * (8.5 / 9.5)) / 4, rtol=1e-6)
    assert scores.trustworthiness == 1.0
    np.testing.assert_allclose(scores.chance, 1 / 3)
    assert cluster_scores(LINE, LINE, np.array(["a", "b", "a", "b"]), n_neighbors=1).features.purity == 0.0


def test_spaces_are_scored_apart():
    """A picture that invents two groups: pure in the plane, mixed in feature space."""
    labels = np.array([0, 1, 0, 1])
    scores = cluster_scores(LINE, LINE[[0, 2, 1, 3]], labels, n_neighbors=1)
    assert (scores.features.purity, scores.plane.purity) == (0.0, 1.0)
    assert scores.features.silhouette < 0 < scores.plane.silhouette
    assert "1-NN purity 0.00 → 1.00 in 2-D" in scores.describe()


def test_trustworthiness_by_hand():
    """Items 1 and 2 change places: every nearest neighbour in the plane is a false one, second (of three) in feature space or third."""
    x = np.array([[0.0, 0], [1, 0], [3, 0], [7, 0], [15, 0]])
    order = [0, 2, 1, 3, 4]
    # nearest in the plane and its rank among the four others in feature space: 0 -> 2 (2nd), 1 -> 2 or 3, 2 -> 0, 3 -> 1, 4 -> 3 (1st)
    plane = x[order]
    excess = 0
    for i in range(5):
        ranks = np.argsort([np.inf if j == i else abs(x[i, 0] - x[j, 0]) for j in range(5)])
        nearest = np.argmin([np.inf if j == i else abs(plane[i, 0] - plane[j, 0]) for j in range(5)])
        excess += max(0, list(ranks).index(nearest) + 1 - 1)
    expected = 1 - 2 / (5 * 1 * (2 * 5 - 3 * 1 - 1)) * excess
    np.testing.assert_allclose(cluster_scores(x, plane, n_neighbors=1).trustworthiness, expected, rtol=1e-6)
    assert expected < 1


def test_an_item_is_never_its_own_neighbour_even_among_copies():
    x = np.zeros((6, 2))
    scores = cluster_scores(x, x, np.arange(6), n_neighbors=2)
    assert scores.features.purity == 0.0
    assert scores.features.silhouette is None  # every item its own class


def test_one_class_says_nothing():
    scores = cluster_scores(LINE, LINE, np.zeros(4, dtype=int), n_neighbors=1)
    assert scores.features.purity is None
    assert scores.features.silhouette is None
    assert "one class only" in scores.describe()
    json.dumps(scores.to_dict(), allow_nan=False)


def test_no_labels_leaves_trustworthiness():
    scores = cluster_scores(LINE, LINE, n_neighbors=1)
    assert scores.features is None
    assert scores.chance is None
    assert scores.describe() == "trustworthiness 1.00"


def test_a_draw_is_stated_and_repeats():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=500)
    x = rng.normal(size=(500, 4)) + labels[:, None]
    drawn = cluster_scores(x, x[:, :2], labels, max_items=100, seed=7)
    assert (drawn.n_items, drawn.n_scored, drawn.seed, drawn.n_neighbors) == (500, 100, 7, 10)
    assert drawn == cluster_scores(x, x[:, :2], labels, max_items=100, seed=7)
    full = cluster_scores(x, x[:, :2], labels)
    assert abs(drawn.features.purity - full.features.purity) < 0.1
    assert drawn.features.purity != full.features.purity


def test_few_items_lower_the_default_k_and_say_so():
    x = np.random.default_rng(0).normal(size=(9, 2))
    assert cluster_scores(x, x).n_neighbors == 4


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((LINE, LINE[:3]), {}, "4 features, 3 points and no labels"),
        ((LINE, LINE, np.zeros(5)), {}, "4 features, 4 points and 5 labels"),
        ((LINE[:2], LINE[:2]), {}, "2 items are too few"),
        ((LINE, LINE), {"n_neighbors": 2}, "n_neighbors=2 with 4 items scored; give 1 to 1"),
    ],
)
def test_wrong_input(arguments, settings, message):
    with pytest.raises(ValueError, match=message):
        cluster_scores(*arguments, **settings)
