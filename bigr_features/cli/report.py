"""`bigr report`: results of probe, knn and sweep in one table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Put results into one table: by data set, the highest test accuracy first, with its interval.

    Parameters
    ----------
    results : tuple of Path
        JSON files of `bigr probe`, `bigr knn` and `bigr sweep`, or folders of `bigr sweep`.
    format : str
        Kind of table: text, markdown, latex (booktabs) or csv.
    out : Path, optional
        File to write; by default the table is printed.
    """

    results: Annotated[tuple[Path, ...], tyro.conf.Positional]
    format: Literal["text", "markdown", "latex", "csv"] = "text"
    out: Path | None = None


def report(config: ReportConfig) -> None:
    """Run the command."""
    from ..evaluate.comparison import comparison, result_rows
    from ..storage.atomic import write_atomically

    if not config.results:
        raise ValueError("give one result file or more: bigr report RESULT.json; `bigr probe`, `bigr knn` and `bigr sweep` write them.")
    rows = []
    for path in config.results:
        path = path / "sweep.json" if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"there is no result file {path}.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}); give files that `bigr probe`, `bigr knn` or `bigr sweep` wrote.") from error
        rows += result_rows(content, str(path))
    table = comparison(rows, config.format)
    if config.out is None:
        print(table)
        return
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(config.out, (table + "\n").encode())
    print(f"wrote {config.out}")
