"""Does the order of words reach the image? Captions of two things side by side, read with identity and with zero rotary rows.

Each picture, 64 x 64, has two real images of Fashion-MNIST side by side, "bag left of ankle boot"; the same words in the other order
describe another picture. Two generators of one size are trained in the same way on the same pictures; they differ in the rotary rows of the
caption only (identity: no rotation; zero: as in LlamaGen, where queries and keys of the caption vanish). Measured on generated pictures:
the share with the right things on both sides, and with the right things on the wrong sides, as a CNN sees the halves.

    python benchmarks/word_order.py --data path/to/fashion_mnist --steps 4000
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from classifier import EPOCHS, add_source, predicted, train_classifier
from torch import Tensor, nn

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.data import open_images
from bigr_features.data.captions import NOUNS
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json
from bigr_features.functional.words import Vocabulary
from bigr_features.models.generator import BiGR
from bigr_features.models.presets import preset_configs
from bigr_features.models.text_config import ROTATIONS, TextConfig
from bigr_features.train.draws import draw
from bigr_features.train.ema import EMA

log = logging.getLogger("word_order")
SIZE = 32
SETTINGS = ("canvas", "steps", "batch", "images", "pictures", "seed", "depth", "width", "learning_rate")


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    tokenizer = timm.create_model("bigr_nano.fashion_mnist", pretrained=True, img_size=args.canvas).tokenizer.eval()
    train, test = (open_images(args.data, split, size=SIZE, limit=args.limit) for split in ("train", "test"))
    halves = [things(part.read(np.arange(len(part)))[0], args.canvas // 2) for part in (train, test)]
    judge = train_classifier(enlarged(halves[0]), torch.from_numpy(train.labels), seed=args.seed, epochs=args.epochs)
    pictures, labels = side_by_side(halves[0], train.labels, args.pictures, args.seed)
    real, real_labels = side_by_side(halves[1], test.labels, args.images, args.seed + 1)
    with torch.no_grad():
        codes = torch.cat([tokenizer.encode(part) for part in pictures.split(250)])
        decoded = torch.cat([tokenizer.decode(tokenizer.encode(part)) for part in real.split(250)]).clamp(0, 1)
    result = {
        "benchmark": "word_order",
        "dataset": {"name": "Fashion-MNIST, two images side by side", "train": len(train), "sha256": array_hash(train.labels, test.labels)},
        "protocol": {name: getattr(args, name) for name in SETTINGS},
        "judge": {
            "test_accuracy": float((predicted(judge, enlarged(halves[1])) == test.labels).mean()),
            "sees": f"halves of {args.canvas // 2} x {args.canvas // 2}{', enlarged' if args.canvas < 2 * SIZE else ''}",
        },
        "decoded_real_pictures": placed(decoded, real_labels, judge),
        "rotations": {},
    }
    for rotation in ROTATIONS:
        model, losses = trained(codes, labels, rotation, args)
        with torch.no_grad():
            random = torch.Generator().manual_seed(args.seed)
            wanted = [caption(*pair) for pair in real_labels.tolist()]
            drawn = [
                model.generate(text=wanted[i : i + 100], generator=random, num_reveal_steps=12, num_denoise_steps=10)
                for i in range(0, len(wanted), 100)
            ]
            images = tokenizer.decode(torch.cat(drawn)).clamp(0, 1)
        result["rotations"][rotation] = {**placed(images, real_labels, judge), "loss": float(np.mean(losses[-100:]))}
    result["environment"] = environment()
    print_table(result)
    write_json(args.out / "word_order.json", result)
    print(f"wrote {args.out / 'word_order.json'}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source(parser)
    parser.add_argument("--canvas", type=int, choices=(SIZE, 2 * SIZE), default=2 * SIZE, help="side of a picture (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--pictures", type=int, default=20_000, help="to train on (default: %(default)s)")
    parser.add_argument("--images", type=int, default=500, help="to generate (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the judge (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="use the first images of each split only, to try the script")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/word_order"), help="folder for the JSON (default: %(default)s)")
    return parser.parse_args()


def things(pixels: np.ndarray, side: int) -> Tensor:
    """uint8 (n, S, S, C) to float (n, C, side, side) in [0, 1], side being S or S / 2."""
    return F.avg_pool2d(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, pixels.shape[1] // side)


def enlarged(halves: Tensor) -> Tensor:
    """As the judge sees them, (n, C, S, S)."""
    return halves if halves.shape[-1] == SIZE else F.interpolate(halves, size=SIZE, mode="bilinear").clamp(0, 1)


def side_by_side(halves: Tensor, labels: np.ndarray, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (count, C, 2 s, 2 s) with two things (n, C, s, s) of different classes in the middle rows, and their labels (count, 2)."""
    random = np.random.default_rng(seed)
    left = random.integers(len(labels), size=count)
    right = random.integers(len(labels), size=count)
    same = labels[left] == labels[right]
    while same.any():
        right[same] = random.integers(len(labels), size=int(same.sum()))
        same = labels[left] == labels[right]
    side = halves.shape[-1]
    pictures = torch.zeros(count, halves.shape[1], 2 * side, 2 * side)
    pictures[:, :, side // 2 : side // 2 + side, :side] = halves[left]
    pictures[:, :, side // 2 : side // 2 + side, side:] = halves[right]
    return pictures, torch.from_numpy(np.stack([labels[left], labels[right]], axis=1))


def caption(left: int, right: int) -> str:
    return f"{NOUNS[left][0]} left of {NOUNS[right][0]}"


def trained(codes: Tensor, labels: Tensor, rotation: str, args: argparse.Namespace) -> tuple[BiGR, list[float]]:
    """A generator trained on the pictures, with averaged weights, and its losses."""
    texts = [caption(*pair) for pair in labels.tolist()]
    text = TextConfig(width=args.width, length=8, num_heads=4, vocabulary=Vocabulary.of(texts).words, rotation=rotation)
    _, config = preset_configs("bigr_nano", depth=args.depth, width=args.width, text=text, init_std=0.05, gate_init=0.2)
    config = replace(config, denoiser_width=args.width, grid_size=math.isqrt(codes.shape[1]))
    torch.manual_seed(args.seed)
    model = BiGR(config).train()
    captions = model.captions(texts)
    optimizer = torch.optim.AdamW(model.parameters(), args.learning_rate, betas=(0.9, 0.95), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, total_steps=args.steps, pct_start=0.1)
    ema = EMA(model, 0.999, warmup=True)
    random = torch.Generator().manual_seed(args.seed)
    losses = []
    for step in range(1, args.steps + 1):
        rows = torch.randint(len(codes), (args.batch,), generator=random)
        own = codes[rows]
        loss = model.loss(own, text=captions[rows], **draw(model, args.batch, random, 2).loss_arguments(own)).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        ema.update(step)
        losses.append(loss.item())
        if step % 200 == 0:
            log.info("%s rotation: step %d of %d  loss %.4f", rotation, step, args.steps, np.mean(losses[-200:]))
    with ema.swapped():
        result = copy.deepcopy(model)
    return result.eval(), losses


def placed(pictures: Tensor, labels: Tensor, judge: nn.Module) -> dict:
    """Shares of pictures whose halves are the things asked for: both in their places, both exchanged, and right halves one by one."""
    quarter = pictures.shape[-1] // 4
    middle = pictures[:, :, quarter : 3 * quarter]
    sides = np.stack([predicted(judge, enlarged(half)) for half in middle.chunk(2, dim=3)], axis=1)
    wanted = labels.numpy()
    right, swapped = (sides == wanted).all(1), (sides == wanted[:, ::-1]).all(1)
    return {
        name: {"share": float(np.mean(flags)), "interval": bootstrap_interval(flags)}
        for name, flags in {"both_right": right, "exchanged": swapped, "halves_right": (sides == wanted).ravel()}.items()
    }


def print_table(result: dict) -> None:
    print(f"\nshares of {result['protocol']['images']} pictures: both things in their places, exchanged; halves that are right")
    for name, row in {"decoded real": result["decoded_real_pictures"], **result["rotations"]}.items():
        print(f"{name:<14}" + "  ".join(f"{row[key]['share']:6.1%}" for key in ("both_right", "exchanged", "halves_right")))


if __name__ == "__main__":
    main()
