"""From feature stores to results: what `bigr probe`, `bigr knn` and `bigr sweep` have in common."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from ..evaluate.arrays import SideBySide
from ..evaluate.reports import array_hash, environment, evaluation_result
from ..evaluate.selection import TOGETHER, choose, choose_together
from ..features.store import FeatureStore
from ..features.tokens import tokens_of
from ..functional.checks import some
from ..functional.pooling import layer_and_pooling
from .probe_options import TOKEN_PROBES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stores:
    """A training store, perhaps a test store that fits it, and the features to look at."""

    train: FeatureStore
    test: FeatureStore | None
    names: list[str]
    shared_images: int

    def labels(self, store: FeatureStore) -> np.ndarray:
        """Labels of one of the stores; each has them."""
        assert store.labels is not None
        return store.labels

    def names_for(self, probe: str) -> list[str]:
        """The features that a probe can look at: tokens of the attentive ones, one vector an image of all others."""
        wanted = probe in TOKEN_PROBES
        tokens = self.train.manifest.get("token_shapes") or {}
        names = [name for name in self.names if (name in tokens) == wanted]
        if names:
            return names
        if wanted:
            raise ValueError(
                f"the {probe} probe looks at the tokens of a layer, but {self.train.folder} holds none among {some(self.names)}; "
                "extract with --pooling tokens."
            )
        raise ValueError(f"the {probe} probe takes one vector an image, but there are only tokens: {some(self.names)}; extract mean too.")

    def features(self, store: FeatureStore, name: str):
        """Rows of a feature, of several features side by side ("block3_mean + bits"), or tokens; on disk until sliced."""
        if name in (store.manifest.get("token_shapes") or {}):
            return tokens_of(store, name)
        parts = [store.features(part) for part in name.split(TOGETHER)]
        return parts[0] if len(parts) == 1 else SideBySide(parts)


def open_stores(config) -> Stores:
    """The stores that a command names, checked against one another.

    Raises
    ------
    ValueError
        If a store has no labels, lacks a feature, has other classes, or was made in another way than the training store.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    train = FeatureStore(config.train)
    test = None if config.test is None else FeatureStore(config.test)
    for store, folder in ((train, config.train), (test, config.test)):
        if store is not None and store.labels is None:
            raise ValueError(f"the store {folder} has no labels, and there is nothing to predict; extract from a source with labels.")
    names = list(config.names) or train.names
    for name in names:
        train.features(name)
    shared = 0
    if test is not None:
        test.check_compatible(train)
        for name in names:
            test.features(name)
        if train.class_names and test.class_names and train.class_names != test.class_names:
            first, second = (f"{len(names)} ({', '.join(names[:4])}, ...)" for names in (train.class_names, test.class_names))
            raise ValueError(
                f"the stores name different classes: {config.train} has {first}, {config.test} has {second}. "
                "Extract both with the same classes."
            )
        shared = int(np.isin(test.ids, train.ids).sum())
        if shared:
            log.warning("%d of %d test images are also in the training store; the test accuracy is flattered by them.", shared, len(test))
    return Stores(train, test, names, shared)


def evaluate_stores(stores: Stores, probe: str, estimator, config, seeds: int = 1, leave_one_out: bool = False) -> dict:
    """Choose among features and settings on held-out training items, then look at the test items once.

    Returns
    -------
    dict
        held_out (a row for each feature), chosen, test (None without a test store), leave_one_out, protocol.
    """
    train, test, labels = stores.train, stores.test, stores.labels(stores.train)
    candidates = {name: (estimator, stores.features(train, name)) for name in stores.names_for(probe)}
    choice = choose(candidates, labels, config.holdout, config.seed)
    if probe in ("exact", "mae") and config.together > 1:
        choice = choose_together(candidates, labels, config.holdout, config.seed, config.together, choice)
    protocol = describe(stores, probe, choice, config)
    result: dict[str, Any] = {"held_out": choice.rows, "chosen": choice.name, "protocol": protocol, "environment": environment()}
    result["leave_one_out"] = choice.estimator.leave_one_out_accuracy() if leave_one_out else None
    result["test"] = None
    if test is not None:
        X, y = stores.features(test, choice.name), stores.labels(test)
        scores = choice.estimator.predict_proba(X)
        classes = choice.estimator.classes_
        accuracies = [float((classes[scores.argmax(1)] == y).mean())]
        for seed in range(config.seed + 1, config.seed + seeds):
            again = clone(choice.estimator).set_params(random_state=seed).fit(stores.features(train, choice.name), labels)
            accuracies.append(float(again.score(X, y)))
        evaluation = evaluation_result(scores, y, classes, protocol, probe == "knn", accuracies, train.class_names)
        result["test"] = {key: value for key, value in evaluation.items() if key not in ("protocol", "environment")}
    return result


def describe(stores: Stores, probe: str, choice, config) -> dict:
    """How the numbers came about: model, transform, data, feature, and what was chosen on what."""
    manifest = stores.train.manifest
    fields = ("model", "weights", "weights_sha256", "preprocessing", "mask_ratio", "condition", "sample_bits", "dtype")
    layer, pooling = layer_and_pooling(choice.name)
    return {
        **{field: manifest.get(field) for field in fields},
        "feature": choice.name,
        "layer": layer,
        "pooling": pooling,
        "probe": getattr(choice.estimator, "protocol_", None) or NAMES[probe],
        "settings": {key: value for key, value in choice.rows[choice.name].items() if key not in ("holdout_accuracy", "features")},
        "chosen": f"feature and settings on {config.holdout:.0%} of the training items, drawn by class with seed {config.seed}; "
        "the test items were used once, after that",
        "train": describe_data(stores.train),
        "test": None if stores.test is None else describe_data(stores.test),
        "test_images_also_in_train": stores.shared_images,
        "extracted_with": manifest.get("versions"),
    }


NAMES = {
    "attentive": "attention pooling by one learned query a head and a linear layer (AIM), AdamW",
    "efficient": "attention pooling by few learned queries over raw tokens and a linear layer (efficient probing), AdamW",
    "retrieval": "exact search by cosine, no training",
    "exact": "multinomial logistic regression on standardised features, L-BFGS",
    "knn": "k nearest neighbours by cosine, votes weighted by exp(similarity / temperature)",
}


def describe_data(store: FeatureStore) -> dict:
    """Source, size, and a hash over item ids and labels."""
    return {
        "source": store.manifest.get("source"),
        "split": store.manifest.get("split"),
        "items": len(store),
        "skipped": len(store.skipped),
        "sha256": array_hash(store.ids, np.asarray(store.labels)),
    }


def draw_depth(results: dict[str, dict], path: Path) -> bool:
    """Picture of held-out accuracy over depth, a line for each probe and pooling; False if there is less than two layers to draw."""
    curves: dict[str, dict[int, float]] = {}
    levels: dict[str, float] = {}
    for probe, result in results.items():
        for name, row in result["held_out"].items():
            layer, pooling = layer_and_pooling(name)
            score = row["holdout_accuracy"] if "score" not in result else row[result["score"]]
            if TOGETHER in name:
                continue
            if not isinstance(layer, int):
                levels[f"{probe}, {name}"] = score
            else:
                curves.setdefault(f"{probe}, {pooling}", {})[layer] = score
    if len({layer for points in curves.values() for layer in points}) < 2:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from ..plots.depth import accuracy_over_depth

    figure, axes = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    accuracy_over_depth(axes, curves, levels)
    protocol = next(iter(results.values()))["protocol"]
    axes.set_ylabel("accuracy on held-out training images, %")
    axes.set_title(f"{protocol['model']} ({protocol['weights']}): accuracy over depth\n{protocol['train']['source']}", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return True
