"""Sections of README.md on what makes features better and on peers of equal budget, for `tables.py`."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
STUDIES = sorted(path.parent.name for path in RESULTS.glob("recipe/*/recipe.json"))
BUDGETS = sorted({path.parent.name for path in RESULTS.glob("equal_budget/*/*_seed*.json")})
ROWS = {
    "bigr": "BiGR",
    "mae": "masked autoencoder",
    "simclr": "SimCLR",
    "supervised": "supervised (ceiling)",
    "random": "random weights",
    "pixels": "raw pixels",
    "bits": "tokenizer's bits",
    "kmeans": "k-means of patches",
    "imagenet": "trained on ImageNet",
}
READ_OUTS = {"mean": "linear probe, mean", "best": "best read-out", "knn": "k-NN"}


def recipe_sections(read: Callable, table: Callable, percent: Callable, made_by: Callable) -> list[tuple[str, Callable[[], str]]]:
    """Titles and texts of the sections that there are results for."""
    found: list[tuple[str, Callable[[], str]]] = []
    if STUDIES:
        found.append(("What makes features better?", lambda: recipe_section(read, table, made_by)))
    if BUDGETS:
        found.append(("How do they compare at equal budget?", lambda: equal_budget_section(read, table, percent, made_by)))
    return found


def recipe_section(read: Callable, table: Callable, made_by: Callable, names: list[str] = STUDIES) -> str:
    """What each change of the short trainings brought, a table a data set."""
    parts = []
    for name in names:
        result = read(f"recipe/{name}/recipe")
        budget, protocol = result["budget"], result["protocol"]
        rows = [
            [
                row["name"].replace("+", " + "),
                row["why"],
                str(row["bits"]),
                *(_spread(row[key]) for key in ("middle", "best", "best_knn")),
                f"{row['core_minutes']:.0f}",
            ]
            for row in sorted(result["rows"], key=lambda row: -np.mean(row["best"]))
        ]
        parts += [
            f"{name}: trainings of {budget['steps']:,} steps of {budget['batch_size']}, one thing changed in each (or several, joined by +). "
            f"Accuracy in percent of {protocol['probe']}, fitted on {protocol['fit']} and measured on {protocol['measured_on']}. Features: "
            f"{protocol['features']}. k-NN: {protocol['knn']}. ± is the standard deviation over seeds.",
            table(["run", "what it changes", "bits a token", "middle block", "best block", "k-NN", "core-minutes"], rows),
            made_by(*[f"recipe/{name}/{file}" for file in result["files"][:1]]),
        ]
    return "\n\n".join(parts)


def equal_budget_section(read: Callable, table: Callable, percent: Callable, made_by: Callable, names: list[str] = BUDGETS) -> str:
    """BiGR's features beside peers, a table a data set, with paired differences to the masked autoencoder."""
    parts = []
    for name in names:
        found = [(path.stem, json.loads(path.read_text())) for path in sorted((RESULTS / "equal_budget" / name).glob("*_seed*.json"))]
        found.sort(key=lambda pair: (list(ROWS).index(pair[1]["row"]), pair[1]["seed"]))
        rows = [
            [
                ROWS[row["row"]],
                str(row["seed"]),
                _count(row.get("images_seen")),
                "" if row.get("core_seconds") is None else f"{row['core_seconds']:,.0f}",
                _count(row.get("parameters")),
                *(percent(row[key]["accuracy"], row[key]["interval"]) for key in READ_OUTS),
            ]
            for _, row in found
        ]
        data = found[0][1]["dataset"]
        head = ["", "seed", "images seen", "core-seconds", "parameters", *READ_OUTS.values()]
        protocol = found[0][1]["protocol"]
        parts += [
            f"{name}, {data['train']:,} training and {data['test']:,} test images; percent with 95 % intervals over test images. Chosen: {protocol['chosen']}. "
            f"Best read-out: {protocol['best']}. k-NN: {protocol['knn']}.",
            table(head, rows),
        ]
        autoencoders = {row["seed"]: row for _, row in found if row["row"] == "mae"}
        lines = []
        for _, row in found:
            if row["row"] == "bigr" and row["seed"] in autoencoders:
                for key, title in READ_OUTS.items():
                    difference, (low, high) = paired(row[key], autoencoders[row["seed"]][key], data["test"])
                    lines.append(f"- {title}: {100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
        if lines:
            parts.append("BiGR less the masked autoencoder, in points, paired over test images:\n\n" + "\n".join(lines))
        missing = [ROWS[key] for key in ROWS if key not in {row["row"] for _, row in found}]
        if missing:
            parts.append(f"Not measured yet: {', '.join(missing)}.")
        parts.append(made_by(*(f"equal_budget/{name}/{stem}" for stem, _ in found)))
    return "\n\n".join(parts)


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f} ({len(values)})" if len(values) > 1 else "")


def _count(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def paired(ours: dict, theirs: dict, count: int, resamples: int = 10_000, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Difference of two accuracies on the same test images, and its 95 % interval by resampling images."""
    right = [np.unpackbits(np.frombuffer(base64.b64decode(row["right"]), np.uint8))[:count].astype(np.int8) for row in (ours, theirs)]
    difference = right[0] - right[1]
    shares = [(difference == 1).mean(), (difference == -1).mean()]
    draws = np.random.default_rng(seed).multinomial(count, [*shares, max(0.0, 1 - sum(shares))], size=resamples)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / count, (0.025, 0.975))
    return float(difference.mean()), (float(low), float(high))
