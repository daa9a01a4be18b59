"""What is a trained bigr_nano worth? Tokenizer, features and generated images on the full Fashion-MNIST.

- Tokenizer: PSNR on test images, and how evenly its bits are used.
- Features: linear probe and k-NN at layers chosen on held-out training images, beside raw pixels. Test images are used once.
- Generation: the share of class-conditional images that a small CNN, trained on the real training images, takes for the asked class.
- With --run, a curve of held-out probe accuracy over the checkpoints of a training run.

    python benchmarks/nano_quality.py --data path/to/fashion_mnist
    python benchmarks/nano_quality.py --data zalando-datasets/fashion_mnist --parts tokenizer generation
    python benchmarks/nano_quality.py --data path/to/fashion_mnist --run runs/generator
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import timm
import torch
from classifier import EPOCHS, predicted, train_classifier
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import fingerprint
from bigr_features.data import open_images
from bigr_features.evaluate.linear_probe import LinearProbe
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json
from bigr_features.features import extract_features
from bigr_features.train import checkpoint
from bigr_features.train.metrics import bit_usage, psnr

log = logging.getLogger("nano_quality")
PARTS = ("tokenizer", "features", "generation")
NEIGHBORS = (1, 5, 10, 20, 50)


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    overlay = {"file": str(args.weights)} if args.weights else None
    model = timm.create_model(args.model, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    train, test = (open_images(args.data, split, size=model.img_size, limit=args.limit) for split in ("train", "test"))
    train_images, test_images = (to_pixels(split.read(np.arange(len(split)))[0]) for split in (train, test))
    result = {
        "benchmark": "nano_quality",
        "model": args.model,
        "weights_sha256": fingerprint(model),
        "dataset": {
            "name": "Fashion-MNIST",
            "train": len(train),
            "test": len(test),
            "sha256": array_hash(train_images.numpy(), train.labels, test_images.numpy(), test.labels),
        },
        "protocol": {
            "features": "mean over image tokens of the residual stream after the block, null class, nothing hidden, no final norm",
            "held out": f"the last {args.holdout} training images choose the layer, then C or k; the final fit uses all training images",
            "probe": "multinomial logistic regression on standardised features",
            "k-NN": f"majority vote by cosine, k from {list(NEIGHBORS)}",
            "interval": "95 % bootstrap over test images",
            "seed": args.seed,
        },
    }
    if "tokenizer" in args.parts:
        result["tokenizer"] = tokenizer_quality(model, test_images)
        log.info("tokenizer: %s", result["tokenizer"])
    if "features" in args.parts:
        features = extract_features(model, train_images), extract_features(model, test_images)
        result["features"] = feature_quality(features, (train.labels, test.labels), args)
        pixels = {None: train_images[:, 0].flatten(1).numpy()}, {None: test_images[:, 0].flatten(1).numpy()}
        result["raw_pixels"] = feature_quality(pixels, (train.labels, test.labels), args)
    if "generation" in args.parts:
        judge, accuracy = train_judge(train_images, torch.from_numpy(train.labels), test_images, test.labels, args)
        result["judge"] = accuracy
        result["generation"] = generation_quality(model, judge, args)
        log.info("generation: %s", result["generation"]["recognised"])
    if args.run:
        result["curve"] = probe_curve(model, args.run, train_images, train.labels, args)
    result["environment"] = environment()
    name = "_".join([args.model.replace(".", "_"), *(args.parts if len(args.parts) < len(PARTS) else [])])
    write_json(args.out / f"{name}.json", result)
    if "features" in args.parts:
        plot(result, args.out / f"{name}.png")
    print_table(result)
    print(f"wrote {args.out / name}.json")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="Fashion-MNIST: its Hub id, or a folder in the same layout")
    parser.add_argument("--model", default="bigr_nano.fashion_mnist")
    parser.add_argument("--weights", type=Path, help="weights instead of those that ship: what `bigr train` or `bigr export` wrote")
    parser.add_argument("--run", type=Path, help="run folder of `bigr train`, finished or not, for the curve over its checkpoints")
    parser.add_argument("--holdout", type=int, default=5000, help="training images held out for every choice (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure (default: all)")
    parser.add_argument("--generated", type=int, default=1000, help="images to generate (default: %(default)s)")
    parser.add_argument("--guidance-scale", type=float, default=2.5)
    parser.add_argument("--reveal-steps", type=int, default=16)
    parser.add_argument("--denoise-steps", type=int, default=25)
    parser.add_argument("--limit", type=int, help="use the first images of each split only, to try the script")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/nano_quality"), help="folder for JSON and picture (default: %(default)s)")
    return parser.parse_args()


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 (n, S, S, C) to float (n, C, S, S) in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def tokenizer_quality(model: nn.Module, images: Tensor) -> dict:
    decibels, usage = [], []
    for batch in images.split(500):
        codes = model.encode(batch)
        decibels.append(psnr(batch, model.decode(codes)))
        usage.append(bit_usage(codes) * len(batch))
    used = torch.stack(usage).sum(0) / len(images)
    return {"psnr_db": float(torch.cat(decibels).mean()), "bit_usage_min": float(used.min()), "bit_usage_max": float(used.max())}


def feature_quality(features: tuple[dict, dict], labels: tuple[np.ndarray, np.ndarray], args: argparse.Namespace) -> dict:
    """Linear probe and k-NN, each at a layer and setting chosen on the last training images, then tested once."""
    (train, test), (y, y_test) = features, labels
    fit, held_out = slice(None, -args.holdout), slice(-args.holdout, None)
    probed, voted = {}, {}
    for layer, x in train.items():
        probed[layer] = LinearProbe(Cs=(0.1,)).fit(x[fit], y[fit]).score(x[held_out], y[held_out])
        voted[layer] = float((majority(nearest(x[fit], y[fit], x[held_out], 20)) == y[held_out]).mean())
        log.info("layer %s  held out: probe %.2f %%  20-NN %.2f %%", layer, 100 * probed[layer], 100 * voted[layer])
    layer = max(probed, key=probed.get)
    by_c = {C: LinearProbe(Cs=(C,)).fit(train[layer][fit], y[fit]).score(train[layer][held_out], y[held_out]) for C in LinearProbe().Cs}
    C = max(by_c, key=by_c.get)
    correct = LinearProbe(Cs=(C,)).fit(train[layer], y).predict(test[layer]) == y_test
    result = {
        "held_out_probe": {str(key): value for key, value in probed.items()},
        "held_out_20nn": {str(key): value for key, value in voted.items()},
        "probe": {"layer": layer, "C": C, "test_accuracy": float(correct.mean()), "test_interval": bootstrap_interval(correct)},
    }
    layer = max(voted, key=voted.get)
    labels_near = nearest(train[layer][fit], y[fit], train[layer][held_out], max(NEIGHBORS))
    by_k = {k: float((majority(labels_near[:, :k]) == y[held_out]).mean()) for k in NEIGHBORS}
    k = max(by_k, key=by_k.get)
    correct = majority(nearest(train[layer], y, test[layer], k)) == y_test
    result["knn"] = {"layer": layer, "k": k, "test_accuracy": float(correct.mean()), "test_interval": bootstrap_interval(correct)}
    return result


def nearest(gallery: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Labels (n_queries, k) of the nearest gallery items by cosine, nearest first."""
    index = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(gallery)
    return labels[index.kneighbors(queries, return_distance=False)]


def majority(near: np.ndarray) -> np.ndarray:
    """The most frequent label of each row of `near` (n, k); on a tie, that of the nearest item if it is among them."""
    classes = np.unique(near)
    votes = np.stack([(near == label).sum(1) + 0.5 * (near[:, 0] == label) for label in classes], axis=1)
    return classes[votes.argmax(1)]


def train_judge(images: Tensor, labels: Tensor, test_images: Tensor, test_labels: np.ndarray, args: argparse.Namespace):
    """A small CNN trained on real images, and its accuracy on real test images."""
    judge = train_classifier(images, labels, seed=args.seed)
    correct = predicted(judge, test_images) == test_labels
    accuracy = {"network": "CNN of 3 convolutions", "epochs": EPOCHS, "test_accuracy": float(correct.mean())}
    log.info("judge: %.2f %% of real test images", 100 * correct.mean())
    return judge, {**accuracy, "test_interval": bootstrap_interval(correct)}


def generation_quality(model: nn.Module, judge: nn.Module, args: argparse.Namespace) -> dict:
    settings = {
        "num_reveal_steps": args.reveal_steps,
        "num_denoise_steps": args.denoise_steps,
        "guidance_scale": args.guidance_scale,
    }
    labels = torch.arange(args.generated) % model.generator.config.num_classes
    random = torch.Generator().manual_seed(args.seed)
    images = torch.cat([model.generate(part, generator=random, **settings) for part in labels.split(250)])
    correct = predicted(judge, images) == labels.numpy()
    by_class = {int(label): float(correct[labels.numpy() == label].mean()) for label in labels.unique()}
    share = {"recognised": float(correct.mean()), "interval": bootstrap_interval(correct), "by_class": by_class}
    return {"images": args.generated, **settings, **share}


def probe_curve(model: nn.Module, run: Path, images: Tensor, labels: np.ndarray, args: argparse.Namespace) -> list[dict]:
    """Held-out probe accuracy of every layer over the checkpoints of a run, on 10,000 training images and the held-out ones."""
    rows = torch.cat([torch.arange(min(10_000, len(images) - args.holdout)), torch.arange(len(images) - args.holdout, len(images))])
    y = labels[rows.numpy()]
    curve = []
    for step in checkpoint.steps_in(run / "checkpoints"):
        model.generator.load_state_dict(checkpoint.load(run / "checkpoints", step)["ema"])
        accuracies = {}
        for layer, x in extract_features(model, images[rows], progress=False).items():
            probe = LinearProbe(Cs=(0.1,)).fit(x[: -args.holdout], y[: -args.holdout])
            accuracies[str(layer)] = float(probe.score(x[-args.holdout :], y[-args.holdout :]))
        curve.append({"step": step, "held_out_probe": accuracies})
        log.info("step %d  best layer %.2f %%", step, 100 * max(accuracies.values()))
    return curve


def print_table(result: dict) -> None:
    print(f"\n{result['model']} on Fashion-MNIST, {result['dataset']['train']} + {result['dataset']['test']} images")
    if "tokenizer" in result:
        print(
            "tokenizer  PSNR {psnr_db:.2f} dB, bits used by {bit_usage_min:.1%} to {bit_usage_max:.1%} of tokens".format(
                **result["tokenizer"]
            )
        )
    for name in ("raw_pixels", "features") if "features" in result else ():
        for kind in ("probe", "knn"):
            row = result[name][kind]
            low, high = (100 * value for value in row["test_interval"])
            accuracy = 100 * row["test_accuracy"]
            print(f"{name:<12}{kind:<7}layer {row['layer']!s:<6}{accuracy:6.2f} %   {low:.2f} - {high:.2f}")
    for name, key, interval in (("judge", "test_accuracy", "test_interval"), ("generation", "recognised", "interval")):
        if name in result:
            low, high = (100 * value for value in result[name][interval])
            print(f"{name:<12}{'':<19}{100 * result[name][key]:6.2f} %   {low:.2f} - {high:.2f}")


def plot(result: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    curve = result.get("curve", [])
    figure, panels = plt.subplots(1, 2 if curve else 1, figsize=(10.5 if curve else 6.0, 4.0), layout="constrained", squeeze=False)
    axes = panels[0, 0]
    for key, label, color in (("held_out_probe", "linear probe", "#0072B2"), ("held_out_20nn", "20-NN", "#D55E00")):
        accuracies = result["features"][key]
        axes.plot([int(layer) for layer in accuracies], [100 * value for value in accuracies.values()], "o-", color=color, label=label)
        axes.axhline(100 * next(iter(result["raw_pixels"][key].values())), color=color, linestyle="--", label=f"{label}, raw pixels")
    axes.set(xlabel="block (0-based)", ylabel="accuracy on held-out training images, %", title=f"{result['model']}: over depth")
    if curve:
        axes = panels[0, 1]
        best = [100 * max(point["held_out_probe"].values()) for point in curve]
        axes.semilogx([point["step"] for point in curve], best, "o-", color="#0072B2", label="linear probe, best layer")
        axes.set_xticks([point["step"] for point in curve], [f"{point['step']:,}" for point in curve], rotation=45, minor=False)
        axes.minorticks_off()
        axes.set(xlabel="training step", ylabel="accuracy on held-out training images, %", title="over training (10,000 probe images)")
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
