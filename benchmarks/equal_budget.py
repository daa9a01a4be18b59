"""bigr_nano's features beside others of equal budget: the same images, size of trunk and number of images seen.

One command a row, each row its own JSON; peers are trained by the command, and a training that was stopped goes on:

    python benchmarks/equal_budget.py --dataset path/to/cifar10 --row pixels
    python benchmarks/equal_budget.py --dataset path/to/cifar10 --row mae --steps 60000
    python benchmarks/equal_budget.py --dataset path/to/cifar10 --row imagenet --model tf_efficientnet_lite0=weights.safetensors
    python benchmarks/equal_budget.py --dataset path/to/cifar10 --row bigr --model bigr_nano.cifar10 --images-seen 4000000
    python benchmarks/equal_budget.py --dataset path/to/cifar10 --table

Two read-outs of each row: a linear probe on the mean over tokens of one layer, and the best of wider ones (quarters of the token grid,
several layers side by side). Layer, read-out and regularisation are chosen on held-out training images; test images are used once.
"""

from __future__ import annotations

import argparse
import base64
import json
import logging
from pathlib import Path

import numpy as np
import timm
import torch
from feature_sets import build, weights_of
from kmeans_patches import KMeansPatches
from peer_objectives import METHODS
from peers import VIT_NANO
from recipe_tables import ROWS, paired
from torch import nn
from train_peer import SIZE, add_training_options, train

from bigr_features.checkpoints import fingerprint
from bigr_features.data import open_images
from bigr_features.evaluate.knn import KNNClassifier
from bigr_features.evaluate.linear_probe import LinearProbe
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json
from bigr_features.evaluate.selection import choose, choose_together
from bigr_features.features.extract import extract_features
from bigr_features.features.inputs import model_inputs
from bigr_features.functional.pooling import layer_and_pooling

log = logging.getLogger("equal_budget")
RESULTS = Path(__file__).parent / "results"
PROBE = LinearProbe(Cs=(1e-4, 1e-3, 0.01, 0.1, 1.0))
CHUNK = 2_000  # images of which a model's inputs lie in memory at once
NEED_MODEL = ("bigr", "bits", "imagenet")


class Images:
    """Training and test images of a data set: pixels (n, S, S, 3) uint8 and labels (n,).

    Raises
    ------
    ValueError
        For images without labels.
    """

    def __init__(self, args: argparse.Namespace):
        self.pixels, self.labels = {}, {}
        for split in ("train", "test"):
            images = open_images(args.data, split, size=SIZE, limit=args.limit)
            if images.labels is None:
                raise ValueError(f"{args.data} (split {split!r}) has no labels, and a probe needs them.")
            self.pixels[split], self.labels[split] = images.read(np.arange(len(images)))[0], images.labels

    def facts(self, args: argparse.Namespace) -> dict:
        counts = {split: len(self.labels[split]) for split in self.labels}
        return {"name": name_of(args), **counts, "sha256": array_hash(*self.pixels.values(), *self.labels.values())}


def name_of(args: argparse.Namespace) -> str:
    return args.data.split(":")[-1].rstrip("/").rsplit("/", 1)[-1]


def features_of(args: argparse.Namespace, images: Images) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict]:
    """Candidates (training, test features) by name, and what is known of their origin."""
    row = args.row
    if row == "pixels":
        return {"pixels": tuple(x.reshape(len(x), -1).astype(np.float32) / 255 for x in images.pixels.values())}, {"images_seen": 0}
    if row == "kmeans":
        patches = KMeansPatches(args.centres, seed=args.seed).fit(images.pixels["train"])
        found = tuple(patches.transform(x) for x in images.pixels.values())
        return {f"{args.centres} centres": found}, {"images_seen": len(found[0]), "parameters": patches.centres_.size}
    facts: dict = {}
    if row in METHODS:
        args.method, args.out = row, args.work / f"{row}_seed{args.seed}"
        trained = train(args)
        facts = {key: trained[key] for key in ("images_seen", "core_seconds", "precision", "settings", "loss")}
        model = timm.create_model(VIT_NANO, checkpoint_path=str(args.out / "model.safetensors"), num_classes=0).eval()
    else:
        spec = f"{VIT_NANO}=random" if row == "random" else args.model
        model, _ = build(spec, args.seed)
        facts = {"model": spec.split("=")[0], "weights": weights_of(spec, model, args.seed), "images_seen": 0 if row == "random" else None}
    if row == "bigr":
        facts |= {"images_seen": args.images_seen, "core_seconds": args.core_seconds}
    facts |= {"weights_sha256": fingerprint(model), "parameters": sum(p.numel() for p in model.parameters())}
    if row == "bits":
        facts["parameters"] = sum(p.numel() for p in model.tokenizer.parameters())
    found = {split: read_out(model, images.pixels[split], row, args.layers) for split in images.pixels}
    return {name: (found["train"][name], found["test"][name]) for name in found["train"]}, facts


@torch.no_grad()
def read_out(model: nn.Module, pixels: np.ndarray, row: str, layers: list[int] | None = None) -> dict[str, np.ndarray]:
    """Features (n, D) of images by the name of a candidate; the inputs of a chunk of images lie in memory at a time."""
    parts: list[dict[str, np.ndarray]] = []
    for chunk in np.array_split(np.arange(len(pixels)), max(1, len(pixels) // CHUNK)):
        inputs = model_inputs(pixels[chunk], model)
        if row == "bits":
            parts.append({"bits": model.encode(inputs).flatten(1).numpy()})
        elif row == "imagenet":
            features = [model.forward_head(model.forward_features(batch), pre_logits=True) for batch in inputs.split(100)]
            parts.append({"pooled": torch.cat(features).numpy()})
        else:
            parts.append(extract_features(model, inputs, layers=layers, pooling=("mean", "quarters"), progress=False))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def measured(candidates: dict[str, tuple[np.ndarray, np.ndarray]], images: Images, args: argparse.Namespace) -> dict:
    """Test accuracies of the read-outs that held-out training images choose."""
    labels, test_labels = images.labels["train"], images.labels["test"]
    train = {name: (PROBE, pair[0]) for name, pair in candidates.items()}
    narrow = {name: own for name, own in train.items() if not name.endswith("_quarters")}
    mean = choose(narrow, labels, args.holdout, args.seed)
    found = {"mean": scored(mean, candidates, test_labels)}
    if len(train) > 1:
        layer = layer_and_pooling(mean.name)[0]
        pool = {name: own for name, own in train.items() if name in narrow or layer_and_pooling(name)[0] == layer}
        found["best"] = scored(choose_together(pool, labels, args.holdout, args.seed), candidates, test_labels)
    else:
        found["best"] = found["mean"]
    knn = KNNClassifier(whiten=(None, 1.0), random_state=args.seed)
    neighbors = choose({mean.name: (knn, candidates[mean.name][0])}, labels, args.holdout, args.seed)
    found["knn"] = scored(neighbors, candidates, test_labels)
    return found


def scored(choice, candidates: dict, labels: np.ndarray) -> dict:
    """Test accuracy of a choice with its interval, and which images were right, for paired comparisons."""
    parts = [candidates[name][1] for name in choice.name.split(" + ")]
    right = choice.estimator.predict(np.concatenate(parts, axis=1)) == labels
    return {
        "candidate": choice.name,
        **choice.rows[choice.name],
        "accuracy": float(right.mean()),
        "interval": bootstrap_interval(right),
        "right": base64.b64encode(np.packbits(right)).decode(),
    }


def run(args: argparse.Namespace) -> None:
    """Make one row and write it."""
    path = args.results / f"{args.row}_seed{args.seed}.json"
    images = Images(args)
    candidates, facts = features_of(args, images)
    result = {
        "benchmark": "equal_budget",
        "row": args.row,
        "seed": args.seed,
        "dataset": images.facts(args),
        **facts,
        **measured(candidates, images, args),
        "protocol": {
            "chosen": f"layer, read-out and C on {args.holdout:.0%} of the training images, drawn by class; test images used once",
            "mean": "linear probe on the mean over tokens of one layer",
            "best": "linear probe on up to three of: means of layers, quarters of the token grid of the best layer; forward selection",
            "knn": "20 neighbours, temperature 0.07, plain or whitened, on the features of `mean`",
            "interval": "95 % bootstrap over test images",
        },
        "environment": environment(),
    }
    write_json(path, result)
    print(f"wrote {path}")


def table(folder: Path) -> str:
    """The rows that are there, in the order of `ROWS`, and the paired difference of each to the masked autoencoder of the same seed."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*_seed*.json"))]
    if not found:
        return f"{folder} has no rows yet."
    found.sort(key=lambda row: (list(ROWS).index(row["row"]), row["seed"]))
    lines = [
        f"{'':24} {'seed':>4} {'images seen':>11} {'core-min':>8} {'parameters':>10}  {'mean':>18}  {'best read-out':>18}  {'k-NN':>18}"
    ]
    for row in found:
        seconds, seen = row.get("core_seconds"), row.get("images_seen")
        cells = [f"{100 * row[key]['accuracy']:5.1f} ({_range(row[key]['interval'])})" for key in ("mean", "best", "knn")]
        lines.append(
            f"{ROWS[row['row']]:24} {row['seed']:>4} {'-' if seen is None else f'{seen:,}':>11} "
            f"{'-' if seconds is None else f'{seconds / 60:.0f}':>8} {row.get('parameters', 0):>10,}  "
            + "  ".join(f"{c:>18}" for c in cells)
        )
    peers = {row["seed"]: row for row in found if row["row"] == "mae"}
    for row in found:
        if row["row"] == "bigr" and row["seed"] in peers:
            for key in ("mean", "best", "knn"):
                difference, interval = paired(row[key], peers[row["seed"]][key], row["dataset"]["test"])
                lines.append(f"BiGR - masked autoencoder, {key}: {100 * difference:+.1f} points ({_range(interval)})")
    missing = [name for name in ROWS if name not in {row["row"] for row in found}]
    return "\n".join(lines + ([f"not there yet: {', '.join(missing)}"] if missing else []))


def _range(interval) -> str:
    return f"{100 * interval[0]:.1f}-{100 * interval[1]:.1f}"


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    if args.row is not None:
        run(args)
    print(table(args.results))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", dest="data", required=True, help="labelled images: sample:fashion_mnist, a folder, or a Hub id")
    parser.add_argument("--row", choices=list(ROWS), help="row to make")
    parser.add_argument("--model", metavar="NAME[=WEIGHTS]", help=f"of the rows {', '.join(NEED_MODEL)}")
    parser.add_argument("--images-seen", type=int, help="of the row bigr: sequences that its training saw")
    parser.add_argument("--core-seconds", type=float, help="of the row bigr: processor time of its training")
    parser.add_argument(
        "--layers", nargs="+", type=int, help="among which held-out images choose: 0-based, negative from the end (default: all)"
    )
    parser.add_argument("--centres", type=int, default=1600, help="of the row kmeans (default: %(default)s)")
    parser.add_argument("--holdout", type=float, default=0.2, help="share of the training images that chooses (default: %(default)s)")
    add_training_options(parser)
    parser.add_argument("--work", type=Path, default=Path("runs/equal_budget"), help="folder of trainings (default: %(default)s)")
    parser.add_argument("--results", "--out", dest="results", type=Path, help="folder of rows (default: results/equal_budget/DATASET)")
    parser.add_argument("--table", action="store_true", help="run nothing; make the table of what is there")
    args = parser.parse_args()
    args.results = args.results or RESULTS / "equal_budget" / name_of(args)
    if args.row is None and not args.table:
        parser.error(f"give --row, one of {', '.join(ROWS)}, or --table")
    if args.row in NEED_MODEL and args.model is None:
        parser.error(f"--row {args.row} needs --model")
    if args.row == "bigr" and args.images_seen is None:
        parser.error("--row bigr needs --images-seen, or its budget cannot be compared")
    return args


if __name__ == "__main__":
    main()
