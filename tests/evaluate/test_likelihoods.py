"""A generator's likelihoods as a classifier: Bayes' rule, calibration and foreign images, by hand."""

import numpy as np
import pytest
from scipy.stats import norm

from bigr_features.evaluate import generative_classifier
from bigr_features.evaluate.likelihoods import calibration_error, class_log_probabilities, fit_temperature, foreign_image_auroc


def test_two_gaussians_are_classified_as_bayes_rule_says():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=20_000)
    x = rng.normal(2.0 * labels - 1, 1)
    scores = np.stack([norm.logpdf(x, -1), norm.logpdf(x, 1)], 1)
    result = generative_classifier(scores, labels)
    assert result["top1"] == pytest.approx(norm.cdf(1), abs=0.01)  # the best that is possible
    assert result["nll"] == pytest.approx(-np.log(1 / (1 + np.exp(-2 * x * (2 * labels - 1)))).mean())
    assert result["calibration_error"] < 0.01  # the likelihoods are the true ones
    assert fit_temperature(scores, labels) == pytest.approx(1, abs=0.05)
    low, high = result["nll_interval"]
    assert low < result["nll"] < high


def test_temperature_changes_calibration_and_not_accuracy():
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=5000)
    scores = rng.normal(size=(5000, 3))
    scores[np.arange(5000), labels] += 1
    sure = 40 * scores
    fitted = fit_temperature(sure, labels)
    before, after = (generative_classifier(sure, labels, temperature=t) for t in (1.0, fitted))
    assert after["top1"] == before["top1"]
    assert after["nll"] < before["nll"]
    assert after["calibration_error"] < 0.1 < before["calibration_error"]
    assert after["protocol"]["temperature"] == fitted


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.45, 0.55]])
    # bins of a tenth: two at 0.9, one right: |1 - 1.8|; 0.7 right: |1 - 0.7|; 0.55 wrong: 0.55
    assert calibration_error(probabilities, np.array([0, 1, 1, 0]), bins=10) == pytest.approx((0.8 + 0.3 + 0.55) / 4)


def test_classes_keep_their_own_labels():
    scores = np.array([[0.0, 1.0], [1.0, 0.0]])
    result = generative_classifier(scores, np.array([7, 3]), classes=np.array([3, 7]))
    assert result["top1"] == 1
    assert set(result["per_class"]) == {"3", "7"}


def test_foreign_images():
    familiar, foreign = np.array([[-1.0, -5], [-5, -1]]), np.array([[-9.0, -9.1], [-8, -8]])
    assert foreign_image_auroc(familiar, foreign) == {"likelihood": 1.0, "confidence": 1.0}
    assert foreign_image_auroc(foreign, familiar) == {"likelihood": 0.0, "confidence": 0.0}


def test_probabilities_survive_large_numbers():
    assert np.allclose(np.exp(class_log_probabilities(np.array([[-1e6, -1e6]]))), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generative_classifier(np.zeros((2, 3)), np.array([0, 3])), "label 3 is none of the 3 classes"),
        (lambda: generative_classifier(np.zeros((2, 3)), np.array([0])), "have shape"),
        (lambda: generative_classifier(np.full((1, 2), np.nan), np.array([0])), "NaN"),
        (lambda: generative_classifier(np.zeros((1, 2)), np.array([0]), temperature=0), "above 0"),
        (lambda: calibration_error(np.full((1, 2), 0.5), np.array([0]), bins=0), "bins=0"),
        (lambda: foreign_image_auroc(np.zeros((1, 2)), np.zeros((1, 3))), "expected"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
