"""Synthetic captions of Fashion-MNIST as a table that `bigr encode` and `bigr train --captions` read: one row an image, several captions.

    python benchmarks/synthetic_captions.py --data path/to/fashion_mnist --out runs/captions/train.parquet

The rules, templates and combinations that are held out stand in `bigr_features/data/captions.py`. An image is captioned as the model sees
it, at 32 x 32 pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import datasets
import numpy as np

from bigr_features.data import captions, open_images
from bigr_features.data.tables import table_items

SIZE = 32


def main() -> None:
    args = parse_arguments()
    images = open_images(args.data, args.split, size=SIZE, in_chans=1)
    pixels = images.read(np.arange(len(images)))[0][..., 0]
    texts = captions.captions(pixels, images.labels, args.per_image, args.seed)
    table = table_items(args.data, args.split).table
    args.out.parent.mkdir(parents=True, exist_ok=True)
    table.add_column("captions", texts).cast_column("image", datasets.Image()).to_parquet(str(args.out))
    words = np.array([len(words) for words in captions.attributes(pixels, images.labels)])
    print(f"{len(texts)} images, {args.per_image} captions each, {words.mean():.2f} true words an image; for example")
    for own in texts[:8]:
        print("  " + " | ".join(own[:3]))
    print(f"wrote {args.out}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", "--data", dest="data", required=True, help="Fashion-MNIST: its Hub id, or a folder in the same layout")
    parser.add_argument("--split", default="train")
    parser.add_argument("--per-image", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
