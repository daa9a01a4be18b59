"""What linear_probe.py and knn.py have in common: the loop over data and features, the table, the JSON, the picture over depth."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from pathlib import Path

from feature_sets import FeatureSet, data_sets, feature_sets

from bigr_features.data import Sample
from bigr_features.evaluate.reports import array_hash, environment, evaluation_result, write_json
from bigr_features.evaluate.selection import choose
from bigr_features.plots.depth import accuracy_over_depth

log = logging.getLogger(__name__)


def run(name: str, protocol: dict, classifier: Callable, args: argparse.Namespace, votes: bool = False) -> None:
    """Measure every feature set on every data set, and write what was found.

    Parameters
    ----------
    name : str
        Of the benchmark, and of its files.
    protocol : dict
        Of the classifier, for the result.
    classifier : callable
        From the number of training images to a new estimator.
    args : Namespace
        With the options of `feature_sets.add_arguments`, and `out`.
    votes : bool
        Its scores are shares of votes.
    """
    for sample in data_sets(args):
        log.info("%s: %d training and %d test images", sample.name, len(sample.train_labels), len(sample.test_labels))
        rows = [measure(features, sample, classifier, args, votes) for features in feature_sets(sample, args)]
        print_table(sample, rows)
        path = args.out / f"{name}_{sample.name}.json"
        write_json(path, result(name, sample, protocol, rows, args))
        plot(name, sample, rows, path.with_suffix(".png"))
        print(f"wrote {path} and .png\n")


def measure(features: FeatureSet, sample: Sample, classifier: Callable, args: argparse.Namespace, votes: bool) -> dict:
    """A row: every candidate on held-out training images, the best of them on the test images, once."""
    log.info("%s", features.name)
    estimator = classifier(len(sample.train_labels))
    candidates = {name: (estimator, train) for name, (train, _) in features.candidates.items()}
    choice = choose(candidates, sample.train_labels, args.holdout, args.seed)
    scores = choice.estimator.predict_proba(features.candidates[choice.name][1])
    names = list(sample.class_names)
    test = evaluation_result(scores, sample.test_labels, choice.estimator.classes_, {}, votes, class_names=names)
    held_out = {name: {"layer": features.layers.get(name), **row} for name, row in choice.rows.items()}
    return {
        "features": features.name,
        **features.facts,
        "chosen": {"candidate": choice.name, **held_out[choice.name]},
        "test": {key: value for key, value in test.items() if key not in ("protocol", "environment", "seeds", "interval")},
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
            "pooling": {"rows": args.pooling, "mean": "over all tokens", "quarters": "over each quarter of the token grid, side by side"},
            "chosen": f"layer and every setting: on {args.holdout:.0%} of the training images, drawn by class; test images used once",
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
        top5 = "-" if test["top5"] is None else f"{100 * test['top5']:.1f} %"
        print(
            f"{row['features']:<{width}}{chosen['candidate']:<18}{chosen['features']:>6}{100 * chosen['holdout_accuracy']:>8.1f} %"
            f"{100 * test['top1']:>7.1f} %   {f'{low:.1f} - {high:.1f}':<15}{top5:>7}"
        )


def plot(name: str, sample: Sample, rows: list[dict], path: Path) -> None:
    """Held-out accuracy over depth, a line a model; baselines are horizontal; the chosen layer's test accuracy has its interval."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curves: dict[str, dict[int, float]] = {}
    levels: dict[str, float] = {}
    for row in rows:
        for entry in row["held_out"].values():
            if entry["layer"] is None:
                levels[row["features"]] = max(levels.get(row["features"], 0.0), entry["holdout_accuracy"])
            else:
                points = curves.setdefault(row["features"], {})
                points[entry["layer"]] = max(points.get(entry["layer"], 0.0), entry["holdout_accuracy"])
    figure, axes = plt.subplots(figsize=(7.6, 4.4), layout="constrained")
    accuracy_over_depth(axes, curves, levels, {label: label.rpartition(", ")[0] for label in curves})
    kind = "k-NN" if name == "knn" else "linear probe"
    axes.set(ylabel="accuracy on held-out training images, %", title=f"{sample.name}: {kind} over depth")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=150)
    plt.close(figure)
