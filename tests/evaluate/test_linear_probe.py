"""The linear probe keeps scikit-learn's promises and chooses on held-out training data."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from bigr_features import LinearProbe
from bigr_features.evaluate.arrays import StandardizedRows
from bigr_features.evaluate.logistic import fit_path


class Column:
    """An array that is read by slices only, as the columns of a feature store are."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.most_rows = 0

    def __len__(self):
        return len(self.values)

    def __getitem__(self, rows):
        self.most_rows = max(self.most_rows, len(self.values[rows]))
        return self.values[rows]


@parametrize_with_checks([LinearProbe(Cs=(0.1, 1.0), max_iter=50)])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(600, 20, n_informative=8, n_classes=3, random_state=0)
    return X[:400], y[:400], X[400:], y[400:]


def test_one_C_equals_scikit_learns_logistic_regression(data):
    X, y, X_test, _ = data
    ours = LinearProbe(Cs=(0.3,), tol=1e-13).fit(X, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000, tol=1e-9)).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X_test), theirs.predict_proba(X_test), atol=1e-6)
    np.testing.assert_allclose(ours.decision_function(X), X @ ours.coef_.T + ours.intercept_, atol=1e-8)


def test_two_classes_equal_scikit_learns_single_vector(data):
    X, y, X_test, _ = data
    y = y % 2
    ours = LinearProbe(Cs=(0.3,), tol=1e-13).fit(X, y)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000, tol=1e-9)).fit(X, y)
    np.testing.assert_allclose(ours.decision_function(X_test), theirs.decision_function(X_test), atol=1e-5)


def objective(weight, bias, Z, y, C):
    """mean cross-entropy + |W|^2 / (2 n C), from its definition."""
    logits = Z.astype(np.float64) @ weight.T + bias
    return (logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]).mean() + (weight**2).sum() / (2 * len(y) * C)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fast", [False, True])
def test_a_path_reaches_scikit_learns_objective_and_accuracy_at_every_C(dtype, fast):
    X, y = make_classification(6000, 40, n_informative=15, n_redundant=10, n_classes=7, random_state=1)
    Z = StandardScaler().fit(X[:2000]).transform(X).astype(dtype)
    Cs = np.logspace(-4, 2, 4)
    for C, ours in zip(Cs, fit_path(StandardizedRows(Z[:2000]), y[:2000], 7, Cs, fast=fast), strict=True):
        theirs = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-8).fit(Z[:2000], y[:2000])
        weight, bias = ours.weight.numpy(), ours.bias.numpy()
        reached = objective(weight, bias, Z[:2000], y[:2000], C)
        assert ours.converged
        assert reached == pytest.approx(ours.objective, rel=1e-5)
        assert reached <= 1.001 * objective(theirs.coef_, theirs.intercept_, Z[:2000], y[:2000], C)
        accuracy = ((Z[2000:] @ weight.T + bias).argmax(1) == y[2000:]).mean()
        assert accuracy == pytest.approx(theirs.score(Z[2000:], y[2000:]), abs=0.002)


def test_the_estimated_gap_is_within_the_tolerance(data):
    X, y, _, _ = data
    rows = StandardizedRows(X)
    best = fit_path(rows, y, 3, [0.01, 1.0, 100.0], tol=1e-13)
    for loose, exact in zip(fit_path(rows, y, 3, [0.01, 1.0, 100.0], tol=1e-4), best, strict=True):
        assert 0 <= loose.objective / exact.objective - 1 <= 1e-3


def test_a_store_read_by_blocks_gives_the_fit_of_the_array_and_is_never_read_whole(monkeypatch, tmp_path, data):
    X, y, X_test, _ = data
    monkeypatch.setattr("bigr_features.evaluate.arrays.BLOCK_BYTES", 0)  # blocks of 64 rows
    reference = LinearProbe(Cs=(0.1, 1.0), tol=1e-12).fit(X, y)
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=X.dtype, shape=X.shape)
    mapped[:] = X
    column = Column(X)
    for stored in (mapped, column):
        probe = LinearProbe(Cs=(0.1, 1.0), tol=1e-12, max_bytes=0).fit(stored, y)
        np.testing.assert_allclose(probe.predict_proba(X_test), reference.predict_proba(X_test), atol=1e-5)
        np.testing.assert_array_equal(probe.holdout_accuracies_, reference.holdout_accuracies_)
    assert column.most_rows == 64


def test_half_precision_stores_are_read_as_they_are(data):
    X, y, X_test, _ = data
    half = LinearProbe(Cs=(1.0,)).fit(Column(X.astype(np.float16)), y)
    full = LinearProbe(Cs=(1.0,)).fit(X.astype(np.float16).astype(np.float32), y)
    np.testing.assert_allclose(half.predict_proba(X_test), full.predict_proba(X_test), atol=1e-5)


def test_features_far_from_zero_lose_no_digits(data):
    X, y, X_test, _ = data
    near, far = X.astype(np.float32), (X + 4096).astype(np.float32)
    probes = [LinearProbe(Cs=(0.1,), tol=1e-9).fit(values, y) for values in (near, far)]
    np.testing.assert_allclose(
        probes[1].predict_proba((X_test + 4096).astype(np.float32)), probes[0].predict_proba(X_test.astype(np.float32)), atol=5e-3
    )


def test_constant_features_get_no_weight_and_are_counted(data, caplog):
    X, y, X_test, _ = data
    wide = np.hstack([X, np.full((len(X), 2), 7.3)])
    probe = LinearProbe(Cs=(1.0,)).fit(wide, y)
    assert "2 of 22 features are constant" in caplog.text
    np.testing.assert_array_equal(probe.coef_[:, 20:], 0)
    assert np.isfinite(probe.predict_proba(np.hstack([X_test, np.zeros((len(X_test), 2))]))).all()


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


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("form", [np.asarray, Column])
def test_items_that_are_not_finite_are_named(data, value, form):
    X, y, _, _ = data
    X = X.copy()
    X[[17, 301], 3] = value
    with pytest.raises(ValueError, match="items 17, 301 hold " + ("NaN" if np.isnan(value) else "inf")):
        LinearProbe(Cs=(1.0,)).fit(form(X), y)


@pytest.mark.parametrize("form", [np.asarray, Column])
def test_another_number_of_features_is_named(data, form):
    X, y, X_test, _ = data
    probe = LinearProbe(Cs=(1.0,)).fit(X, y)
    with pytest.raises(ValueError, match=r"19 features.*20 features"):
        probe.predict(form(X_test[:, :19]))


def test_multilabel_targets_are_refused(data):
    X, y, _, _ = data
    with pytest.raises(ValueError, match="multilabel"):
        LinearProbe(Cs=(1.0,)).fit(X, np.eye(3, dtype=int)[y])


def test_labels_of_another_length_are_refused(data):
    X, y, _, _ = data
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LinearProbe(Cs=(1.0,)).fit(X, y[:-1])


def test_a_class_seen_only_in_the_test_set_counts_as_wrong(data):
    X, y, X_test, y_test = data
    keep = y != 2
    probe = LinearProbe(Cs=(1.0,)).fit(X[keep], y[keep])
    assert set(probe.predict(X_test)) <= {0, 1}
    assert probe.score(X_test, y_test) <= (y_test != 2).mean()


def test_too_few_iterations_are_reported(data):
    X, y, _, _ = data
    with pytest.warns(ConvergenceWarning, match="raise max_iter"):
        LinearProbe(Cs=(100.0,), max_iter=2).fit(X, y)
