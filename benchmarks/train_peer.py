"""The honest peers: the trunk of bigr_nano's size trained on the same images for something else, with the same number of images seen.

mae: a masked autoencoder; simclr: two views (needs `pip install "bigr_features[peers]"`); supervised: with the classes, as a ceiling.
Optimiser, schedule, precision and averaged weights are those of bigr_nano's own training, so that the objective is what differs. A run
that was stopped goes on from its last checkpoint. Writes the trunk as timm weights, which `benchmarks/linear_probe.py` takes:

    python benchmarks/train_peer.py mae --data zalando-datasets/fashion_mnist --steps 20000 --out runs/mae
    python benchmarks/linear_probe.py --model vit_nano_patch4_32=runs/mae/model.safetensors
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import timm
import torch
from peer_objectives import METHODS, views_for
from peers import VIT_NANO
from safetensors.torch import save_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bigr_features.data import open_images
from bigr_features.evaluate.reports import array_hash, environment, write_json
from bigr_features.functional.precision import CHOICES, choose_precision
from bigr_features.train import checkpoint
from bigr_features.train.ema import EMA
from bigr_features.train.optimizer import build_optimizer
from bigr_features.train.sampler import batch_positions, hold_out
from bigr_features.train.schedule import learning_rate_factor, set_learning_rate

log = logging.getLogger("train_peer")
FREE = ("data", "out", "save_every", "threads")  # settings that may change when a run goes on
SIZE = 32


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads)
    train(args)
    print(f"wrote {args.out / 'model.safetensors'}")


def train(args: argparse.Namespace) -> dict:
    """Train the peer that `args` describe, or go on with it; returns what training.json says.

    Raises
    ------
    ValueError
        If the folder holds a run of other settings, a batch holds no whole images, or classes are asked of images without labels.
    """
    torch.manual_seed(args.seed)
    images = open_images(args.data, "train", size=SIZE, limit=args.limit)
    if args.method == "supervised" and images.labels is None:
        raise ValueError(f"{args.data} has no labels, and the supervised peer learns from nothing else.")
    pixels = images.read(np.arange(len(images)))[0]
    labels = np.zeros(len(pixels), np.int64) if images.labels is None else images.labels
    rows, _ = hold_out(len(pixels), args.validation, args.seed)
    encoder = timm.create_model(VIT_NANO, num_classes=0)
    model = METHODS[args.method](encoder, int(labels.max()) + 1)
    if args.batch_size % model.views:
        raise ValueError(f"batch_size={args.batch_size}, but {args.method} takes {model.views} views of an image; give a multiple of it.")
    optimizer = build_optimizer(model, args.learning_rate, args.weight_decay, (0.9, 0.95))
    ema = EMA(model, args.ema_decay, warmup=True)
    precision = choose_precision(args.precision, "cpu", encoder)
    settings = {key: value for key, value in vars(args).items() if key not in FREE} | {
        "data_sha256": array_hash(pixels[rows], labels[rows])
    }
    first, spent = restore(args.out, settings, model, optimizer, ema)
    facts = {
        "model": VIT_NANO,
        "method": args.method,
        "encoder_parameters": sum(p.numel() for p in encoder.parameters()),
        "trained_parameters": sum(p.numel() for p in model.parameters()),
        "images_seen": args.steps * args.batch_size,
        **precision.as_dict(),
        "settings": settings,
    }
    mean, std = (torch.tensor(encoder.default_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    views, losses, started = views_for(args.method, SIZE), [], time.process_time()
    for step in range(first + 1, args.steps + 1):
        random = np.random.default_rng([args.seed, step])
        torch.manual_seed(int(random.integers(2**62)))  # of transforms that draw for themselves
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        factor = learning_rate_factor(step, warmup_steps=args.warmup_steps, total_steps=args.steps, schedule=args.schedule)
        set_learning_rate(optimizer, factor)
        items = rows[batch_positions(len(rows), args.batch_size // model.views, step - 1, args.seed)]
        batch = torch.from_numpy(np.concatenate([views(pixels[item], random) for item in items])).permute(0, 3, 1, 2).float() / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=precision.name == "bf16"), plain_attention(precision.name == "bf16"):
            loss = model((batch - mean) / std, torch.from_numpy(labels[items]), generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(step)
        losses.append(float(loss.detach()))
        if step % 500 == 0 or step == args.steps:
            log.info("%s: step %d of %d  loss %.4f", args.method, step, args.steps, np.mean(losses[-500:]))
        if step % args.save_every == 0 or step == args.steps:
            now = spent + time.process_time() - started
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "average": ema.average}
            checkpoint.save(args.out / "checkpoints", {"step": step, "settings": settings, "core_seconds": now, **state}, keep_last=1)
            facts |= {"step": step, "loss": float(np.mean(losses[-500:])), "core_seconds": now, "environment": environment()}
            with ema.swapped():
                weights = {key: value.detach().clone() for key, value in encoder.state_dict().items()}
            save_file(weights, args.out / "model.safetensors")
            write_json(args.out / "training.json", facts)
    return json.loads((args.out / "training.json").read_text())


def restore(folder: Path, settings: dict, model: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA) -> tuple[int, float]:
    """Last step and core-seconds of the run in a folder, its state put back; 0 and 0 where there is none."""
    steps = checkpoint.steps_in(folder / "checkpoints")
    if not steps:
        return 0, 0.0
    state = checkpoint.load(folder / "checkpoints", steps[-1])
    if state["settings"] != settings:
        differing = [key for key in settings if state["settings"].get(key) != settings[key]]
        raise ValueError(f"{folder} holds a run with another {', '.join(differing)}; give another --out folder, or its settings.")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for mine, kept in zip(ema.average, state["average"], strict=True):
        mine.copy_(kept)
    log.info("continuing after step %d", steps[-1])
    return steps[-1], state["core_seconds"]


def plain_attention(bf16: bool):
    """Attention of timm's blocks by plain products where bf16 is asked for: the fused CPU kernel is several times slower in bf16."""
    if not bf16:
        return nullcontext()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    return sdpa_kernel(SDPBackend.MATH)


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Options of a peer's training, for this script and for equal_budget.py."""
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=64, help="sequences a step; a method of two views has half as many images")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--warmup-steps", type=int, default=500)
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="cosine")
    parser.add_argument("--ema-decay", type=float, default=0.9995)
    parser.add_argument("--validation", type=int, default=2000, help="training images left out, as in `bigr train` (default: %(default)s)")
    parser.add_argument("--save-every", type=int, default=1000)
    parser.add_argument("--limit", type=int, help="training images, drawn by class, to try the script")
    parser.add_argument("--precision", choices=CHOICES, default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(METHODS))
    parser.add_argument("--source", "--data", dest="data", required=True, help="what `bigr train-tokenizer --source` takes")
    add_training_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
