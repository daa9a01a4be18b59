"""Promises of the check for copies of training images."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.evaluate.memorisation import memorisation


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(size, 6)) for size in (1500, 1200, 1200)]  # training, test, and new samples of one distribution


def test_new_images_are_as_near_as_test_images(sets):
    train, test, new = sets
    found = memorisation(new, train, test)
    low, high = found.interval
    assert low < 0.5 < high or abs(found.closer_than_test - 0.5) < 0.03
    assert found.distance_ratio == pytest.approx(1, abs=0.05)
    assert found.copies == pytest.approx(0.01, abs=0.01)


def test_copies_are_found_and_named(sets):
    train, test, new = sets
    found = memorisation(train[100:200] + 1e-4, train, test)
    assert found.nearest.tolist() == list(range(100, 200))
    assert found.distances.max() < 1e-3
    assert (found.copies, found.authentic) == (1.0, 0.0)
    assert found.closer_than_test > 0.99
    half = memorisation(np.concatenate([new[:100], train[:100]]), train, test)
    assert half.copies == pytest.approx(0.5, abs=0.03)


def test_images_far_from_all_real_ones_are_not_near(sets):
    train, test, _ = sets
    found = memorisation(train[:50] + 100, train, test)
    assert (found.closer_than_test, found.copies, found.authentic) == (0.0, 0.0, 1.0)
    assert found.distance_ratio > 10


def test_by_hand():
    """Training 0, 1, 10; generated 0.1 and 6; test at 0.5 and 2 from their nearest."""
    found = memorisation(np.array([[0.1], [6.0]]), np.array([[0.0], [1.0], [10.0]]), np.array([[0.5], [12.0]]), resamples=5)
    assert found.nearest.tolist() == [0, 2]
    assert found.distances.tolist() == pytest.approx([0.1, 4])
    assert found.closer_than_test == 0.5  # 0.1 is nearer than both, 4 than none
    assert found.authentic == 0.0  # 0.1 against 1 from 0 to 1, 4 against 9 from 10 to 1


def test_test_images_that_are_training_images_give_no_ratio():
    train = np.arange(6.0)[:, None]
    found = memorisation(train + 0.1, train, train, resamples=5)
    assert found.distance_ratio is None
    assert found.closer_than_test == 0


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="3 dimensions and the reference 2"):
        memorisation(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((4, 3)))
