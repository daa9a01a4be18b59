"""What stands in a result: intervals, and where and how it was measured."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ..functional.precision import instruction_sets
from ..storage.json_files import write_json as write_json  # results are written with it
from .metrics import class_accuracies, top_k_correct


def evaluation_result(
    scores: np.ndarray,
    labels: np.ndarray,
    classes: np.ndarray,
    protocol: dict,
    votes: bool = False,
    seed_accuracies: list[float] | None = None,
    class_names: list[str] | None = None,
) -> dict:
    """All that is reported of one classifier on one test set, ready for `write_json`.

    Parameters
    ----------
    scores : array (n, C)
        Larger is more likely, in the order of `classes`.
    labels : array (n,)
        True classes of the test samples.
    classes : array (C,)
        Classes of the training set, sorted.
    protocol : dict
        How features and classifier were made and chosen: weights and data hashes, layer, pooling, transform, dtype, ...
    votes : bool
        Scores are shares of votes: a class without any is no guess, so that top-5 counts no class that nobody voted for.
    seed_accuracies : list of float, optional
        Top-1 of the same with other seeds, for mean and standard deviation.
    class_names : list of str, optional
        Names by class index.

    Returns
    -------
    dict
        top1, top5 (None with five classes or fewer), 95 % bootstrap intervals over test samples, accuracy of each class, classes that only
        one of the two sets has, spread over seeds, protocol, and environment.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if votes:
        scores = np.where(scores > 0, scores, -np.inf)
    labels, classes = np.asarray(labels), np.asarray(classes)

    def named(name):
        return str(name) if class_names is None else str(class_names[int(name)])

    top1 = top_k_correct(scores, labels, classes, 1)
    top5 = top_k_correct(scores, labels, classes, 5) if len(classes) > 5 else None
    seeds = None
    if seed_accuracies is not None:
        spread = float(np.std(seed_accuracies, ddof=1)) if len(seed_accuracies) > 1 else None
        seeds = {"top1": [float(value) for value in seed_accuracies], "mean": float(np.mean(seed_accuracies)), "std": spread}
    per_class = class_accuracies(top1, labels, classes)
    names = {str(name): named(name) for name in [*classes, *np.unique(labels)]}
    return {
        "test_samples": len(labels),
        "top1": float(top1.mean()),
        "top1_interval": bootstrap_interval(top1),
        "top5": None if top5 is None else float(top5.mean()),
        "top5_interval": None if top5 is None else bootstrap_interval(top5),
        "interval": "95 % bootstrap over test samples",
        "per_class": {names[key]: value for key, value in per_class.items()},
        "classes_not_in_test": [named(name) for name in np.setdiff1d(classes, labels)],
        "classes_not_in_train": [named(name) for name in np.setdiff1d(labels, classes)],
        "seeds": seeds,
        "protocol": protocol,
        "environment": environment(),
    }


def bootstrap_interval(correct: np.ndarray, level: float = 0.95, resamples: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of an accuracy over test items.

    Parameters
    ----------
    correct : bool array (n,)
    level : float
        Coverage.

    Returns
    -------
    (low, high), fractions
        Resampling n items with replacement makes the number of correct ones binomial, which is drawn directly.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.ndim != 1 or not len(correct):
        raise ValueError(f"correct has shape {correct.shape}; expected one flag for each of at least 1 item.")
    draws = np.random.default_rng(seed).binomial(len(correct), correct.mean(), size=resamples) / len(correct)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def array_hash(*arrays: np.ndarray) -> str:
    """SHA-256 over dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def environment(packages: tuple[str, ...] = ("bigr-features", "torch", "timm", "numpy", "scikit-learn")) -> dict:
    """Hardware, versions, command and date of this run; no user or path beyond the command as it was typed."""
    return {
        "date": date.today().isoformat(),
        "command": portable_command(shlex.join(["python", *sys.argv])),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "instruction_sets": instruction_sets(),
        "versions": {name: _version(name) for name in packages},
    }


def portable_command(command: str) -> str:
    """A command line with absolute paths cut to their last part, so that a result does not tell where its maker's files lie.

    `python -m bigr_features.cli`, whose file is named `__main__.py`, becomes `bigr`.
    """
    parts = [re.sub(r"(?:^|(?<==))/(?:.*/)?(?=[^/])", "", part) for part in shlex.split(command)]
    return shlex.join("bigr" if part == "__main__.py" else part for part in parts if [part, *parts[1:2]] != ["python", "__main__.py"])


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
