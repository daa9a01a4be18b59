"""The paper's ablations at nano size: Tables 2 (what the transcoder predicts), 3 (order), 4 (condition) and 8 (how bits are drawn).

Every line is a row of its own, part by part and resumable, as in `uniformity.py`: some are trained, and some draw from the weights of S3
in another way. With the same settings, S3 and S2 are the runs of `uniformity.py` in the same --work folder. One seed; intervals are over
images.

    python benchmarks/ablations.py --dataset path/to/cifar10                          # everything
    python benchmarks/ablations.py --dataset path/to/cifar10 --only S3 direct         # some lines
    python benchmarks/ablations.py --dataset path/to/cifar10 --table                  # the tables of what is there
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from row_columns import BY_TITLE, rows_and_missing
from row_options import add_options, row_files, settle
from row_shared import run_rows
from systems import BIGR, SYSTEMS, System
from uniformity_row import Row

from bigr_features.evaluate.reports import environment, write_json
from bigr_features.models.presets import preset_configs

SEEDS = [0]
S3 = SYSTEMS["S3"]
TRAINED = ("training", "generation", "speed", "probes")
DRAWN = ("generation", "speed")
TITLES = ("FD", "IS", "sFD", "ACC1", "ACC5", "core-s/image")


def trained(sampling: dict | None = None, **changes) -> System:
    """S3 with a change that has to be trained."""
    return replace(S3, changes={**S3.changes, **changes}, sampling=BIGR if sampling is None else sampling)


def drawn(**changes) -> System:
    """The weights of S3, drawn from in another way."""
    sampling = {**BIGR, **changes}
    if sampling.get("order", "entropy") != "entropy":
        sampling.pop("gumbel_temperature")  # which perturbs the confidence that these orders do not look at
    return replace(S3, sampling=sampling, weights="S3")


TOKENS = preset_configs(S3.preset, **S3.changes)[1].num_tokens
SYSTEMS_HERE = {
    "S3": S3,
    # pure noise at the one noise level there is: the bits it sees say nothing, and it predicts z_0 from the condition alone
    "direct": trained({**BIGR, "num_denoise_steps": 1}, predict_flip=False, num_timesteps=1, num_denoise_steps=1),
    "predict_clean": trained(predict_flip=False),
    "S2": SYSTEMS["S2"],
    "raster": drawn(order="raster", num_reveal_steps=TOKENS),
    "random": drawn(order="random"),
    "halton": drawn(order="halton"),
    "unconditional": trained({name: value for name, value in BIGR.items() if name != "guidance_scale"}, class_dropout=1.0),
    "threshold": drawn(bits="threshold"),
}


@dataclass(frozen=True)
class Table:
    """number in the paper, what is asked, and by row: how it is called, and the paper's numbers by column."""

    number: int
    question: str
    lines: dict[str, tuple[str, dict[str, float]]]


OURS = {"FD": 3.17, "IS": 262, "sFD": 5.59, "ACC1": 64.3}  # the paper's S3
TABLES = (
    Table(
        2,
        "What does the transcoder predict?",
        {
            "direct": ("bits at once, plain BCE", {"FD": 5.84, "IS": 212, "sFD": 9.89, "ACC1": 63.3}),
            "predict_clean": ("z_0", {"FD": 4.39, "IS": 274, "sFD": 9.07, "ACC1": 62.0}),
            "S3": ("the flip, z_t xor z_0", OURS),
        },
    ),
    Table(
        3,
        "In which order?",
        {
            "S2": ("autoregressive, raster", {"FD": 7.50, "core-s/image": 1.04}),
            "raster": ("masked, raster, a token a step", {"FD": 4.51, "core-s/image": 8.81}),
            "random": ("masked, random", {"FD": 7.12, "core-s/image": 0.69}),
            "halton": ("masked, Halton", {}),
            "S3": ("masked, entropy", {"FD": 3.17, "core-s/image": 0.69}),
        },
    ),
    Table(
        4,
        "Trained with classes or without?",
        {"S3": ("with", {"ACC1": 67.5, "ACC5": 87.5}), "unconditional": ("without", {"ACC1": 68.3, "ACC5": 88.4})},
    ),
    Table(
        8,
        "How are bits drawn?",
        {"threshold": ("thresholded", {"FD": 3.19, "IS": 239.8, "sFD": 6.25}), "S3": ("sampled", {"FD": 3.17, "IS": 262.1, "sFD": 5.59})},
    ),
)


def main() -> None:
    args = parse_arguments()
    run_rows(args, lambda shared, name, seed: Row(shared, name, SYSTEMS_HERE[name], seed, parts_of(name)).run())
    print(write_report(args.out, row_files(args)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(SYSTEMS_HERE)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="lines to run (default: all)")
    add_options(parser, steps=2_000, images=2_000, seeds=SEEDS)
    return settle(parser, parser.parse_args(), "ablations", SEEDS)


def parts_of(name: str) -> tuple[str, ...]:
    """What a line measures: features depend on the weights alone."""
    return DRAWN if SYSTEMS_HERE[name].weights else TRAINED


def write_report(folder: Path, files: list[Path]) -> str:
    """Write ablations.json; gives the tables as text.

    Raises
    ------
    ValueError
        For rows that cannot be compared; see `row_columns.read_rows`.
    """
    rows, missing = rows_and_missing(files, SEEDS[0], {name: parts_of(name) for name in SYSTEMS_HERE})
    if not rows:
        return f"{folder} has no lines yet; missing: {', '.join(missing)}."
    settings = next(iter(rows.values()))["settings"]
    tables = [
        {
            "number": table.number,
            "question": table.question,
            "lines": [
                {"row": name, "what": what, "paper": paper, "here": _numbers(rows[name]) if name in rows else None}
                for name, (what, paper) in table.lines.items()
            ],
        }
        for table in TABLES
    ]
    about = {"interval": "95 %, over images; one training each", "missing": missing, "environment": environment()}
    write_json(folder / "ablations.json", {"benchmark": "ablations", "settings": settings, "tables": tables, **about})
    lines = []
    for table in tables:
        lines.append(f"Table {table['number']}: {table['question']}")
        lines.append(f"  {'':32}" + "".join(title.rjust(14) for title in TITLES))
        for line in table["lines"]:
            here = line["here"] or {}
            cells = [f"{here[title]['value']:.3f}" if here.get(title) else "-" for title in TITLES]
            lines.append(f"  {line['what']:32}" + "".join(cell.rjust(14) for cell in cells))
    lines.append(f"{settings['name']}: {settings['steps']} steps, {settings['images']} images a line, one seed")
    return "\n".join([*lines, f"missing: {', '.join(missing) or 'nothing'}"])


def _numbers(row: dict) -> dict:
    found = {title: (BY_TITLE[title].of(row), BY_TITLE[title].interval_of(row)) for title in TITLES}
    return {title: {"value": value, "interval": interval} for title, (value, interval) in found.items() if value is not None}


if __name__ == "__main__":
    main()
