"""Rows as files have them, and the numbers of a row that tables show."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from bigr_features.evaluate.generation_report import check_comparable


@dataclass(frozen=True)
class Column:
    """title; where the number stands in a row's parts; factor and decimals; place in the paper's table, if it is there."""

    title: str
    place: tuple[str, ...]
    factor: float = 1.0
    digits: int = 2
    paper: int | None = None

    def of(self, row: dict) -> float | None:
        value = row["parts"]
        for key in self.place:
            value = value.get(key) if isinstance(value, dict) else None
        return None if value is None else self.factor * value

    def interval_of(self, row: dict) -> list[float] | None:
        """The 95 % interval of the one row, over images, if it has one."""
        last = {"value": "interval", "top1": "top1_interval", "top5": "top5_interval"}.get(self.place[-1])
        value = row["parts"] if last else None
        for key in (*self.place[:-1], last):
            value = value.get(key) if isinstance(value, dict) else None
        return None if value is None else [self.factor * bound for bound in value]


def _metric(title: str, name: str, digits: int, paper: int | None = None, factor: float = 1.0) -> Column:
    return Column(title, ("generation", "metrics", name, "value"), factor, digits, paper)


COLUMNS = (
    Column("trunk M", ("training", "trunk_parameters"), 1e-6),
    Column("total M", ("training", "generator_parameters"), 1e-6),
    Column("core-s", ("training", "core_seconds"), 1, 0),
    Column("core-s/image", ("speed", "core_seconds_per_image"), 1, 3, 0),
    _metric("FD", "frechet", 3, 1),
    _metric("IS", "inception_score", 2, 2),
    _metric("sFD", "spatial_frechet", 3, 3),
    _metric("prec.", "precision", 3, 4),
    _metric("recall", "recall", 3, 5),
    _metric("coverage", "coverage", 3),
    _metric("recognised", "recognised", 1, factor=100),
    Column("FD, chosen", ("chosen", "metrics", "frechet", "value"), 1, 3),
    Column("ACC1", ("probes", "linear_middle", "top1"), 100, 1, 6),
    Column("ACC5", ("probes", "linear_middle", "top5"), 100, 1, 7),
    Column("ACC1, best layer", ("probes", "linear_chosen", "top1"), 100, 1),
    Column("k-NN", ("probes", "knn", "top1"), 100, 1),
    Column("attentive", ("attentive", "top1"), 100, 1),
)
WHOLE = ("training", "generation", "chosen", "speed", "probes", "attentive")  # parts of a whole row
BY_TITLE = {column.title: column for column in COLUMNS}


def read_rows(files: list[Path]) -> list[dict]:
    """Rows that may stand in one table.

    Raises
    ------
    ValueError
        For rows that were measured with different judges, references, numbers of images, settings or tokenizers.
    """
    rows = [json.loads(path.read_text()) for path in files]
    measured = {f"{row['system']}, seed {row['seed']}": row["parts"]["generation"] for row in rows if "generation" in row["parts"]}
    if len(measured) > 1:
        check_comparable(measured)
    if len({json.dumps(row["settings"], sort_keys=True) for row in rows}) > 1:
        raise ValueError(f"the rows {', '.join(path.stem for path in files)} were made with different settings; keep them apart by --out.")
    tokenizers: dict[str, dict[str, str]] = {}
    for row in rows:
        if "training" in row["parts"]:
            tokenizers.setdefault(row["tokenizer"], {})[row["parts"]["training"]["tokenizer"]["weights_sha256"]] = row["system"]
    for name, found in tokenizers.items():
        if len(found) > 1:
            raise ValueError(
                f"{' and '.join(found.values())} stand on different tokenizers {name!r} ({', '.join(key[:12] for key in found)}); "
                "their numbers cannot stand side by side: take one --kept folder for all."
            )
    return rows


def rows_and_missing(files: list[Path], seed: int, parts: dict[str, tuple[str, ...]]) -> tuple[dict[str, dict], list[str]]:
    """The rows of a seed by name, and the names whose parts are not all there."""
    rows = {row["system"]: row for row in read_rows(files) if row["seed"] == seed}
    return rows, [name for name, wanted in parts.items() if not set(wanted) <= set(rows.get(name, {"parts": {}})["parts"])]
