"""The poster's Table 1 at nano size: five systems from the same parts, at 12 bits a token, equal trunk, equal training.

| system | tokenizer | objective | order |
|---|---|---|---|
| LlamaGen | VQGAN, 4,096 codes | categorical | autoregressive |
| S0 | binary, 12 bits | categorical (4,096 classes) | autoregressive |
| S1 | binary, 12 bits | categorical | masked |
| S2 | binary, 12 bits | binary | autoregressive |
| S3 (BiGR) | binary, 12 bits | binary | masked |

Each row (a system with a seed) is trained, sampled and probed on its own, and writes rows/NAME.json part by part; what is there is not
done again, so that runs may be stopped, and made in any order. Table and pictures are made from the rows that are there, and say what is
missing.

    python benchmarks/uniformity.py --dataset path/to/cifar10                         # everything, one row after the other
    python benchmarks/uniformity.py --dataset path/to/cifar10 --only S2 --seed 1      # one row
    python benchmarks/uniformity.py --dataset path/to/cifar10 --table                 # the table alone
    python benchmarks/uniformity.py --dataset sample:fashion_mnist --steps 20 --images 40   # a trial
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from uniformity_report import write_report
from uniformity_row import Row, Shared

from bigr_features.models.presets import PRESETS

log = logging.getLogger("uniformity")
CODE_DIM = 12
TRIAL_IMAGES = 5_000  # a run with fewer generated images is a trial, and reads few real ones


@dataclass(frozen=True)
class System:
    """A row of the table: the preset it is made from, its tokenizer's kind, and how the paper samples from it."""

    preset: str
    tokenizer: str
    sampling: dict
    choices: dict

    @property
    def changes(self) -> dict:
        """What is changed of the preset: the code of 12 bits, which the VQ tokenizer's 4,096 codes are already."""
        return {} if self.tokenizer == "vq" else {"code_dim": CODE_DIM}


AUTOREGRESSIVE = {"guidance_scale": 2.0}
GUIDANCE = {"guidance_scale": (1.0, 1.5, 2.5)}
SYSTEMS = {
    "LlamaGen": System("llamagen_nano", "vq", AUTOREGRESSIVE, GUIDANCE),
    "S0": System("bigr_nano_cat_ar", "binary", AUTOREGRESSIVE, GUIDANCE),
    "S1": System("bigr_nano_cat_mask", "binary", {"guidance_scale": 2.5, "num_reveal_steps": 10}, GUIDANCE),
    "S2": System("bigr_nano_bin_ar", "binary", {"guidance_scale": 2.5, "num_denoise_steps": 25}, GUIDANCE),
    "S3": System(
        "bigr_nano",
        "binary",
        {"guidance_scale": 2.5, "num_reveal_steps": 20, "num_denoise_steps": 25, "gumbel_temperature": 0.17},
        {**GUIDANCE, "gumbel_temperature": (0.0, 0.17)},
    ),
}


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.name = args.dataset.split(":")[-1].rstrip("/").rsplit("/", 1)[-1]
    args.work = args.work or Path("runs") / "uniformity" / args.name
    if args.limit is None and args.images < TRIAL_IMAGES:
        args.limit = max(1_000, 10 * args.images)
        log.info("a trial: the first %d images of each split are used", args.limit)
    wanted = [] if args.table else [(name, seed) for seed in args.seed for name in args.only]
    unknown = {name: SYSTEMS[name].preset for name in args.only if SYSTEMS[name].preset not in PRESETS}
    for name, preset in unknown.items():
        log.warning("%s is left out: this version has no preset %s", name, preset)
    shared = Shared(args, SYSTEMS)
    for name, seed in wanted:
        if name not in unknown:
            Row(shared, name, SYSTEMS[name], seed).run(args.parts)
    print(write_report(args.work, list(SYSTEMS), args.seeds))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="labelled images: sample:fashion_mnist, a folder, a file, or a Hub id")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--only", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS), help="systems to run (default: all)")
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2], help="seeds to run (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds that a whole table has, to say what is missing (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=Row.PARTS, default=list(Row.PARTS), help="of each row (default: all)")
    parser.add_argument("--table", action="store_true", help="run nothing; make the table of what is there")
    parser.add_argument("--steps", type=int, default=20_000, help="training steps of every system (default: %(default)s)")
    parser.add_argument("--tokenizer-steps", type=int, help="training steps of both tokenizers (default: as --steps, at most 4,000)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of every system (default: %(default)s)")
    parser.add_argument("--warmup-steps", type=int, default=500, help="at most a tenth of the steps (default: %(default)s)")
    parser.add_argument("--judge-epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=10_000, help="generated images a row (default: %(default)s)")
    parser.add_argument("--choice-images", type=int, default=1_000, help="to choose sampling settings from (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="real images of each split (default: all; in a trial, 10 times --images)")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for everything (default: runs/uniformity/DATASET)")
    args = parser.parse_args()
    for name in ("steps", "batch_size", "images", "choice_images", "judge_epochs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)} was given; give 1 or more")
    args.tokenizer_steps = args.tokenizer_steps or min(args.steps, 4_000)
    args.choice_images = min(args.choice_images, args.images)
    return args


if __name__ == "__main__":
    main()
