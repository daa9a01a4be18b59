"""The table and pictures of `uniformity.py`, from the rows that are there.   r seeds"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from row_columns import BY_TITLE, COLUMNS, WHOLE, Column, read_rows
from scipy import stats

from bigr_features.evaluate.reports import environment, write_json

# the paper's Table 1 (arXiv:2410.14672)
PAPER_COLUMNS = ("seconds an image", "FID", "IS", "sFID", "precision", "recall", "ACC1", "ACC5")
PAPER = {
    "LlamaGen": (0.13, 3.81, 248.28, 8.49, 0.83, 0.52, 40.5, 64.4),
    "S0": (0.15, 3.21, 239.17, 5.38, 0.83, 0.54, 23.8, 44.2),
    "S1": (0.10, 3.85, 261.81, 6.10, 0.85, 0.47, 61.1, 83.2),
    "S2": (1.04, 7.50, 164.31, 6.56, 0.85, 0.41, 45.2, 69.3),
    "S3": (0.69, 3.17, 262.14, 5.59, 0.86, 0.50, 64.3, 85.4),
}


# the paper's orderings: what is said, the column, and which systems lie above which others
ORDERINGS = (
    ("S3 has the best ACC1", "ACC1", ("S3",), ("LlamaGen", "S0", "S1", "S2")),
    ("masked above autoregressive in ACC1", "ACC1", ("S1", "S3"), ("S0", "S2")),
    ("binary above categorical in ACC1", "ACC1", ("S2", "S3"), ("S0", "S1")),
    ("S2 has the worst FID", "FD", ("S2",), ("LlamaGen", "S0", "S1", "S3")),
    (
        "S2 and S3 take longer than the categorical systems",
        "core-s/image",
        ("S2", "S3"),
        ("LlamaGen", "S0", "S1"),
    ),
)
# these two are compared one to one: with the same objective, and in the same order
PAIRED = {
    "masked above autoregressive in ACC1": (("S1", "S0"), ("S3", "S2")),
    "binary above categorical in ACC1": (("S2", "S0"), ("S3", "S1")),
}


AROUND = ("frechet", "spatial_frechet", "precision", "recall", "coverage")


def write_report(folder: Path, files: list[Path], systems: list[str], seeds: int) -> str:
    """Write uniformity.json, uniformity.png and, where two systems are there, clusters.png; gives the table as text.

    Parameters
    ----------
    folder : Path
        For what is written. Features for the picture of clusters lie in its rows/.
    files : list of Path
        Rows, finished or begun.
    systems : list of str
        All that the table should have.
    seeds : int
        How many rows each of them should have.

    Raises
    ------
    ValueError
        For rows that were measured with different judges, references, numbers of images or settings.
    """
    rows = read_rows(files)
    if not rows:
        return f"{folder} has no rows yet; missing: {', '.join(systems)}, each with {seeds} seeds."
    cells = {name: {column.title: summary(_values(rows, name, column)) for column in COLUMNS} for name in systems}
    missing = [f"{name} (seeds {_list(left)})" for name in systems if (left := _missing(rows, name, seeds))]
    found = orderings(rows)
    result = {
        "benchmark": "uniformity",
        "settings": rows[0]["settings"],
        "interval": "95 %, Student's t over seeds",
        "columns": {c.title: {"digits": c.digits, "paper": PAPER_COLUMNS[c.paper] if c.paper is not None else None} for c in COLUMNS},
        "systems": cells,
        "judge_accuracy": next((row["parts"]["generation"]["judge_accuracy"] for row in rows if "generation" in row["parts"]), None),
        "around": _around(rows),
        "machines": sorted({row["environment"]["cpu"] for row in rows if "environment" in row}),
        "paper": {name: dict(zip(PAPER_COLUMNS, values, strict=True)) for name, values in PAPER.items()},
        "missing": missing,
        "orderings": found,
        "kendall_tau": taus(cells),
        "environment": environment(),
    }
    write_json(folder / "uniformity.json", result)
    _plot(rows[0]["settings"]["name"], cells, folder / "uniformity.png")
    _clusters(folder)
    return _text(result, cells)


def summary(values: list[float]) -> dict | None:
    """Mean over seeds, and its 95 % interval if there are two or more."""
    if not values:
        return None
    mean, interval = float(np.mean(values)), None
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
        interval = (mean - half, mean + half)
    return {"mean": mean, "interval": interval, "seeds": len(values)}


def difference(ours: list[float], theirs: list[float]) -> dict | None:
    """Difference of means with Welch's 95 % interval; no interval of one seed."""
    if not ours or not theirs:
        return None
    value, interval = float(np.mean(ours) - np.mean(theirs)), None
    if min(len(ours), len(theirs)) > 1:
        parts = [np.var(x, ddof=1) / len(x) for x in (ours, theirs)]
        if sum(parts) > 0:
            freedom = sum(parts) ** 2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (ours, theirs), strict=True))
            half = float(stats.t.ppf(0.975, freedom) * np.sqrt(sum(parts)))
        else:
            half = 0.0
        interval = (value - half, value + half)
    return {"value": value, "interval": interval}


def orderings(rows: list[dict]) -> list[dict]:
    """For each of the paper's orderings: the differences it speaks of, and whether it holds, fails, or is undecided here."""
    found = []
    for text, title, above, below in ORDERINGS:
        column = BY_TITLE[title]
        pairs = PAIRED.get(text) or tuple(itertools.product(above, below))
        differences = {f"{a} - {b}": difference(_values(rows, a, column), _values(rows, b, column)) for a, b in pairs}
        known = [entry for entry in differences.values() if entry is not None]
        if len(known) < len(differences):
            verdict = "rows are missing"
        elif any(entry["interval"] is None for entry in known):
            points = all(entry["value"] > 0 for entry in known)
            verdict = "undecided: one seed, " + ("points that way" if points else "does not point that way")
        elif all(entry["interval"][0] > 0 for entry in known):
            verdict = "holds"
        elif any(entry["interval"][1] < 0 for entry in known):
            verdict = "does not hold"
        else:
            verdict = "undecided: an interval holds 0"
        found.append({"ordering": text, "column": title, "verdict": verdict, "differences": differences})
    return found


def taus(cells: dict) -> dict:
    """Kendall's tau between a column here and in the paper, over the systems that are there."""
    found = {}
    for column in COLUMNS:
        if column.paper is None:
            continue
        pairs = [(cell[column.title]["mean"], PAPER[name][column.paper]) for name, cell in cells.items() if cell[column.title]]
        tau = stats.kendalltau(*zip(*pairs, strict=True)).statistic if len(pairs) > 2 else float("nan")
        found[column.title] = {"tau": None if np.isnan(tau) else float(tau), "systems": len(pairs)}
    return found


def _values(rows: list[dict], system: str, column: Column) -> list[float]:
    found = (column.of(row) for row in rows if row["system"] == system)
    return [value for value in found if value is not None]


def _missing(rows: list[dict], system: str, seeds: int) -> list[int]:
    there = {row["seed"] for row in rows if row["system"] == system and set(WHOLE) <= set(row["parts"])}
    return [seed for seed in range(seeds) if seed not in there]


def _text(result: dict, cells: dict) -> str:
    def cell(entry: dict | None, column: Column) -> str:
        if entry is None:
            return "-"
        half = "" if entry["interval"] is None else f" +-{(entry['interval'][1] - entry['interval'][0]) / 2:.{column.digits}f}"
        return f"{entry['mean']:.{column.digits}f}{half}"

    lines = _grid([["", *cells]] + [[c.title, *(cell(cells[name][c.title], c) for name in cells)] for c in COLUMNS])
    lines.append("")
    for name, part in result["around"].items():
        values = ", ".join(f"{key} {value:.3f}" for key, value in part.items())
        lines.append(f"{name}: {values}")
    settings = result["settings"]
    lines.append(f"{settings['name']}: {settings['steps']} steps, {settings['images']} images a row; +- : 95 % over seeds")
    if settings["limit"]:
        lines.append(f"A TRIAL on {settings['limit']} real images of each split; nothing can be concluded from it.")
    lines += [f"{entry['ordering']}: {entry['verdict']}" for entry in result["orderings"]]
    known = {title: entry["tau"] for title, entry in result["kendall_tau"].items() if entry["tau"] is not None}
    if known:
        lines.append("Kendall's tau to the paper: " + ", ".join(f"{title} {tau:.2f}" for title, tau in known.items()))
    lines.append("missing: " + (", ".join(result["missing"]) or "nothing"))
    return "\n".join(lines)


def _around(rows: list[dict]) -> dict[str, dict[str, float]]:
    """What lies around the rows: real test images, and the same decoded from the codes of each tokenizer; one number a metric."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        part = row["parts"].get("generation", {})
        for kind, name in (("floor", "floor, {what}"), ("ceiling", "ceiling, {what}, tokenizer {tokenizer}")):
            if part.get(kind) is not None:
                metrics = part[kind]["metrics"]
                label = name.format(what=part[kind]["what"], tokenizer=row["tokenizer"])
                found.setdefault(label, {key: metrics[key]["value"] for key in AROUND if key in metrics})
    return found


def _grid(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]))]
    return [row[0].ljust(widths[0]) + "".join(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)) for row in rows]


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _plot(name: str, cells: dict, path: Path) -> None:
    """Features against images: ACC1 over the Frechet distance, each with its interval; the poster's message in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    points = {name: (cell["FD"], cell["ACC1"]) for name, cell in cells.items() if cell["FD"] and cell["ACC1"]}
    if not points:
        return
    figure, axes = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
    for system, (x, y) in points.items():
        errors = [None if e["interval"] is None else [[(e["interval"][1] - e["interval"][0]) / 2]] * 2 for e in (x, y)]
        axes.errorbar([x["mean"]], [y["mean"]], xerr=errors[0], yerr=errors[1], fmt="o", capsize=3)
        axes.annotate(system, (x["mean"], y["mean"]), xytext=(6, 5), textcoords="offset points", fontsize=9)
    axes.set(xlabel="Frechet distance (less is better)", ylabel="linear probe at the middle layer, %", title=f"{name}: images and features")
    axes.margins(0.15)  # room for names
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _clusters(folder: Path) -> None:
    """The poster's first picture: t-SNE of test images' features of LlamaGen beside BiGR, from what rows of seed 0 left."""
    from bigr_features.plots.figures import plot_features

    files = {name: folder / "rows" / f"{name}_seed0.npz" for name in ("LlamaGen", "S3")}
    if not all(path.is_file() for path in files.values()):
        return
    features, labels = {}, None
    for name, path in files.items():
        with np.load(path, allow_pickle=False) as arrays:
            features[name.replace("S3", "BiGR (S3)")], labels = arrays["features"].astype(np.float32), arrays["labels"]
    perplexity = min(30.0, (len(labels) - 1) / 3)
    figure, _, _ = plot_features(features, labels, title="features of the middle layer", columns=2, perplexity=perplexity)
    figure.savefig(folder / "clusters.png", dpi=150)
