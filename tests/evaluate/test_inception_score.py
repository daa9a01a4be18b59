"""Promises of the Inception score: its two ends, its blocks, and wrong input."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.evaluate.inception_score import inception_score


def test_it_is_the_number_of_classes_of_sure_and_even_answers_and_1_of_equal_ones():
    sure = 1000.0 * np.eye(7)[np.arange(70) % 7]
    assert inception_score(sure).mean == pytest.approx(7)
    assert inception_score(np.zeros((70, 7))).mean == pytest.approx(1)
    assert inception_score(sure[:1].repeat(70, 0)).mean == pytest.approx(1)  # always the same class


def test_blocks_are_those_of_adm_or_equal_splits():
    """Sorted by class, every block sees one class; shuffled, each sees both."""
    logits = 50.0 * np.eye(2)[np.repeat([0, 1], 500)]
    by_block = inception_score(logits, block_size=500)
    assert (by_block.mean, by_block.blocks) == (pytest.approx(1), (500, 500))
    assert inception_score(logits, block_size=400).blocks == (400, 400, 200)  # the last one of what is left, as ADM
    assert inception_score(logits, splits=3).blocks == (333, 333, 334)
    assert inception_score(logits, block_size=500, shuffle=0).mean == pytest.approx(2, abs=0.01)
    assert inception_score(logits).mean == pytest.approx(2)


def test_the_interval_lies_around_the_score():
    logits = np.random.default_rng(0).normal(size=(400, 10)) * 3
    found = inception_score(logits)
    low, high = found.interval
    assert low < found.mean < high
    assert inception_score(np.tile(logits, (25, 1)), block_size=10_000).interval[1] - found.mean < high - found.mean


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inception_score(np.zeros((5, 1))), "1 class; the Inception score needs"),
        (lambda: inception_score(np.zeros((5, 3)), splits=6), "splits=6 for 5 images"),
        (lambda: inception_score(np.zeros((5, 3)), block_size=0), "block_size=0"),
        (lambda: inception_score(np.full((5, 3), np.nan)), "logits hold NaN"),
        (lambda: inception_score(np.zeros((0, 3))), r"logits have shape \(0, 3\)"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
