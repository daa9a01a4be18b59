"""The linear probe keeps scikit-learn's promises and chooses on held-out training data."""

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from bigr_features import LinearProbe


@parametrize_with_checks([LinearProbe(Cs=(0.1, 1.0), max_iter=50)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(600, 20, n_informative=8, n_classes=3, random_state=0)
    return X[:400], y[:400], X[400:], y[400:]


def test_one_C_equals_scikit_learns_logistic_regression(data):
    X, y, X_test, _ = data
    ours = LinearProbe(Cs=(0.3,)).fit(X, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=200)).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X_test), theirs.predict_proba(X_test), atol=1e-6)


def test_the_best_C_on_held_out_training_data_is_taken(data):
    X, y, _, _ = data
    probe = LinearProbe(Cs=(1e-6, 0.1)).fit(X, y)
    assert probe.holdout_accuracies_[1] > probe.holdout_accuracies_[0]
    assert probe.C_ == 0.1


def test_the_same_seed_gives_the_same_choice(data):
    X, y, _, _ = data
    first, second = (LinearProbe(random_state=3).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.holdout_accuracies_, second.holdout_accuracies_)


def test_string_labels_come_back(data):
    X, y, X_test, _ = data
    names = np.array(["ant", "bee", "cat"])
    assert set(LinearProbe(Cs=(1.0,)).fit(X, names[y]).predict(X_test)) <= set(names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"Cs": ()}, "one or more positive"), ({"Cs": (0.1, -1.0)}, "positive"), ({"holdout": 1.5}, "holdout=1.5")],
)
def test_wrong_settings_are_named(data, settings, message):
    X, y, _, _ = data
    with pytest.raises(ValueError, match=message):
        LinearProbe(**settings).fit(X, y)


def test_a_class_too_small_to_hold_out_is_named(data):
    X, y, _, _ = data
    y = y.copy()
    y[0] = 9
    with pytest.raises(ValueError, match="smallest of 4 classes has 1 of 400"):
        LinearProbe().fit(X, y)
