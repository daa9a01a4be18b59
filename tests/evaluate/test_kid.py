"""Promises of the kernel distance: by hand, without bias, with an honest interval."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.evaluate.kid import kernel_distance


def test_by_hand():
    """One dimension, x in {0, 1} and y in {1, 2}: k = (xy + 1)^3; means over different pairs 1 and 27, over all between 1 1 8 27."""
    found = kernel_distance(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]), subsets=1, subset_size=2)
    assert found.mean == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)
    assert found.std == 0


def test_it_has_no_bias_where_sets_are_small_and_equal():
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(20, 8)), rng.normal(size=(20, 8))) for _ in range(300)]
    found = [kernel_distance(*pair, subsets=1, subset_size=20, resamples=2).mean for pair in pairs]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)
    assert min(found) < 0


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Against a large fixed reference; the truth is what many more samples give."""
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(800, 4))
    truth = kernel_distance(0.4 + rng.normal(size=(4000, 4)), reference, subsets=30, subset_size=800, resamples=2).mean
    covered = 0
    for _ in range(60):
        low, high = kernel_distance(0.4 + rng.normal(size=(200, 4)), reference, subsets=20, subset_size=200, resamples=200).interval
        covered += low <= truth <= high
    assert covered >= 48  # 57 expected of 60; reference subsets add spread


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "subset_size=1000, but there are 30 samples and 40 of the reference; give 2 to 30"),
        ({"subset_size": 1}, "subset_size=1"),
        ({"subset_size": 10, "subsets": 0}, "subsets=0"),
    ],
)
def test_wrong_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        kernel_distance(np.zeros((30, 3)), np.zeros((40, 3)), **options)
