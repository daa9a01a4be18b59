"""How good are the features of each block? A linear probe per layer, beside raw pixels and the tokenizer's bits.

The layer, and the regularisation of every probe, are chosen on held-out training data; the test images are used once, for the rows
printed with a test accuracy. With no arguments it runs in a few minutes on a CPU, on images that need no download.

    python benchmarks/linear_probe.py
    python benchmarks/linear_probe.py --dataset digits --layers 0 3 7 --out runs/probe
    python benchmarks/linear_probe.py --random --out runs/random
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import timm
import torch

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import fingerprint
from bigr_features.data import SAMPLES, Sample, load_sample
from bigr_features.evaluate.linear_probe import LinearProbe
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json
from bigr_features.features import extract_features, model_inputs

log = logging.getLogger("linear_probe")


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(args.seed)
    model = timm.create_model(args.model, pretrained=not args.random, num_classes=0).eval()
    weights = "random, never trained" if args.random else f"trained ({model.pretrained_cfg.get('tag')})"
    if args.random:
        log.warning(
            "%s has RANDOM weights (seed %d): these numbers say what an untrained network gives, not what BiGR's features are worth.\n",
            args.model,
            args.seed,
        )
    for name in args.dataset:
        sample = load_sample(name)
        rows = probe_rows(model, sample, args)
        print_table(sample, rows, args.model, weights)
        result = {
            "benchmark": "linear_probe",
            "model": args.model,
            "weights": weights,
            "weights_sha256": fingerprint(model),
            "dataset": {
                "name": sample.name,
                "source": sample.source,
                "train": len(sample.train_labels),
                "test": len(sample.test_labels),
                "sha256": array_hash(sample.train_images, sample.train_labels, sample.test_images, sample.test_labels),
            },
            "protocol": {
                "features": "mean over image tokens of the residual stream after the block, null class, nothing hidden, no final norm",
                "preprocessing": {key: value for key, value in timm.data.resolve_data_config(model=model).items() if key != "device"},
                "dtype": "float32",
                "probe": "multinomial logistic regression on standardised features",
                "chosen": f"C from {list(LinearProbe().Cs)} and the layer, on {LinearProbe().holdout:.0%} of the training images",
                "interval": "95 % bootstrap over test images",
                "seed": args.seed,
            },
            "rows": rows,
            "environment": environment(),
        }
        write_json(args.out / f"linear_probe_{name}.json", result)
        plot(sample, rows, args.model, weights, args.out / f"linear_probe_{name}.png")
        print(f"wrote {args.out / f'linear_probe_{name}.json'} and .png\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="bigr_nano.fashion_mnist", help="name of a BiGR model, with or without a tag (default: %(default)s)"
    )
    parser.add_argument("--random", action="store_true", help="leave the weights random, as a baseline")
    parser.add_argument("--dataset", nargs="+", choices=SAMPLES, default=list(SAMPLES), help="images to probe on (default: all)")
    parser.add_argument("--layers", nargs="+", type=int, help="0-based blocks, negative from the end (default: all)")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0, help="random weights and held-out split (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/linear_probe"), help="folder for JSON and picture (default: %(default)s)")
    return parser.parse_args()


def probe_rows(model: torch.nn.Module, sample: Sample, args: argparse.Namespace) -> list[dict]:
    """A row for raw pixels, for the tokenizer's bits, and for each layer; only baselines and the chosen layer see the test images."""
    log.info("%s: %d training and %d test images", sample.name, len(sample.train_labels), len(sample.test_labels))
    train, test = (model_inputs(images, model) for images in (sample.train_images, sample.test_images))
    with torch.no_grad():
        bits = [torch.cat([model.encode(batch).flatten(1) for batch in images.split(args.batch_size)]).numpy() for images in (train, test)]
    features = extract_features(model, torch.cat([train, test]), layers=args.layers, batch_size=args.batch_size)
    pixels = [images.reshape(len(images), -1).astype(np.float32) / 255 for images in (sample.train_images, sample.test_images)]

    rows = [probe_row("raw pixels", pixels[0], sample, args.seed), probe_row("B-AE bits", bits[0], sample, args.seed)]
    layers = [probe_row(f"block {layer}", x[: len(train)], sample, args.seed, layer=layer) for layer, x in features.items()]
    chosen = max(layers, key=lambda row: row["holdout_accuracy"])
    for row in layers:
        row["chosen"] = row is chosen
    test_features = features[chosen["layer"]][len(train) :]
    for row, x in ((rows[0], pixels[1]), (rows[1], bits[1]), (chosen, test_features)):
        correct = row["probe"].predict(x) == sample.test_labels
        row.update(test_accuracy=float(correct.mean()), test_interval=bootstrap_interval(correct))
    return [{key: value for key, value in row.items() if key != "probe"} for row in rows + layers]


def probe_row(name: str, x: np.ndarray, sample: Sample, seed: int, layer: int | None = None) -> dict:
    """Probe of the training features x, with what the held-out part of them says."""
    probe = LinearProbe(random_state=seed).fit(x, sample.train_labels)
    accuracy = float(probe.holdout_accuracies_.max())
    log.info("  %-12s held out %.1f %%", name, 100 * accuracy)
    return {"features": name, "layer": layer, "dimensions": x.shape[1], "C": probe.C_, "holdout_accuracy": accuracy, "probe": probe}


def print_table(sample: Sample, rows: list[dict], model: str, weights: str) -> None:
    print(f"\n{sample.source}\n{model}, weights: {weights}")
    print(f"{'features':<14}{'dims':>6}{'C':>8}{'held out':>10}{'test':>8}   95 % interval")
    for row in rows:
        line = f"{row['features']:<14}{row['dimensions']:>6}{row['C']:>8g}{100 * row['holdout_accuracy']:>9.1f} %"
        if "test_accuracy" in row:
            low, high = row["test_interval"]
            line += f"{100 * row['test_accuracy']:>6.1f} %   {100 * low:.1f} - {100 * high:.1f}"
        print(line + ("   <- chosen layer" if row.get("chosen") else ""))


def plot(sample: Sample, rows: list[dict], model: str, weights: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    layers = [row for row in rows if row["layer"] is not None]
    figure, axes = plt.subplots(figsize=(6.4, 4.0), layout="constrained")
    axes.plot([row["layer"] for row in layers], [100 * row["holdout_accuracy"] for row in layers], "o-", color="#0072B2", label=model)
    for row, color, style in zip(rows[:2], ("#D55E00", "#009E73"), ("--", ":"), strict=True):
        axes.axhline(100 * row["holdout_accuracy"], color=color, linestyle=style, label=row["features"])
    chosen = next(row for row in layers if row["chosen"])
    low, high = (100 * value for value in chosen["test_interval"])
    accuracy = 100 * chosen["test_accuracy"]
    axes.errorbar(
        chosen["layer"], accuracy, [[accuracy - low], [high - accuracy]], fmt="s", color="black", capsize=3, label="chosen layer, test"
    )
    axes.set(xlabel="block (0-based)", ylabel="linear-probe accuracy, %", xticks=[row["layer"] for row in layers])
    axes.set_title(f"{sample.name}: accuracy over depth, held-out training images\nweights: {weights}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
