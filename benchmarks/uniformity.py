"""The poster's Table 1 at nano size: five systems from the same parts, at 12 bits a token, equal trunk, equal training.

| system | tokenizer | objective | order |
|---|---|---|---|
| LlamaGen | VQGAN, 4,096 codes | categorical | autoregressive |
| S0 | binary, 12 bits | categorical (4,096 classes) | autoregressive |
| S1 | binary, 12 bits | categorical | masked |
| S2 | binary, 12 bits | binary | autoregressive |
| S3 (BiGR) | binary, 12 bits | binary | masked |

Each row (a system with a seed) is trained, sampled and probed on its own, part by part; what is there is not done again, so that runs may
be stopped, and made in any order, on several machines and days. A finished row is results/uniformity/DATASET/rows/NAME_seedN.json, with the
log of its training beside it; the tokenizers and the judge that all rows stand on are kept there too, and every machine takes them from
there. Runs and generated images stay in runs/. Table and pictures are made from the rows that are there, and say what is missing.

A training of 2,000 steps of 64 images, the default for all five, takes about 30 core-minutes of a recent CPU in bf16. A run of fewer than
2,000 images is a trial: one seed, small batches, few real images, tokenizers and a judge of its own, and its results stay in runs/.

    python benchmarks/uniformity.py --dataset path/to/cifar10                         # everything, one row after the other
    python benchmarks/uniformity.py --dataset path/to/cifar10 --only S2 --seed 1      # one row
    python benchmarks/uniformity.py --dataset path/to/cifar10 --table                 # the table alone
    python benchmarks/uniformity.py --dataset sample:fashion_mnist --steps 20 --images 40   # a trial
"""

from __future__ import annotations

import argparse

from row_options import add_options, row_files, settle
from row_shared import run_rows
from systems import SYSTEMS
from uniformity_report import write_report
from uniformity_row import Row

SEEDS = [0, 1, 2]


def main() -> None:
    args = parse_arguments()
    run_rows(args, lambda shared, name, seed: Row(shared, name, SYSTEMS[name], seed).run(args.parts))
    print(write_report(args.out, row_files(args), list(SYSTEMS), len(args.seed) if args.trial else len(SEEDS)))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), help="systems to run (default: all)")
    parser.add_argument("--parts", nargs="+", choices=Row.PARTS, default=list(Row.PARTS), help="of each row (default: all)")
    parser.add_argument(
        "--choice-images", type=int, help="to choose sampling settings from (default: a twentieth of --images, 10 at least)"
    )
    add_options(parser, steps=2_000, images=2_000, seeds=SEEDS)
    args = settle(parser, parser.parse_args(), "uniformity", SEEDS)
    if args.choice_images is not None and args.choice_images < 2:
        parser.error(f"--choice-images {args.choice_images} was given; give 2 or more")
    args.choice_images = min(args.choice_images or max(10, args.images // 20), args.images)
    return args


if __name__ == "__main__":
    main()
