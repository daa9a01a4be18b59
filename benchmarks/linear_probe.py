"""How good are the features of each block? A linear probe per layer, beside raw pixels, their PCA and the tokenizer's bits.

The layer and the regularisation (or learning rate) of every probe are chosen on held-out training images; the test images are
used once for each row. With no arguments it runs in a few minutes on a CPU, on images that need no download.

    python benchmarks/linear_probe.py
    python benchmarks/linear_probe.py --dataset digits --layers 0 3 7 --out runs/probe
    python benchmarks/linear_probe.py --model bigr_nano.fashion_mnist resnet18 vit_nano_patch4_32=runs/mae/model.safetensors
    python benchmarks/linear_probe.py --data-dir path/to/images --model bigr_l.d24_in1k --protocol mae
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from feature_sets import add_arguments
from probe_report import run

from bigr_features.evaluate.linear_probe import LinearProbe
from bigr_features.evaluate.mae_probe import MAEProbe

PROTOCOLS = ("exact", "mae")
MAE_BASE_LRS = (0.03, 0.1, 0.3, 1.0, 3.0)


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.protocol == "exact":
        Cs = LinearProbe().Cs
        protocol = {"probe": "multinomial logistic regression on standardised features", "Cs": list(Cs)}
        run("linear_probe", protocol, lambda _: LinearProbe(Cs=Cs), args)
        return
    protocol = {
        "probe": "batch norm without affine and a linear layer, LARS, 90 epochs, cosine: the protocol of MAE and of the paper",
        "augmentation": "none, features are cached",
        "base_lrs": list(MAE_BASE_LRS),
        "batch_size": f"{args.probe_batch_size}, or what divides a smaller training part",
    }
    run("linear_probe_mae", protocol, lambda n: MAEProbe(MAE_BASE_LRS, probe_batch_size(n, args)), args)


def probe_batch_size(num_images: int, args: argparse.Namespace) -> int:
    """The batch asked for, or less where that leaves fewer than 4 batches in an epoch of the part that is not held out."""
    return max(1, min(args.probe_batch_size, int(num_images * (1 - args.holdout)) // 4))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="exact", help="kind of probe (default: %(default)s)")
    parser.add_argument("--probe-batch-size", type=int, default=1024, help="images per batch of --protocol mae (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/linear_probe"), help="folder for JSON and picture (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
