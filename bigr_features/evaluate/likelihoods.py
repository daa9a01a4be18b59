"""A generator's likelihoods under each class, read as a classifier and as a detector of foreign images.   n images, C classes"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import roc_auc_score
from sklearn.utils.multiclass import unique_labels

from .metrics import check_scores
from .reports import evaluation_result
from .retrieval import mean_interval

BINS = 15
TEMPERATURES = (-8.0, 8.0)  # natural logarithms of the smallest and largest one


def generative_classifier(
    log_likelihoods: np.ndarray,
    labels: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    temperature: float = 1.0,
    protocol: dict | None = None,
    class_names: list[str] | None = None,
) -> dict:
    """Accuracy and calibration of Bayes' rule with equal priors: p(c | x) is the softmax of log p(x | c) / temperature.

    Parameters
    ----------
    log_likelihoods : array (n, C)
        In nats, one column a class, as `features.class_likelihoods.class_log_likelihoods` gives of one noise level.
    labels : array (n,)
        True classes.
    classes : array (C,), optional
        Sorted; 0..C-1 by default.
    temperature : float
        Divides the log-likelihoods. It changes calibration, never accuracy; see `fit_temperature`.
    protocol : dict, optional
        How the likelihoods were made and chosen.
    class_names : list of str, optional
        By class index.

    Returns
    -------
    dict
        What `evaluation_result` gives, with "nll" (mean -log p(true class), nats), its 95 % bootstrap interval, and
        "calibration_error" (15 bins).

    Raises
    ------
    ValueError
        For shapes that do not fit, NaN, a label that is no class, or a temperature that is not positive.
    """
    scores, labels, classes = _checked(log_likelihoods, labels, classes)
    log_probabilities = class_log_probabilities(scores, temperature)
    result = evaluation_result(scores, labels, classes, dict(protocol or {}) | {"temperature": temperature}, class_names=class_names)
    losses = -np.take_along_axis(log_probabilities, np.searchsorted(classes, labels)[:, None], 1)[:, 0]
    return result | {
        "nll": float(losses.mean()),
        "nll_interval": mean_interval(losses),
        "calibration_error": calibration_error(np.exp(log_probabilities), labels, classes),
    }


def class_log_probabilities(log_likelihoods: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """log p(c | x), (n, C), of log p(x | c) with equal priors."""
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}; expected a number above 0.")
    return log_softmax(np.asarray(log_likelihoods, np.float64) / temperature, axis=1)


def fit_temperature(log_likelihoods: np.ndarray, labels: np.ndarray, classes: np.ndarray | None = None) -> float:
    """The temperature with the smallest mean -log p(true class) (Guo et al. 2017, arXiv:1706.04599), in exp(-8)..exp(8).

    Of held-out training images, never of those that are reported.
    """
    scores, labels, classes = _checked(log_likelihoods, labels, classes)
    true = np.searchsorted(classes, labels)[:, None]

    def loss(log_temperature: float) -> float:
        return -np.take_along_axis(class_log_probabilities(scores, np.exp(log_temperature)), true, 1).mean()

    return float(np.exp(minimize_scalar(loss, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-4}).x))


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, classes: np.ndarray | None = None, bins: int = BINS) -> float:
    """Expected calibration error: |accuracy - confidence| of equally wide bins of confidence, weighted by their share of images.

    Parameters
    ----------
    probabilities : array (n, C)
    labels : array (n,)
    classes : array (C,), optional
        0..C-1 by default.
    bins : int
        Of the confidence, (0, 1]; a value on an edge belongs to the bin below it.
    """
    probabilities, labels, classes = _checked(probabilities, labels, classes)
    if bins < 1:
        raise ValueError(f"bins={bins}; expected 1 or more.")
    confidence, correct = probabilities.max(1), classes[probabilities.argmax(1)] == labels
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(bin_of, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def foreign_image_auroc(log_likelihoods: np.ndarray, foreign: np.ndarray) -> dict[str, float]:
    """How well images of the training distribution are told from foreign ones: area under the ROC curve, 0.5 by chance.

    Parameters
    ----------
    log_likelihoods, foreign : arrays (n, C), (m, C)
        Of images that should look familiar, and of others. Nats.

    Returns
    -------
    dict
        "likelihood": score log p(x), the log of the mean over classes; "confidence": the largest p(c | x).
    """
    arrays = [np.asarray(array, np.float64) for array in (log_likelihoods, foreign)]
    if any(array.ndim != 2 or not len(array) or np.isnan(array).any() for array in arrays) or arrays[0].shape[1] != arrays[1].shape[1]:
        raise ValueError(
            f"log-likelihoods have shapes {arrays[0].shape} and {arrays[1].shape}; expected (n, C) and (m, C), n and m of 1 or more, "
            "without NaN."
        )
    familiar = np.repeat([1, 0], [len(array) for array in arrays])
    joined = np.concatenate(arrays)
    scores = {"likelihood": logsumexp(joined, axis=1), "confidence": class_log_probabilities(joined).max(1)}
    return {name: float(roc_auc_score(familiar, score)) for name, score in scores.items()}


def _checked(scores: np.ndarray, labels: np.ndarray, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.asarray(scores, np.float64)
    classes = np.arange(scores.shape[-1]) if classes is None else np.asarray(classes)
    scores, labels, classes = check_scores(scores, labels, classes)
    unknown = np.setdiff1d(unique_labels(labels), classes)
    if unknown.size:
        raise ValueError(f"label {unknown[0]} is none of the {len(classes)} classes that there are likelihoods of.")
    return scores, labels, classes
