"""Choices see held-out training data only, and the same for every candidate."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression

from bigr_features import KNNClassifier, LinearProbe
from bigr_features.evaluate.selection import choose, holdout_split


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(300, 12, n_informative=8, n_classes=3, random_state=0)
    return X, y


def test_a_split_is_by_class_and_covers_all(data):
    labels = np.repeat(["a", "b", "c"], [50, 100, 150])
    training, held_out = holdout_split(labels, 0.2, seed=1)
    assert sorted([*training, *held_out]) == list(range(300))
    assert [int((labels[held_out] == name).sum()) for name in "abc"] == [10, 20, 30]
    np.testing.assert_array_equal(holdout_split(labels, 0.2, seed=1)[1], held_out)
    assert list(holdout_split(labels, 0.2, seed=2)[1]) != list(held_out)


def test_good_features_win_over_noise_whatever_the_estimator(data):
    X, y = data
    noise = np.random.default_rng(0).standard_normal((300, 5))
    for estimator in (LinearProbe(Cs=(0.1, 1.0)), LinearProbe(Cs=(1.0,)), KNNClassifier(n_neighbors=(3, 9)), LogisticRegression()):
        choice = choose({"noise": (estimator, noise), "features": (estimator, X), "more noise": (estimator, noise[:, :2])}, y)
        assert choice.name == "features"
        assert choice.rows["features"]["holdout_accuracy"] == max(row["holdout_accuracy"] for row in choice.rows.values())
        assert choice.rows["noise"]["features"] == 5
        np.testing.assert_array_equal(choice.estimator.predict(X), type(estimator)(**choice.estimator.get_params()).fit(X, y).predict(X))


def test_a_classifier_that_chooses_itself_and_one_that_does_not_see_the_same_split(data):
    X, y = data
    rows = choose({"two": (LinearProbe(Cs=(1.0, 1e-9)), X), "one": (LinearProbe(Cs=(1.0,)), X)}, y, seed=4).rows
    assert rows["two"]["holdout_accuracy"] == rows["one"]["holdout_accuracy"]
    assert rows["two"]["C"] == 1.0


def test_nothing_to_choose_from_is_said(data):
    with pytest.raises(ValueError, match="no candidates"):
        choose({}, data[1])
