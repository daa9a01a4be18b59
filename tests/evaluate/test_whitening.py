"""Promises of whitening, alone and inside k-NN."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.utils.estimator_checks import parametrize_with_checks

from bigr_features import KNNClassifier
from bigr_features.evaluate.whitening import Whitener


@parametrize_with_checks([Whitener()])
def test_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_vary_alike(dtype):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 6)) * [100, 30, 10, 3, 1, 1] @ rng.normal(size=(6, 6)) + 5).astype(dtype)
    z = Whitener(shrinkage=0).fit_transform(x)
    assert z.dtype == dtype
    assert_allclose(z.mean(0), 0, atol=1e-3)
    assert_allclose(np.cov(z.T, bias=True), np.eye(6), atol=2e-2)


def test_directions_without_variance_get_weight_zero():
    x = np.array([[0.0, 3.0], [2.0, 3.0], [4.0, 3.0]])
    whitener = Whitener(shrinkage=0).fit(x)
    assert_allclose(np.abs(whitener.transform(x)).max(1), [np.sqrt(1.5), 0, np.sqrt(1.5)], atol=1e-12)
    assert_allclose(whitener.transform([[2.0, 100.0]]), 0, atol=1e-12)


def test_by_hand_with_shrinkage():
    x = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # variances 2 and 1/2, mean 5/4
    z = Whitener(shrinkage=0.4).fit_transform(x)  # 2 + 1/2 and 1/2 + 1/2
    assert_allclose(np.sort(np.abs(z).max(0)), np.sort([2 / np.sqrt(2.5), 1.0]))


def test_large_shrinkage_is_cosine_of_centred_features():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 5)) * [5, 1, 1, 1, 1] + 3, np.arange(60) % 3
    centred = KNNClassifier(5).fit(x - x.mean(0), y).kneighbors(x - x.mean(0))[1]
    assert np.array_equal(KNNClassifier(5, whiten=1e9).fit(x, y).kneighbors(x)[1], centred)


def test_knn_whitens_by_the_training_samples_and_chooses_on_held_out_ones():
    rng = np.random.default_rng(2)
    y = rng.integers(2, size=400)
    noise, signal = rng.normal(size=(400, 2)) * 50 + 200, 0.3 * (2 * y - 1) + 0.1 * rng.normal(size=400)
    x = np.column_stack([noise, signal])
    plain, whitened = KNNClassifier(5).fit(x[:300], y[:300]), KNNClassifier(5, whiten=1e-6).fit(x[:300], y[:300])
    assert whitened.score(x[300:], y[300:]) > plain.score(x[300:], y[300:]) + 0.2
    z = Whitener(1e-6).fit(x[:300])
    by_hand = KNNClassifier(5).fit(z.transform(x[:300]), y[:300])
    assert np.array_equal(whitened.predict_proba(x[300:]), by_hand.predict_proba(z.transform(x[300:])))
    chosen = KNNClassifier((3, 5), whiten=(None, 1e-6)).fit(x[:300], y[:300])
    assert chosen.whiten_ == 1e-6
    assert chosen.holdout_accuracies_.shape == (2, 2, 1)
    assert chosen.holdout_accuracies_[1].max() == chosen.holdout_accuracies_.max() > chosen.holdout_accuracies_[0].max()
    assert whitened.leave_one_out_accuracy()[5] > plain.leave_one_out_accuracy()[5]


@pytest.mark.parametrize("whiten", [-1.0, np.nan, (), (None, -0.1)])
def test_whitening_that_cannot_be(whiten):
    with pytest.raises(ValueError, match="whiten="):
        KNNClassifier(1, whiten=whiten).fit([[0.0], [1.0]], [0, 1])
