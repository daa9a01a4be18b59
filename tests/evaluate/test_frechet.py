"""Promises of the Frechet distance: closed forms of Gaussians, and wrong input by name."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.evaluate.frechet import (
    covariance_rank,
    expected_bias,
    frechet_distance,
    frechet_feature_distance,
    frechet_interval,
    moments,
)


def test_of_one_dimension_it_is_the_difference_of_means_and_of_deviations():
    """N(1, 2^2) and N(4, 5^2): (1 - 4)^2 + (2 - 5)^2 = 18."""
    assert frechet_distance([1.0], [[4.0]], [4.0], [[25.0]]) == pytest.approx(18, rel=1e-12)


def test_of_covariances_that_commute_it_is_the_difference_of_their_roots():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    ours, theirs = np.array([1.0, 4, 9, 16, 0, 2]), np.array([4.0, 1, 9, 25, 3, 0])
    distance = frechet_distance(
        np.zeros(6), rotation @ np.diag(ours) @ rotation.T, np.full(6, 0.5), rotation @ np.diag(theirs) @ rotation.T
    )
    assert distance == pytest.approx(6 * 0.25 + ((np.sqrt(ours) - np.sqrt(theirs)) ** 2).sum(), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_of_random_gaussians_it_is_the_closed_form(seed):
    """S' = M S M with M the (symmetric) optimal map: tr (S S')^(1/2) = tr(S M); of any rank of S, scale and width."""
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(1, 40))
    factor = rng.normal(size=(dim, int(rng.integers(1, dim + 1)))) * 10 ** rng.uniform(-3, 3)
    ours = factor @ factor.T
    spread = rng.normal(size=(dim, dim))
    optimal_map = spread @ spread.T / dim + 0.1 * np.eye(dim)
    theirs = optimal_map @ ours @ optimal_map
    means = rng.normal(size=(2, dim))
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(ours + theirs - 2 * ours @ optimal_map)
    assert frechet_distance(means[0], ours, means[1], (theirs + theirs.T) / 2) == pytest.approx(expected, rel=1e-9)


def test_of_two_dimensions_it_is_the_closed_form():
    """tr (S S')^(1/2) = sqrt(tr(S S') + 2 sqrt(det S det S')) for 2 x 2 matrices."""
    ours, theirs = np.array([[2.0, 0.7], [0.7, 1.0]]), np.array([[1.5, -0.4], [-0.4, 3.0]])
    root = np.sqrt(np.trace(ours @ theirs) + 2 * np.sqrt(np.linalg.det(ours) * np.linalg.det(theirs)))
    expected = 1 + 4 + np.trace(ours) + np.trace(theirs) - 2 * root
    assert frechet_distance([0, 0], ours, [1, -2], theirs) == pytest.approx(expected, rel=1e-12)


def test_it_is_zero_of_equal_sets_symmetric_and_not_disturbed_by_singular_covariances():
    rng = np.random.default_rng(1)
    few, many = rng.normal(size=(5, 30)), rng.normal(1, 2, size=(200, 30))  # fewer samples than dimensions

    def distance(ours, theirs):
        return frechet_feature_distance(ours, theirs, few_samples=True)

    assert distance(few, few) == pytest.approx(0, abs=1e-6)
    assert distance(few, many) == pytest.approx(distance(many, few), rel=1e-9)
    assert distance(few, many) == pytest.approx(distance(few + 1e3, many + 1e3), rel=1e-6)
    assert (covariance_rank(moments(few)[1]), covariance_rank(moments(many)[1])) == (4, 30)
    flat = many * (np.arange(30) < 20)  # a third of the features never vary
    assert covariance_rank(moments(flat)[1]) == 20
    assert distance(flat, flat + 1) == pytest.approx(30)


def test_of_samples_it_comes_near_that_of_their_gaussians_and_the_interval_holds_it():
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(0, 1, size=(4000, 3)), rng.normal([1, 0, 0], [1, 2, 1], size=(4000, 3))
    distance = frechet_feature_distance(ours, theirs)
    assert distance == pytest.approx(2, abs=0.15)  # |(1, 0, 0)|^2 + (1 - 2)^2
    low, high = frechet_interval(ours, theirs, resamples=50)
    assert low < distance < high
    assert high - low < 0.5


@pytest.mark.parametrize("dim", [2, 8])
def test_the_expected_bias_is_what_equal_distributions_give(dim):
    rng = np.random.default_rng(4)
    mix = rng.normal(size=(dim, dim)) @ np.diag(np.arange(1, dim + 1))
    drawn = [frechet_feature_distance(*(rng.normal(size=(count, dim)) @ mix for count in (150, 250))) for _ in range(200)]
    assert np.mean(drawn) == pytest.approx(expected_bias(mix.T @ mix, 150, 250), rel=0.1)
    assert expected_bias(mix.T @ mix, 150) < expected_bias(mix.T @ mix, 150, 250)


@pytest.mark.parametrize("sizes", [(19, 100), (100, 19)])
def test_fewer_samples_than_twice_the_features_are_refused_with_the_bias_to_expect(sizes):
    rng = np.random.default_rng(5)
    ours, theirs = (rng.normal(size=(size, 10)) for size in sizes)
    bias = expected_bias(moments(theirs)[1], *sizes)
    with pytest.raises(ValueError, match=rf"19 samples are too few .* of 10 features: about {bias:.4g} .*\n?.*Give 20 or more"):
        frechet_feature_distance(ours, theirs)
    assert frechet_feature_distance(ours, theirs, few_samples=True) > 0
    assert frechet_feature_distance(np.tile(ours, (6, 1)), np.tile(theirs, (6, 1))) > 0


def test_moments_are_those_of_numpy():
    features = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
    mean, covariance = moments(features)
    assert mean.dtype == covariance.dtype == np.float64
    np.testing.assert_allclose(covariance, np.cov(features.astype(np.float64).T))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: moments(np.zeros((1, 3))), r"shape \(1, 3\); expected \(n, D\) with n of 2"),
        (lambda: moments(np.zeros(3)), r"shape \(3,\)"),
        (lambda: moments(np.full((3, 2), np.nan)), "NaN or infinite"),
        (lambda: frechet_distance([0.0], [[1.0]], [0.0, 0.0], np.eye(2)), "do not fit"),
        (lambda: frechet_distance([0, 0], np.eye(2), [0, 0], [[1, 2], [0, 1]]), "not symmetric"),
        (lambda: frechet_distance([0, 0], np.eye(2), [0, 0], [[1, 0], [0, -1]]), "eigenvalue -1"),
        (lambda: frechet_distance([np.nan, 0], np.eye(2), [0, 0], np.eye(2)), "NaN or infinite"),
        (lambda: frechet_distance([0, 0], np.eye(2), [0, 0], np.diag([np.inf, 1])), "NaN or infinite"),
        (lambda: frechet_interval(np.zeros((3, 2)), np.zeros((3, 2)), level=95), "level=95"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
