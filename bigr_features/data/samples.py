"""Small real image sets that need no download."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import numpy as np

SAMPLES = ("fashion_mnist", "digits")


@dataclass(frozen=True)
class Sample:
    """A small labelled image set in memory, with the split that its source made.

    train_images, test_images : uint8 arrays (n, height, width), grayscale, or (n, height, width, 3).
    train_labels, test_labels : int64 arrays (n,).
    class_names : names by label.
    source : where the images come from, and their licence.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str


def load_sample(name: str) -> Sample:
    """Real images that need no download.

    Parameters
    ----------
    name : "fashion_mnist" or "digits"
        4,000 + 2,000 images of 28 x 28 that ship with this package (of each class the first 400 of the training and the first
        200 of the test split of Fashion-MNIST), or scikit-learn's 1,797 handwritten digits of 8 x 8, of which each class's
        last fifth is the test split.

    Raises
    ------
    ValueError
        For another name.
    """
    if name == "fashion_mnist":
        with np.load(str(files("bigr_features") / "assets" / "fashion_mnist_sample" / "images.npz")) as arrays:
            train = arrays["train_images"], arrays["train_labels"].astype(np.int64)
            test = arrays["test_images"], arrays["test_labels"].astype(np.int64)
        classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
        return Sample(name, *train, *test, classes, "Fashion-MNIST (sample), Zalando SE, MIT, arXiv:1708.07747")
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        labels = digits.target.astype(np.int64)
        is_test = np.zeros(len(labels), dtype=bool)
        for label in range(10):
            members = np.flatnonzero(labels == label)
            is_test[members[-len(members) // 5 :]] = True
        train, test = (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])
        return Sample(name, *train, *test, tuple("0123456789"), "Optical Recognition of Handwritten Digits, UCI, CC BY 4.0")
    raise ValueError(f"there is no sample {name!r}; choose one of {', '.join(SAMPLES)}.")
