"""How good are the features of each block without any training? A k-nearest-neighbour vote per layer, beside raw pixels, PCA and bits.

The layer, k, the temperature and the whitening of the features are chosen on held-out training images; the test images are
used once for each row.

    python benchmarks/knn.py
    python benchmarks/knn.py --dataset digits --model bigr_nano.fashion_mnist vit_nano_patch4_32=random
    python benchmarks/knn.py --data-dir path/to/images --model bigr_l.d24_in1k --neighbors 10 20 100 200
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch
from feature_sets import add_arguments
from probe_report import run

from bigr_features.evaluate.knn import KNNClassifier


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("faiss").setLevel(logging.WARNING)
    if args.threads:
        torch.set_num_threads(args.threads)
    protocol = {
        "classifier": "vote of the nearest training images by cosine, each with weight exp(similarity / temperature), exact search",
        "neighbors": args.neighbors,
        "temperatures": args.temperatures,
        "whitenings": [None, *args.whiten],
    }
    choices = dict(n_neighbors=tuple(args.neighbors), temperature=tuple(args.temperatures), whiten=(None, *args.whiten))
    run(
        "knn",
        protocol,
        lambda _: KNNClassifier(**choices),
        args,
        votes=True,
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--neighbors", nargs="+", type=int, default=[5, 10, 20, 50, 100], help="k to choose from (default: %(default)s)")
    parser.add_argument(
        "--temperatures", nargs="+", type=float, default=[0.02, 0.07, 0.2], help="temperatures to choose from (default: %(default)s)"
    )
    parser.add_argument(
        "--whiten",
        nargs="*",
        type=float,
        default=[1e-4, 1e-2, 1.0],
        help="shrinkages of whitening to try besides none (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/knn"), help="folder for JSON and picture (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
