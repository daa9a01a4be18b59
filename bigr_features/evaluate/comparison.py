"""Results of `bigr probe`, `bigr knn` and `bigr sweep` side by side in one table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

FORMATS = ("text", "markdown", "latex", "csv")
SPLIT_FOLDERS = ("train", "test", "val", "valid", "validation")  # names that tell nothing without the folder above
COLUMNS = ("data", "model", "weights", "feature", "probe", "held out %", "test %", "95 % interval", "n test")
_LATEX = str.maketrans({character: f"\\{character}" for character in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\~{}", "^": r"\^{}"})


def result_rows(content: dict, name: str) -> list[dict]:
    """Rows of a result file: one for each probe in it, with the feature that the probe chose.

    Parameters
    ----------
    content : dict
        What `bigr probe`, `bigr knn` or `bigr sweep` wrote.
    name : str
        Of the file, for messages.

    Returns
    -------
    list of dict
        data, model, weights, feature, probe; held_out and test, accuracies (of retrieval its score) as fractions or None; interval
        (low, high) or None; items, the number of test images or None; data_sha256, by which equal test sets are known.

    Raises
    ------
    ValueError
        For a file of another kind.
    """
    command = content.get("command") if isinstance(content, dict) else None
    if command not in ("probe", "knn", "sweep"):
        found = f"of {command!r}" if isinstance(command, str) else "without a command of ours"
        raise ValueError(f"{name} is a file {found}; a report takes what `bigr probe`, `bigr knn` and `bigr sweep` write.")
    results = content.get("probes", {}) if command == "sweep" else {command: content}
    try:
        return [_row(probe, result) for probe, result in results.items()]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{name} is damaged or of another version: it has no {error}.") from error


def _row(probe: str, result: dict) -> dict:
    protocol, test = result["protocol"], result["test"]
    data = protocol["test"] or protocol["train"]
    if probe == "probe":  # the command of this name runs one of two protocols
        probe = "mae" if isinstance(protocol["probe"], dict) else "exact"
    score = result.get("score")  # of a retrieval probe, which is not judged by accuracy
    best, in_test = result["held_out"][result["chosen"]], score or "top1"
    weights = "" if protocol["model"] == "pixels" else protocol["weights"] or ""
    source = Path(str(data["source"]))
    place = f"{source.parent.name}/{source.name}" if source.name in SPLIT_FOLDERS and source.parent.name else source.name
    return {
        "data": ", ".join(filter(None, (place, data["split"]))),
        "data_sha256": data["sha256"],
        "model": protocol["model"],
        "weights": Path(weights).name if "/" in weights else weights,
        "feature": result["chosen"],
        "probe": f"{probe}, {score}" if score else probe,
        "held_out": best[score or "holdout_accuracy"],
        "test": None if test is None else test[in_test],
        "interval": None if test is None else tuple(test[f"{in_test}_interval"]),
        "items": None if test is None else test["queries" if score else "test_samples"],
    }


def ranked(rows: Sequence[dict]) -> list[dict]:
    """Rows by data set in the order they came; in each the highest test accuracy first, after those what has held-out numbers only, and
    last the scores of retrieval, which are no accuracies.
    """
    order = list(dict.fromkeys(row["data_sha256"] for row in rows))

    def key(row):
        tested = row["test"] is not None
        other = row["probe"].startswith("retrieval")
        return order.index(row["data_sha256"]), other, not tested, -(row["test"] if tested else row["held_out"])

    return sorted(rows, key=key)


def comparison(rows: Sequence[dict], kind: str = "text") -> str:
    """The rows, ranked, as a table.

    Parameters
    ----------
    rows : list of dict
        Of `result_rows`.
    kind : "text", "markdown", "latex" or "csv"
        LaTeX is a tabular of the package booktabs.

    Raises
    ------
    ValueError
        For another format, or no rows.
    """
    if kind not in FORMATS:
        raise ValueError(f"format {kind!r} is unknown; choose one of {', '.join(FORMATS)}.")
    if not rows:
        raise ValueError("there is no result to put into a table.")
    cells = [[_shown(row, column) for column in COLUMNS] for row in ranked(rows)]
    return {"text": _text, "markdown": _markdown, "latex": _latex, "csv": _csv}[kind](cells)


def _shown(row: dict, column: str) -> str:
    if column == "held out %":
        return f"{100 * row['held_out']:.2f}"
    if column == "test %":
        return "" if row["test"] is None else f"{100 * row['test']:.2f}"
    if column == "95 % interval":
        return "" if row["interval"] is None else "{:.2f} - {:.2f}".format(*(100 * value for value in row["interval"]))
    if column == "n test":
        return "" if row["items"] is None else str(row["items"])
    return " ".join(str(row[column]).split())


def _text(cells: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(COLUMNS, *cells, strict=True)]
    lines = [COLUMNS, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(_aligned(cell, width, i) for i, (cell, width) in enumerate(zip(line, widths, strict=True))) for line in lines
    )


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column > COLUMNS.index("probe") else cell.ljust(width)


def _markdown(cells: list[list[str]]) -> str:
    rule = ["---:" if i > COLUMNS.index("probe") else "---" for i in range(len(COLUMNS))]
    escaped = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in line] for line in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in [COLUMNS, rule, *escaped])


def _latex(cells: list[list[str]]) -> str:
    lines = [" & ".join(cell.translate(_LATEX).replace(" - ", "--") for cell in line) + r" \\" for line in [COLUMNS, *cells]]
    align = "".join("r" if i > COLUMNS.index("probe") else "l" for i in range(len(COLUMNS)))
    return "\n".join([rf"\begin{{tabular}}{{{align}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"])


def _csv(cells: list[list[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([COLUMNS, *cells])
    return file.getvalue().rstrip("\n")
