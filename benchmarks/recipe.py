"""What makes the features of a small BiGR better? Short trainings of equal budget, each with one thing changed.

Every run sees as many images as the others and is judged on training images that it never saw: a linear probe (and k-NN) on the mean over
tokens of each block, fitted on other training images; no test image is read. A run writes its own JSON when it ends; what is there is not
done again, and an interrupted run goes on from its last checkpoint. `+` puts changes together.

    python benchmarks/recipe.py --dataset path/to/cifar10 --tokenizer runs/tokenizer/model                  # every change, seed 0
    python benchmarks/recipe.py --dataset path/to/cifar10 --tokenizer runs/tokenizer/model --only base start --seed 0 1 2
    python benchmarks/recipe.py --dataset path/to/cifar10 --tokenizer runs/tokenizer/model --only start+levels_4+two_view_0.3
    python benchmarks/recipe.py --table                                                                     # of what is there

The tokenizer is one of `bigr train-tokenizer`; runs of several tokenizers (another number of bits) stand side by side under their K.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from bigr_features.checkpoints import fingerprint, load_trained
from bigr_features.data import open_images
from bigr_features.evaluate.knn import KNNClassifier
from bigr_features.evaluate.linear_probe import LinearProbe
from bigr_features.evaluate.reports import environment, write_json
from bigr_features.models.presets import preset_configs
from bigr_features.train.code_cache import encode
from bigr_features.train.generator import train
from bigr_features.train.sampler import hold_out
from bigr_features.train.settings import EncodeConfig, TrainConfig

log = logging.getLogger("recipe")
HELD_OUT = 5_000  # training images that no run learns from
FITTED = 20_000  # other training images that the probe is fitted on
PROBE = LinearProbe(Cs=(0.001, 0.01, 0.1, 1.0))


@dataclass(frozen=True)
class Change:
    """What a run does differently: settings of the training, of the model, and views in the cache."""

    why: str
    training: dict = field(default_factory=dict)
    model: dict = field(default_factory=dict)
    views: str | None = None

    def __add__(self, other: Change) -> Change:
        return Change(
            f"{self.why}; {other.why}", {**self.training, **other.training}, {**self.model, **other.model}, other.views or self.views
        )


CHANGES = {
    "base": Change("no labels, one noise level a token, flips, the official start"),
    "init_std": Change("linear weights N(0, 0.06) instead of N(0, 0.02)", model={"init_std": 0.06}),
    "positions": Change("a learned position added at the input", model={"input_positions": True}),
    "gates": Change("gates of adaLN begin at 0.2 instead of 0", model={"gate_init": 0.2}),
    "start": Change("these three: init_std, positions, gates", model={"init_std": 0.06, "input_positions": True, "gate_init": 0.2}),
    "labels": Change("classes as condition, dropped half of the time", {"unconditional": False}, {"class_dropout": 0.5}),
    "levels_4": Change("4 noise levels a token (MAR)", {"timesteps_per_token": 4}),
    "masks": Change("at least half of the tokens hidden (MAGE's truncated normal)", {"mask_distribution": "truncated_normal"}),
    "flips_0.05": Change("5 % of the bits that the trunk sees turned over", {"bit_flips": 0.05}),
    "flips_0.1": Change("10 % of the bits that the trunk sees turned over", {"bit_flips": 0.1}),
    "crops": Change("ten crops and flips of an image", views="ten_crop"),
    "augmented": Change("the image, its mirror image, eight random crops in other colours (SimCLR's)", views="augmented"),
    "wide": Change("4 blocks of width 208 instead of 8 of 144", model={"depth": 4, "width": 208}),
    "deep": Change("12 blocks of width 112 instead of 8 of 144", model={"depth": 12, "width": 112}),
    "rate_2e-3": Change("twice the learning rate", {"learning_rate": 2e-3}),
    "rate_5e-4": Change("half the learning rate", {"learning_rate": 5e-4}),
    "decay_0.1": Change("weight decay 0.1 instead of 0.02", {"weight_decay": 0.1}),
    "two_view_0.1": Change("VICReg term of weight 0.1 on the middle block", {"two_view_weight": 0.1}),
    "two_view_0.3": Change("VICReg term of weight 0.3 on the middle block", {"two_view_weight": 0.3}),
    "two_view_1": Change("VICReg term of weight 1 on the middle block", {"two_view_weight": 1.0}),
    "two_view_3": Change("VICReg term of weight 3 on the middle block", {"two_view_weight": 3.0}),
    "two_view_1_late": Change("VICReg term of weight 1 on the sixth block of eight", {"two_view_weight": 1.0, "two_view_layer": 5}),
    "large_batch": Change("batches of 128, half as many steps", {"batch_size": 128}),
    "visible_6": Change("6 of 8 blocks see visible tokens only", model={"visible_blocks": 6}),
    "dropout": Change("dropout 0.1 in attention and feed-forward", model={"residual_dropout": 0.1, "ffn_dropout": 0.1}),
    "path": Change("drop path 0.1", model={"drop_path": 0.1}),
    "plain_norm": Change("no adaLN", model={"adaln": False}),
}


def change_of(name: str) -> Change:
    """The change of a name, or of several joined by `+`.

    Raises
    ------
    ValueError
        Naming what there is.
    """
    parts = name.split("+")
    for part in parts:
        if part not in CHANGES:
            raise ValueError(f"no change is called {part!r}; there are {', '.join(CHANGES)}, and several joined by +.")
    found = CHANGES[parts[0]]
    for part in parts[1:]:
        found = found + CHANGES[part]
    return found


class Study:
    """Runs of one data set and tokenizer, and what they share: codes, pixels, the split."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        self.tokenizer = load_trained(args.tokenizer).eval()
        self.identity = fingerprint(self.tokenizer)
        self.bits = self.tokenizer.config.code_dim
        self.work = args.work / f"k{self.bits}_{self.identity[:8]}"

    def run(self, name: str, seed: int) -> dict:
        """Train, measure and write one run; what is there with the same settings is kept."""
        args, change = self.args, change_of(name)
        path = args.out / f"k{self.bits}_{name}_seed{seed}.json"
        budget = {"steps": args.steps, "batch_size": args.batch_size, "limit": args.limit, "tokenizer_sha256": self.identity}
        if path.is_file():
            found = json.loads(path.read_text())
            if found["budget"] != budget:
                raise ValueError(f"{path} was made with {found['budget']}, now {budget}; give another --out folder.")
            log.info("%s is there", path.name)
            return found
        folder = self.work / f"{name}_seed{seed}"
        codes = self.work / f"codes_{change.views or 'flip'}"
        quiet = {"device": "cpu", "threads": args.threads}
        encode(
            EncodeConfig(tokenizer=args.tokenizer, source=args.dataset, out=codes, views=change.views or "flip", limit=args.limit, **quiet)
        )
        model = preset_configs(
            "bigr_nano",
            code_dim=self.bits,
            **({"generator_num_classes": self._classes()} if change.training.get("unconditional") is False else {}),
        )[1]
        batch = change.training.get("batch_size", args.batch_size)
        steps = args.steps * args.batch_size // batch
        every = max(1, steps // 4)
        settings = {
            "learning_rate": 1e-3, "warmup_steps": min(200, steps // 10), "ema_decay": 0.999, "unconditional": True, "schedule": "cosine",
            **change.training, "steps": steps, "batch_size": batch,
        }  # fmt: skip
        config = TrainConfig(
            tokenizer=args.tokenizer, codes=codes, out=folder, model=model.replace(**change.model), seed=seed, validation=self._held_out(),
            validate_every=every, checkpoint_every=every, sample_every=0, trackers=(), **settings, **quiet,
        )  # fmt: skip
        if not (folder / "model" / "model.safetensors").is_file():
            started = time.process_time()
            train(replace(config, resume=(folder / "checkpoints").is_dir()))
            self._spent(folder, time.process_time() - started)
        result = {
            "benchmark": "recipe",
            "name": name,
            "why": change.why,
            "changes": {"training": change.training, "model": change.model, "views": change.views},
            "seed": seed,
            "bits": self.bits,
            "budget": budget,
            "images_seen": args.steps * args.batch_size,
            "core_seconds": json.loads((folder / "cost.json").read_text())["core_seconds"],
            **self.measured(folder, seed),
            "protocol": self.protocol(),
            "environment": environment(),
        }
        write_json(path, result)
        log.info("%s: mean of the middle block %.2f %%, best block %.2f %%", path.stem, *(100 * result[k] for k in ("middle", "best")))
        return result

    def protocol(self) -> dict:
        """How runs are judged."""
        return {
            "features": "mean over tokens of the residual stream after each block, null class, nothing hidden; averaged weights",
            "fit": f"{min(FITTED, len(self._split(0)[0]))} training images",
            "measured_on": f"{self._held_out()} training images that the run did not see; no test image",
            "probe": "multinomial logistic regression on standardised features, C chosen among 0.001 to 1 inside the fitted images",
            "knn": "20 neighbours, temperature 0.07, whitened (shrinkage 1)",
        }

    @torch.no_grad()
    def measured(self, folder: Path, seed: int) -> dict:
        """Held-out accuracies of every block."""
        model = load_trained(folder / "model").eval()
        fitted, held_out = self._split(seed)
        labels, codes = self._data()
        fitted = np.sort(np.random.default_rng([seed, 7]).permutation(fitted)[:FITTED])
        rows = np.concatenate([fitted, held_out])
        parts: list[list[np.ndarray]] = []
        for chunk in np.array_split(rows, max(1, len(rows) // 250)):
            streams = model.hidden_states(codes[torch.from_numpy(chunk)].float())
            parts.append([stream.mean(1).numpy() for stream in streams])
        layers = [np.concatenate(layer) for layer in zip(*parts, strict=True)]
        split = len(fitted)
        found: dict[str, dict[str, float]] = {"linear_probe": {}, "knn": {}}
        for i, x in enumerate(layers):
            for key, estimator in (("linear_probe", PROBE), ("knn", KNNClassifier(whiten=1.0))):
                estimator.fit(x[:split], labels[fitted])
                found[key][str(i)] = float(estimator.score(x[split:], labels[held_out]))
        return {
            **found,
            "middle": found["linear_probe"][str(model.config.middle_layer)],
            "best": max(found["linear_probe"].values()),
            "best_knn": max(found["knn"].values()),
            "parameters": sum(p.numel() for p in model.parameters()),
            "validation": _last_validation(folder),
        }

    def _classes(self) -> int:
        return int(self._data()[0].max()) + 1

    def _held_out(self) -> int:
        return min(HELD_OUT, len(self._data()[0]) // 5)

    def _split(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return hold_out(len(self._data()[0]), self._held_out(), seed)

    def _data(self) -> tuple[np.ndarray, torch.Tensor]:
        """Labels (n,) and codes (n, N, K) uint8 of the training images; read once."""
        if not hasattr(self, "_read"):
            size, channels = self.tokenizer.image_size, self.tokenizer.in_chans
            images = open_images(self.args.dataset, "train", size=size, in_chans=channels, limit=self.args.limit)
            if images.labels is None:
                raise ValueError(f"{self.args.dataset} has no labels, and the probe needs them.")
            codes = []
            with torch.no_grad():
                for chunk in np.array_split(np.arange(len(images)), max(1, len(images) // 250)):
                    pixels = torch.from_numpy(images.read(chunk)[0]).permute(0, 3, 1, 2).float() / 255
                    codes.append(self.tokenizer.encode(self.tokenizer.normalize(pixels)).to(torch.uint8))
            self._read = images.labels, torch.cat(codes)
        return self._read

    @staticmethod
    def _spent(folder: Path, seconds: float) -> None:
        path = folder / "cost.json"
        before = json.loads(path.read_text())["core_seconds"] if path.is_file() else 0.0
        write_json(path, {"core_seconds": before + seconds})


def _last_validation(folder: Path) -> dict:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["split"] == "validation"][-1]
    return {key: last[key] for key in ("loss", "bce", "bit_accuracy") if key in last}


def table(folder: Path) -> str:
    """Runs in order of what they bring over `base` of the same bits, with the spread of its seeds; also written as recipe.json."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob("k*_seed*.json"))]
    if not runs:
        return f"{folder} has no runs yet."
    groups: dict[tuple[int, str], list[dict]] = {}
    for run in runs:
        groups.setdefault((run["bits"], run["name"]), []).append(run)
    lines = [f"{'K':>3}  {'change':32} {'seeds':>5}  {'middle':>14}  {'best block':>14}  {'k-NN':>6}  {'core-min':>8}"]
    rows = []
    for (bits, name), own in groups.items():
        values = {key: [100 * run[key] for run in own] for key in ("middle", "best", "best_knn")}
        minutes = float(np.mean([run["core_seconds"] for run in own]) / 60)
        rows.append({"bits": bits, "name": name, "why": own[0]["why"], "seeds": len(own), **values, "core_minutes": minutes})
    for row in sorted(rows, key=lambda row: (row["bits"], -np.mean(row["middle"]))):
        cells = [f"{np.mean(row[key]):6.2f} {_spread(row[key]):>7}" for key in ("middle", "best")]
        lines.append(
            f"{row['bits']:>3}  {row['name']:32} {row['seeds']:>5}  {cells[0]}  {cells[1]}  {np.mean(row['best_knn']):6.2f}  "
            f"{row['core_minutes']:8.1f}"
        )
    made = {"benchmark": "recipe", "protocol": runs[0]["protocol"], "budget": runs[0]["budget"]}
    write_json(folder / "recipe.json", {**made, "rows": rows, "files": [path.stem for path in sorted(folder.glob("k*_seed*.json"))]})
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if not args.table:
        for name in args.only:
            change_of(name)
        study = Study(args)
        for seed in args.seed:
            for name in args.only:
                study.run(name, seed)
    print(table(args.out))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", help="labelled images: sample:fashion_mnist, a folder, a file, or a Hub id")
    parser.add_argument("--tokenizer", type=Path, help="folder of a binary tokenizer")
    parser.add_argument("--only", nargs="+", default=list(CHANGES), metavar="CHANGE", help="changes to run (default: all)")
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1_500, help="of every run (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--limit", type=int, help="training images, drawn by class, to try the script")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("runs/recipe"), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/recipe/results"), help="folder of the results (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="run nothing; make the table of what is there")
    args = parser.parse_args()
    if not args.table and (args.dataset is None or args.tokenizer is None):
        parser.error("give --dataset and --tokenizer, or --table")
    return args


if __name__ == "__main__":
    main()
