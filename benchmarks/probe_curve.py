"""How do the features improve over training? A linear probe and k-NN of every layer at the checkpoints of a run.

Only training images are used: 10,000 to fit, others held out to measure. A run that began with another's weights (`bigr train --weights`)
counts its steps on: `runs/second@5000` began with the weights of step 5,000.

    python benchmarks/probe_curve.py runs/generator --data zalando-datasets/fashion_mnist
    python benchmarks/probe_curve.py runs/generator runs/second@5000 --data path/to/fashion_mnist --name bigr_nano_fashion_mnist
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bigr_features import BiGR
from bigr_features.checkpoints import load_model
from bigr_features.data import open_images
from bigr_features.evaluate.knn import KNNClassifier
from bigr_features.evaluate.linear_probe import LinearProbe
from bigr_features.evaluate.reports import environment, write_json
from bigr_features.train import checkpoint
from bigr_features.train.generator import TrainConfig
from bigr_features.train.run import read_config

log = logging.getLogger("probe_curve")
LABELS = {"linear_probe": "linear probe", "knn": "20-NN"}
COLORS = {"linear_probe": "#0072B2", "knn": "#D55E00"}


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    curves = [curve(*run_and_start(spec), args) for spec in args.runs]
    result = {
        "benchmark": "probe_curve",
        "protocol": {
            "features": "mean over image tokens of the residual stream after the block, null class, nothing hidden; averaged weights",
            "fit": f"{args.fit} training images",
            "measured on": f"{args.held_out} other training images; no test image",
            "probe": "multinomial logistic regression on standardised features, C = 0.1",
            "knn": "20 neighbours, temperature 0.07",
            "seed": args.seed,
        },
        "runs": curves,
        "environment": environment(),
    }
    write_json(args.out / f"{args.name}_curve.json", result)
    plot(curves, args.name, args.out / f"{args.name}_curve.png")
    print(f"wrote {args.out / args.name}_curve.json and .png")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN[@STEP]", help="run folders of `bigr train`, finished or not")
    parser.add_argument("--source", "--data", dest="data", required=True, help="the images, as `bigr encode --source` takes them")
    parser.add_argument("--fit", type=int, default=10_000, help="training images to fit on (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=5_000, help="training images to measure on (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch, 0 for its own choice")
    parser.add_argument("--seed", type=int, default=0, help="choice of images (default: %(default)s)")
    parser.add_argument("--name", default="probe", help="name of the files written (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/probe_curve"), help="folder (default: %(default)s)")
    return parser.parse_args()


def run_and_start(spec: str) -> tuple[Path, int]:
    """Folder of a run, and the steps that its first weights had behind them.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint in the folder.
    """
    path, _, start = spec.partition("@")
    if not checkpoint.steps_in(Path(path) / "checkpoints"):
        raise FileNotFoundError(f"{path} holds no checkpoint; give a run folder of `bigr train`.")
    return Path(path), int(start or 0)


@torch.no_grad()
def curve(run: Path, start: int, args: argparse.Namespace) -> dict:
    """Held-out accuracies of every layer at each checkpoint of a run."""
    settings = read_config(TrainConfig, run)
    codes, labels = read_codes(run, args)
    model = BiGR(settings.model).eval()
    points = []
    for step in checkpoint.steps_in(run / "checkpoints"):
        model.load_state_dict(checkpoint.load(run / "checkpoints", step)["ema"])
        point = {"step": start + step, "linear_probe": {}, "knn": {}}
        for layer, x in enumerate(pooled_layers(model, codes, args.batch_size)):
            fit, held_out = slice(args.fit), slice(args.fit, None)
            for name, estimator in (("linear_probe", LinearProbe(Cs=(0.1,))), ("knn", KNNClassifier())):
                estimator.fit(x[fit], labels[fit])
                point[name][str(layer)] = float(estimator.score(x[held_out], labels[held_out]))
        points.append(point)
        best = {LABELS[name]: max(point[name].values()) for name in LABELS}
        log.info("%s  step %6d  %s", run.name, start + step, "  ".join(f"{name} {100 * value:.2f} %" for name, value in best.items()))
    conditional = {"unconditional": settings.unconditional, "class_dropout": settings.model.class_dropout}
    return {"name": run.name, "first_weights_had_steps": start, **conditional, "batch_size": settings.batch_size, "points": points}


def read_codes(run: Path, args: argparse.Namespace) -> tuple[Tensor, np.ndarray]:
    """Codes (fit + held out, N, K) by the run's own tokenizer, and labels, of images drawn by the seed."""
    tokenizer = load_model(run / "tokenizer")
    images = open_images(args.data, "train", size=tokenizer.image_size, in_chans=tokenizer.in_chans)
    if images.labels is None:
        raise ValueError(f"{args.data} has no labels, and a probe needs them.")
    if args.fit + args.held_out > len(images):
        raise ValueError(f"{args.data} has {len(images)} training images, fewer than --fit {args.fit} plus --held-out {args.held_out}.")
    rows = np.random.default_rng([args.seed, 2]).permutation(len(images))[: args.fit + args.held_out]
    codes = []
    for chunk in np.array_split(rows, max(1, len(rows) // args.batch_size)):
        pixels = torch.from_numpy(images.read(chunk)[0]).permute(0, 3, 1, 2).float() / 255
        codes.append(tokenizer.encode(pixels))
    return torch.cat(codes), images.labels[rows]


def pooled_layers(model: BiGR, codes: Tensor, batch_size: int) -> list[np.ndarray]:
    """Mean over tokens after each block, arrays (n, D)."""
    parts = [[stream.mean(1).numpy() for stream in model.hidden_states(batch)] for batch in codes.float().split(batch_size)]
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)]


def plot(curves: list[dict], name: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for run, marker in zip(curves, "osD^v" * len(curves), strict=False):
        steps = [point["step"] for point in run["points"]]
        for measure, label in LABELS.items():
            best = [100 * max(point[measure].values()) for point in run["points"]]
            axes.semilogx(steps, best, f"{marker}-", color=COLORS[measure], label=f"{label}, {run['name']}")
    shown = sorted({point["step"] for run in curves for point in run["points"]})
    ticks = [step for i, step in enumerate(shown) if i == 0 or step > 1.3 * shown[i - 1] or i == len(shown) - 1]
    axes.set_xticks(ticks, [f"{step:,}" for step in ticks], rotation=45)
    axes.minorticks_off()
    axes.set(xlabel="training step", ylabel="held-out accuracy of the best layer, %", title=f"{name}: features over training")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
