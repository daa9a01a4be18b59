"""What stands in a result: intervals, and where and how it was measured."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np


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
        "versions": {name: _version(name) for name in packages},
    }


def portable_command(command: str) -> str:
    """A command line with absolute paths cut to their last part, so that a result does not tell where its maker's files lie."""
    return shlex.join(Path(part).name if part.startswith("/") else part for part in shlex.split(command))


def write_json(path: str | Path, result: dict) -> None:
    """Write a result as strictly valid JSON (no NaN), whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    temporary.replace(path)


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
