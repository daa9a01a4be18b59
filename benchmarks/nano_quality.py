"""What is a trained bigr_nano worth as a generator? Its tokenizer and its images, on the full Fashion-MNIST.

- Tokenizer: PSNR on test images, and how evenly its bits are used.
- Generation: the share of class-conditional images that a small CNN, trained on the real training images, takes for the asked class.

What its features are worth is measured by linear_probe.py and knn.py, over the course of training by probe_curve.py.

    python benchmarks/nano_quality.py --data path/to/fashion_mnist
    python benchmarks/nano_quality.py --data zalando-datasets/fashion_mnist --parts tokenizer
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import timm
import torch
from classifier import EPOCHS, predicted, train_classifier
from torch import Tensor, nn

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import fingerprint
from bigr_features.data import open_images
from bigr_features.evaluate.reconstruction import bit_usage, psnr
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json

log = logging.getLogger("nano_quality")
PARTS = ("tokenizer", "generation")


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
        "protocol": {"interval": "95 % bootstrap over images", "seed": args.seed},
    }
    if "tokenizer" in args.parts:
        result["tokenizer"] = tokenizer_quality(model, test_images)
        log.info("tokenizer: %s", result["tokenizer"])
    if "generation" in args.parts:
        judge, accuracy = train_judge(train_images, torch.from_numpy(train.labels), test_images, test.labels, args)
        result["judge"] = accuracy
        result["generation"] = generation_quality(model, judge, args)
        log.info("generation: %s", result["generation"]["recognised"])
    result["environment"] = environment()
    name = "_".join([args.model.replace(".", "_"), *(args.parts if len(args.parts) < len(PARTS) else [])])
    write_json(args.out / f"{name}.json", result)
    print_table(result)
    print(f"wrote {args.out / name}.json")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", "--data", dest="data", required=True, help="Fashion-MNIST: its Hub id, or a folder in the same layout")
    parser.add_argument("--model", default="bigr_nano.fashion_mnist")
    parser.add_argument("--weights", type=Path, help="weights instead of those that ship: what `bigr train` or `bigr export` wrote")
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


def print_table(result: dict) -> None:
    print(f"\n{result['model']} on Fashion-MNIST, {result['dataset']['train']} + {result['dataset']['test']} images")
    if "tokenizer" in result:
        print(
            "tokenizer  PSNR {psnr_db:.2f} dB, bits used by {bit_usage_min:.1%} to {bit_usage_max:.1%} of tokens".format(
                **result["tokenizer"]
            )
        )
    for name, key, interval in (("judge", "test_accuracy", "test_interval"), ("generation", "recognised", "interval")):
        if name in result:
            low, high = (100 * value for value in result[name][interval])
            print(f"{name:<12}{'':<19}{100 * result[name][key]:6.2f} %   {low:.2f} - {high:.2f}")


if __name__ == "__main__":
    main()
