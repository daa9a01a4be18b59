"""Figure 4 at nano size: three sizes of BiGR by four code dimensions, images and features, beside the tokenizer's own reconstruction.

One seed and a shorter training than `uniformity.py`, so that differences between neighbouring points may be chance: the intervals are over
images, not over trainings. Every point is a row of its own, part by part and resumable, as in `uniformity.py`; the picture is made from
what is there, and says what is missing. Tokenizers are trained once for each code dimension and kept.

    python benchmarks/scaling.py --dataset path/to/cifar10                            # everything
    python benchmarks/scaling.py --dataset path/to/cifar10 --only M_k12               # one point
    python benchmarks/scaling.py --dataset path/to/cifar10 --table                    # table and picture of what is there
"""

from __future__ import annotations

import argparse
from pathlib import Path

from row_columns import BY_TITLE, rows_and_missing
from row_options import add_options, row_files, settle
from row_shared import run_rows
from systems import BIGR, CODE_DIM, System
from uniformity_row import Row

from bigr_features.evaluate.reports import environment, write_json

SIZES = {"S": {"depth": 6, "width": 96}, "M": {}, "L": {"depth": 10, "width": 192}}  # M is bigr_nano, 8 blocks of width 144
CODE_DIMS = (8, 12, 16, 24)
PARTS = ("training", "generation", "probes")
SEEDS = [0]


def point(size: str, code_dim: int) -> System:
    """BiGR of a size on codes of so many bits a token."""
    tokenizer = "binary" if code_dim == CODE_DIM else f"binary_k{code_dim}"
    return System("bigr_nano", tokenizer, BIGR, changes={"code_dim": code_dim, **SIZES[size]})


POINTS = {f"{size}_k{code_dim}": (size, code_dim) for code_dim in CODE_DIMS for size in SIZES}


def main() -> None:
    args = parse_arguments()
    run_rows(args, lambda shared, name, seed: Row(shared, name, point(*POINTS[name]), seed, PARTS).run())
    print(write_report(args.out, row_files(args)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(POINTS), default=list(POINTS), help="points to run (default: all)")
    add_options(parser, steps=1_000, images=2_000, seeds=SEEDS)
    return settle(parser, parser.parse_args(), "scaling", SEEDS)


def write_report(folder: Path, files: list[Path]) -> str:
    """Write scaling.json and scaling.png; gives the table as text.

    Raises
    ------
    ValueError
        For rows that cannot be compared; see `row_columns.read_rows`.
    """
    rows, missing = rows_and_missing(files, SEEDS[0], dict.fromkeys(POINTS, PARTS))
    if not rows:
        return f"{folder} has no points yet; missing: {', '.join(missing)}."
    points = [{"name": name, "size": size, "code_dim": k, **_numbers(rows[name])} for name, (size, k) in POINTS.items() if name in rows]
    settings = next(iter(rows.values()))["settings"]
    about = {"interval": "95 %, over images; one training each", "missing": missing, "environment": environment()}
    write_json(folder / "scaling.json", {"benchmark": "scaling", "settings": settings, "points": points, **about})
    _plot(points, missing, settings, folder / "scaling.png")
    lines = [f"{'':8}{'generator M':>14}{'FD':>10}{'ACC1':>8}{'tokenizer alone, FD':>22}"]
    for entry in points:
        texts = [_text(entry[key], digits) for key, digits in (("parameters", 2), ("FD", 3), ("ACC1", 1), ("tokenizer_FD", 3))]
        lines.append(f"{entry['name']:8}" + "".join(text.rjust(width) for text, width in zip(texts, (14, 10, 8, 22), strict=True)))
    lines.append(f"{settings['name']}: {settings['steps']} steps, {settings['images']} images a point, one seed")
    return "\n".join([*lines, f"missing: {', '.join(missing) or 'nothing'}"])


def _numbers(row: dict) -> dict:
    found = {"parameters": BY_TITLE["total M"].of(row), "core_seconds": BY_TITLE["core-s"].of(row)}
    for title in ("FD", "ACC1"):
        found |= {title: BY_TITLE[title].of(row), f"{title}_interval": BY_TITLE[title].interval_of(row)}
    ceiling = row["parts"].get("generation", {}).get("ceiling")
    return {**found, "tokenizer_FD": ceiling["metrics"]["frechet"]["value"] if ceiling else None}


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _plot(points: list[dict], missing: list[str], settings: dict, path: Path) -> None:
    """Frechet distance and ACC1 over the code dimension, a line a size; the tokenizer's own distance in grey."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4.0), layout="constrained")
    for axes, title, label in zip(
        panels, ("FD", "ACC1"), ("Frechet distance (less is better)", "linear probe, middle layer, %"), strict=True
    ):
        for size in SIZES:
            own = [entry for entry in points if entry["size"] == size and entry[title] is not None]
            if not own:
                continue
            x, y = [entry["code_dim"] for entry in own], [entry[title] for entry in own]
            line = axes.plot(x, y, "o-", label=f"{size}, {own[0]['parameters']:.1f} M")[0]
            bands = [entry[f"{title}_interval"] or [entry[title]] * 2 for entry in own]
            axes.fill_between(x, *zip(*bands, strict=True), color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set(xlabel="code dimension, bits a token", ylabel=label, xticks=CODE_DIMS)
        axes.grid(alpha=0.3)
    grey = {entry["code_dim"]: entry["tokenizer_FD"] for entry in points if entry["tokenizer_FD"] is not None}
    if grey:
        panels[0].plot(list(grey), list(grey.values()), "o", color="0.55", label="tokenizer alone")
    panels[0].legend(fontsize=8)
    left = f"; missing: {', '.join(missing)}" if missing else ""
    figure.suptitle(f"{settings['name']}, {settings['steps']:,} steps, one seed{left}", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
