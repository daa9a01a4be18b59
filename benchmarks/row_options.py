"""Options that `uniformity.py`, `scaling.py` and `ablations.py` share, and what follows from them."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
TRIAL_IMAGES = 2_000  # a run with fewer generated images is a trial, and reads few real ones
TOKENIZER_STEPS = 3_500
# what shapes a row: rows of one table agree in all of it
SETTINGS = (
    "name", "steps", "batch_size", "learning_rate", "warmup_steps", "precision", "tokenizer_steps", "tokenizer_batch_size", "images",
    "limit", "judge_epochs",
)  # fmt: skip

log = logging.getLogger("rows")


def add_options(parser: argparse.ArgumentParser, steps: int, images: int, seeds: list[int]) -> None:
    """Add the options, with a script's own defaults."""
    add = parser.add_argument
    add("--dataset", required=True, help="labelled images: sample:fashion_mnist, a folder, a file, or a Hub id")
    add("--test-split", default="test")
    add("--seed", nargs="+", type=int, help=f"seeds to run (default: {' '.join(map(str, seeds))}; in a trial the first of them)")
    add("--table", action="store_true", help="run nothing; make table and pictures of what is there")
    add("--steps", type=int, default=steps, help="training steps of every row (default: %(default)s)")
    add("--batch-size", type=int, help="images of a training step (default: 64; in a trial 16)")
    add("--learning-rate", type=float, default=1e-3, help="of every row (default: %(default)s)")
    add("--warmup-steps", type=int, default=200, help="at most a tenth of the steps (default: %(default)s)")
    add("--precision", choices=("bf16", "fp32"), default="bf16", help="of every training (default: %(default)s)")
    add("--tokenizer-steps", type=int, help=f"training steps of every tokenizer (default: {TOKENIZER_STEPS}; in a trial at most --steps)")
    add("--tokenizer-batch-size", type=int, help="the same of tokenizers (default: 32; in a trial 16)")
    add("--judge-epochs", type=int, default=8)
    add("--images", type=int, default=images, help=f"generated images a row; fewer than {TRIAL_IMAGES} make a trial (default: %(default)s)")
    add("--limit", type=int, help="real images of each split (default: all; in a trial 5 times --images, 1,000 at least)")
    add("--resamples", type=int, help="of every bootstrap interval of generated images (default: 200; in a trial 20)")
    add("--threads", type=int, default=0)
    add("--work", type=Path, help="folder for runs, codes and generated images (default: runs/uniformity/DATASET, or DATASET_trial)")
    add("--kept", type=Path, help="folder of tokenizers and judge that all machines use (default: results/uniformity/DATASET)")
    add("--out", type=Path, help="folder for finished rows, table and pictures (default: results/BENCHMARK/DATASET; of a trial in --work)")


def settle(parser: argparse.ArgumentParser, args: argparse.Namespace, benchmark: str, seeds: list[int]) -> argparse.Namespace:
    """Check the options, and fill in what follows from others: name, benchmark, trial, begun, and all that was not given."""
    for name in ("steps", "batch_size", "images", "judge_epochs", "tokenizer_batch_size", "tokenizer_steps", "limit"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name.replace('_', '-')} {value} was given; give 1 or more")
    args.name = args.dataset.split(":")[-1].rstrip("/").rsplit("/", 1)[-1]
    args.benchmark = benchmark
    args.trial = args.images < TRIAL_IMAGES
    args.work = args.work or Path("runs") / "uniformity" / (f"{args.name}_trial" if args.trial else args.name)
    if args.trial:
        args.limit = args.limit or max(1_000, 5 * args.images)
        log.info("a trial: at most %d real images of each split, and its own tokenizers and judge; all in %s", args.limit, args.work)
    args.batch_size = args.batch_size or (16 if args.trial else 64)
    args.tokenizer_batch_size = args.tokenizer_batch_size or (16 if args.trial else 32)
    args.resamples = (20 if args.trial else 200) if args.resamples is None else args.resamples
    folder = args.work / "trial" if args.trial else RESULTS
    args.kept = args.kept or folder / "uniformity" / args.name
    args.out = args.out or folder / benchmark / args.name
    args.begun = args.work / "begun" / benchmark
    args.seed = args.seed or (seeds[:1] if args.trial else seeds)
    args.tokenizer_steps = args.tokenizer_steps or (min(args.steps, TOKENIZER_STEPS) if args.trial else TOKENIZER_STEPS)
    args.warmup_steps = min(args.warmup_steps, args.steps // 10)
    return args


def settings_of(args: argparse.Namespace) -> dict:
    """What shapes a row."""
    return {name: getattr(args, name) for name in SETTINGS}


def row_files(args: argparse.Namespace) -> list[Path]:
    """Files of the rows that are there, finished ones before begun ones of the same name."""
    found = {path.name: path for folder in (args.begun, args.out / "rows") for path in sorted(folder.glob("*.json"))}
    return [found[name] for name in sorted(found)]
