"""Accuracies on samples whose answer can be read off."""

import numpy as np
import pytest

from bigr_features.evaluate.metrics import class_accuracies, top_k_correct

CLASSES = np.array(["ant", "bee", "cat"])
SCORES = np.array([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4], [0.0, 0.0, 1.0]])


def test_top_k_by_hand():
    labels = np.array(["bee", "cat", "ant"])
    np.testing.assert_array_equal(top_k_correct(SCORES, labels, CLASSES), [False, False, False])
    np.testing.assert_array_equal(top_k_correct(SCORES, labels, CLASSES, 2), [True, True, True])


def test_top_1_is_argmax_also_where_scores_are_equal():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 3, (200, 4)), rng.integers(0, 4, 200)
    np.testing.assert_array_equal(top_k_correct(scores, labels, np.arange(4)), scores.argmax(1) == labels)


def test_a_class_without_a_score_is_no_hit_however_large_k():
    scores = np.where(SCORES > 0, SCORES, -np.inf)
    np.testing.assert_array_equal(top_k_correct(scores, np.array(["ant", "ant", "ant"]), CLASSES, 5), [True, True, False])


def test_a_class_that_was_never_trained_is_wrong():
    np.testing.assert_array_equal(top_k_correct(SCORES, np.array(["ant", "dog", "zebra"]), CLASSES, 3), [True, False, False])


def test_class_accuracies_by_hand():
    labels = np.array(["ant", "ant", "dog"])
    assert class_accuracies(np.array([True, False, False]), labels, CLASSES) == {"ant": 0.5, "bee": None, "cat": None, "dog": 0.0}


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (SCORES[:2], np.array(["ant", "bee", "cat"]), "3 labels"),
        (SCORES, np.eye(3, dtype=int), "multilabel"),
        (np.where(SCORES == 0.4, np.nan, SCORES), np.array(["ant", "bee", "cat"]), "items 1 are NaN"),
    ],
)
def test_what_does_not_fit_is_named(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        top_k_correct(scores, labels, CLASSES)


def test_k_of_zero_is_refused():
    with pytest.raises(ValueError, match="k=0"):
        top_k_correct(SCORES, CLASSES, CLASSES, 0)
