"""Few-shot draws: n of each class, different each time, and never silently fewer."""

import numpy as np
import pytest
from sklearn.datasets import make_classification

from bigr_features import KNNClassifier, LinearProbe
from bigr_features.evaluate.shots import draw_per_class, few_shot


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(500, 20, n_informative=10, n_classes=4, class_sep=2, random_state=0)
    return X[:300], y[:300], X[300:], y[300:]


@pytest.mark.parametrize("shots", [1, 5, 20])
def test_each_class_gives_as_many_and_none_twice(shots):
    labels = np.random.default_rng(0).permutation(np.repeat(["a", "b", "c"], [20, 40, 90]))
    rows = draw_per_class(labels, shots, seed=0)
    assert len(set(rows)) == len(rows) == 3 * shots
    assert dict(zip(*np.unique(labels[rows], return_counts=True), strict=True)) == {"a": shots, "b": shots, "c": shots}
    if shots < 20:
        assert list(rows) != list(draw_per_class(labels, shots, seed=1))


def test_more_samples_help_and_the_spread_is_that_of_the_draws(data):
    result = few_shot(LinearProbe(Cs=(0.1,)), *data, shots=(1, 40), draws=4)
    assert result[40]["mean"] > result[1]["mean"]
    for row in result.values():
        assert len(set(row["accuracies"])) > 1
        assert row["mean"] == pytest.approx(np.mean(row["accuracies"]))
        assert row["std"] == pytest.approx(np.std(row["accuracies"], ddof=1))


def test_one_shot_nearest_neighbour_and_one_draw(data):
    result = few_shot(KNNClassifier(n_neighbors=1), *data, shots=(1,), draws=1)
    assert result[1]["std"] is None
    assert len(result[1]["accuracies"]) == 1


def test_classes_that_are_short_are_named(data):
    labels = np.repeat(["ant", "bee", "cat"], [3, 5, 9])
    with pytest.raises(ValueError, match=r"2 of 3 classes have fewer samples: ant \(3\), bee \(5\); ask for at most 3"):
        draw_per_class(labels, 8, 0)
    with pytest.raises(ValueError, match="shots=500"):
        few_shot(KNNClassifier(n_neighbors=1), *data, shots=(1, 500))
    with pytest.raises(ValueError, match="draws=0"):
        few_shot(KNNClassifier(n_neighbors=1), *data, draws=0)


def test_the_front_of_evaluate_gives_estimators_and_functions_under_their_names():
    for _ in range(2):  # also after their modules were imported
        from bigr_features.evaluate import AttentiveProbe, KNNClassifier, LinearProbe, MAEProbe, few_shot

        assert all(isinstance(kind, type) for kind in (AttentiveProbe, KNNClassifier, LinearProbe, MAEProbe))
        assert callable(few_shot)
