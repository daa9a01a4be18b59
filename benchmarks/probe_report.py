"""What linear_probe.py and knn.py have in common: the loop over data and features, the table, the JSON, the picture over depth."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from feature_sets import FeatureSet, data_sets, feature_sets

from bigr_features.data import Sample
from bigr_features.evaluate.metrics import class_accuracies, top_k_correct
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json

log = logging.getLogger(__name__)
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def run(name: str, protocol: dict, classifier: Callable, settings: tuple[str, ...], args: argparse.Namespace) -> None:
    """Measure every feature set on every data set, and write what was found.

    Parameters
    ----------
    name : str
        Of the benchmark, and of its files.
    protocol : dict
        Of the classifier, for the result.
    classifier : callable
        From the number of training images to a new estimator, which chooses on held-out ones and has `holdout_accuracies_`.
    settings : tuple of str
        The estimator's attributes that it chose, such as "C_".
    args : Namespace
        With the options of `feature_sets.add_arguments`, and `out`.
    """
    for sample in data_sets(args):
        log.info("%s: %d training and %d test images", sample.name, len(sample.train_labels), len(sample.test_labels))
        rows = [measure(features, sample, classifier, settings) for features in feature_sets(sample, args)]
        print_table(sample, rows)
        path = args.out / f"{name}_{sample.name}.json"
        write_json(path, result(name, sample, protocol, rows, args))
        plot(name, sample, rows, path.with_suffix(".png"))
        print(f"wrote {path} and .png\n")


def measure(features: FeatureSet, sample: Sample, classifier: Callable, settings: tuple[str, ...]) -> dict:
    """A row: every candidate on held-out training images, the best of them on the test images, once."""
    fitted, held_out = {}, {}
    for name, (train, _) in features.candidates.items():
        fitted[name] = estimator = classifier(len(train)).fit(train, sample.train_labels)
        chosen = {setting.rstrip("_"): float(getattr(estimator, setting)) for setting in settings}
        accuracy = float(np.nanmax(estimator.holdout_accuracies_))
        held_out[name] = {"layer": features.layers.get(name), "dimensions": train.shape[1], "holdout_accuracy": accuracy, **chosen}
        log.info("  %-36s held out %.2f %%", f"{features.name}, {name}", 100 * accuracy)
    best = max(held_out, key=lambda name: held_out[name]["holdout_accuracy"])
    estimator, labels = fitted[best], sample.test_labels
    scores = estimator.predict_proba(features.candidates[best][1])
    correct = top_k_correct(scores, labels, estimator.classes_)
    names = dict(enumerate(sample.class_names))
    per_class = class_accuracies(correct, labels, estimator.classes_)
    return {
        "features": features.name,
        **features.facts,
        "chosen": {"candidate": best, **held_out[best]},
        "test": {
            "top1": float(correct.mean()),
            "top1_interval": bootstrap_interval(correct),
            "top5": float(top_k_correct(scores, labels, estimator.classes_, k=5).mean()),
            "per_class": {names[int(label)]: accuracy for label, accuracy in per_class.items()},
        },
        "held_out": held_out,
    }


def result(name: str, sample: Sample, protocol: dict, rows: list[dict], args: argparse.Namespace) -> dict:
    return {
        "benchmark": name,
        "dataset": {
            "name": sample.name,
            "source": sample.source,
            "train": len(sample.train_labels),
            "test": len(sample.test_labels),
            "sha256": array_hash(sample.train_images, sample.train_labels, sample.test_images, sample.test_labels),
        },
        "protocol": {
            "features": "pooled output of each block; for BiGR the residual stream, null class, nothing hidden, no final norm",
            "pooling": args.pooling,
            "chosen": f"layer, pooling, every setting: on {args.holdout:.0%} of the training images, drawn by class; test images used once",
            "interval": "95 % bootstrap over test images",
            "seed": args.seed,
            **protocol,
        },
        "rows": rows,
        "environment": environment(),
    }


def print_table(sample: Sample, rows: list[dict]) -> None:
    print(f"\n{sample.source}: {len(sample.train_labels)} training, {len(sample.test_labels)} test images")
    width = max(len(row["features"]) for row in rows) + 2
    print(f"{'features':<{width}}{'chosen':<18}{'dims':>6}{'held out':>10}{'top-1':>9}   {'95 % interval':<15}{'top-5':>7}")
    for row in rows:
        chosen, test = row["chosen"], row["test"]
        low, high = (100 * value for value in test["top1_interval"])
        print(
            f"{row['features']:<{width}}{chosen['candidate']:<18}{chosen['dimensions']:>6}{100 * chosen['holdout_accuracy']:>8.1f} %"
            f"{100 * test['top1']:>7.1f} %   {f'{low:.1f} - {high:.1f}':<15}{100 * test['top5']:>5.1f} %"
        )


def plot(name: str, sample: Sample, rows: list[dict], path: Path) -> None:
    """Held-out accuracy over depth, a line a model; baselines are horizontal; the chosen layer's test accuracy has its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    deepest = max((entry["layer"] or 0 for row in rows for entry in row["held_out"].values()), default=0)
    styles = iter(("--", ":", "-."))
    for i, row in enumerate(rows):
        color = COLORS[i % len(COLORS)]
        points: dict[int, float] = {}
        for entry in row["held_out"].values():
            if entry["layer"] is not None:
                points[entry["layer"]] = max(points.get(entry["layer"], 0.0), 100 * entry["holdout_accuracy"])
        if not points:
            axes.axhline(100 * row["chosen"]["holdout_accuracy"], color=color, linestyle=next(styles, ":"), label=row["features"])
            continue
        axes.plot(points.keys(), points.values(), "o-", color=color, label=row["features"])
        low, high = (100 * value for value in row["test"]["top1_interval"])
        accuracy = 100 * row["test"]["top1"]
        axes.errorbar(row["chosen"]["layer"], accuracy, [[accuracy - low], [high - accuracy]], fmt="s", color=color, mfc="white", capsize=3)
    axes.plot([], [], "s", color="black", mfc="white", label="chosen layer, test images")
    axes.set(xlabel="block (0-based)", ylabel="accuracy on held-out training images, %", xticks=np.arange(deepest + 1))
    kind = "linear probe" if name.startswith("linear") else "k-NN"
    axes.set_title(f"{sample.name}: {kind} accuracy over depth", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=150)
    plt.close(figure)
