"""A judge network for a data set: a small CNN trained on its real training images, in whose features generated images are measured.

    python benchmarks/judge.py --data path/to/cifar10 --out runs/judge/cifar10          # some 25 minutes on two cores
    bigr evaluate-generation ...     # through benchmarks/uniformity.py, which registers the architecture and takes judge.safetensors

A run that was stopped goes on after its last finished epoch. `judge.json` beside the weights has accuracy, interval and the weights' hash;
numbers measured with two judges cannot be compared. Importing this file registers `judge_cnn` with timm.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

from bigr_features.checkpoints import fingerprint
from bigr_features.data import open_images
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json
from bigr_features.storage.atomic import replacing, write_atomically

log = logging.getLogger("judge")
SIZE = 32


class JudgeCNN(nn.Module):
    """A residual network of 8 convolutions for 32 x 32 images.   B images, C channels, D features

    Three halvings of the resolution by max-pooling, residual pairs at 16 x 16 and 4 x 4, as in the networks of DAWNBench.
    """

    def __init__(self, width: int = 24, in_chans: int = 3, num_classes: int = 10):
        super().__init__()
        w = width
        self.in_chans, self.num_classes, self.num_features = in_chans, num_classes, 8 * w
        self.stem = _conv(in_chans, w)
        self.stage1 = nn.Sequential(_conv(w, 2 * w), nn.MaxPool2d(2), _Residual(2 * w))  # (B, 2w, 16, 16)
        self.stage2 = nn.Sequential(_conv(2 * w, 4 * w), nn.MaxPool2d(2))  # (B, 4w, 8, 8)
        self.stage3 = nn.Sequential(_conv(4 * w, 8 * w), nn.MaxPool2d(2), _Residual(8 * w))  # (B, 8w, 4, 4)
        self.head = nn.Linear(8 * w, num_classes)
        sides = ((2 * w, 2, "stage1"), (4 * w, 4, "stage2"), (8 * w, 8, "stage3"))
        self.feature_info = [{"num_chs": chs, "reduction": reduction, "module": name} for chs, reduction, name in sides]
        self.pretrained_cfg = {
            "input_size": (in_chans, SIZE, SIZE),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": (0.5,) * in_chans,
            "std": (0.25,) * in_chans,
            "classifier": "head",
            "first_conv": "stem.0",
        }

    def forward_features(self, x: Tensor) -> Tensor:
        return self.stage3(self.stage2(self.stage1(self.stem(x))))  # (B, D, 4, 4)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = x.mean((2, 3))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class _Residual(nn.Sequential):
    def __init__(self, channels: int):
        super().__init__(_conv(channels, channels), _conv(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


@register_model
def judge_cnn(pretrained: bool = False, width: int = 24, in_chans: int = 3, num_classes: int = 10, **_) -> JudgeCNN:
    """The judge of `benchmarks/judge.py`; its weights come from there."""
    if pretrained:
        raise ValueError("judge_cnn has no weights of its own; train them with benchmarks/judge.py.")
    return JudgeCNN(width, in_chans, num_classes)


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    facts = train_judge(args.data, args.out, epochs=args.epochs, width=args.width, seed=args.seed, limit=args.limit, test=args.test_split)
    print(f"{100 * facts['test_accuracy']:.2f} % of {facts['dataset']['test']} test images; wrote {args.out / 'judge.safetensors'}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", "--data", dest="data", required=True, help="a folder, a file or a Hub id, with labels")
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--width", type=int, default=24, help="channels of the first layer; features are 8 times as many")
    parser.add_argument("--limit", type=int, help="train and test on so many images only, to try the script")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def train_judge(
    data: str, out: Path, *, epochs: int = 8, width: int = 24, seed: int = 0, limit: int | None = None, test: str = "test", batch: int = 128
) -> dict:
    """Train a judge, or go on, or read what is there; gives the content of `judge.json`.

    Raises
    ------
    ValueError
        For data without labels, of one class, or a folder with a judge of other settings.
    """
    settings = {"epochs": epochs, "width": width, "seed": seed, "batch": batch, "limit": limit, "optimizer": "SGD, Nesterov, one cycle"}
    done = _finished(out, settings)
    if done is not None:
        return done
    train_set, test_set = (open_images(data, split, size=SIZE, limit=limit) for split in ("train", test))
    for part in (train_set, test_set):
        if part.labels is None:
            raise ValueError(f"{data} (split {part.split!r}) has no labels; a judge needs a folder for each class, or a label column.")
    classes = int(train_set.labels.max()) + 1
    if len(np.unique(train_set.labels)) < 2:
        raise ValueError(f"{data} has one class only; a judge needs 2 classes or more.")
    pixels = [part.read(np.arange(len(part)))[0] for part in (train_set, test_set)]
    images, test_images = (torch.from_numpy(x).permute(0, 3, 1, 2) for x in pixels)
    torch.manual_seed(seed)
    model = timm.create_model("judge_cnn", width=width, num_classes=classes)
    seconds = _train(model, images, torch.from_numpy(train_set.labels), out, settings)
    model.half().float()  # as it is stored, so that the file gives what was measured
    correct = _predicted(model, test_images).numpy() == test_set.labels
    facts = {
        "architecture": "judge_cnn",
        "settings": settings,
        "parameters": sum(p.numel() for p in model.parameters()),
        "features": model.num_features,
        "classes": classes,
        "weights_sha256": fingerprint(model),
        "test_accuracy": float(correct.mean()),
        "test_interval": bootstrap_interval(correct),
        "core_seconds": round(seconds),
        "dataset": {
            "name": Path(data).name,
            "train": len(train_set),
            "test": len(test_set),
            "sha256": array_hash(pixels[0], train_set.labels, pixels[1], test_set.labels),
        },
        "environment": environment(),
    }
    weights = {key: (x.half() if x.is_floating_point() else x).contiguous() for key, x in model.state_dict().items()}
    write_atomically(out / "judge.safetensors", safetensors.torch.save(weights))
    write_json(out / "judge.json", facts)
    (out / "checkpoint.pt").unlink(missing_ok=True)
    return facts


def _finished(out: Path, settings: dict) -> dict | None:
    import json

    if not (out / "judge.json").is_file() or not (out / "judge.safetensors").is_file():
        return None
    found = json.loads((out / "judge.json").read_text())
    if found["settings"] != settings:
        raise ValueError(f"{out} holds a judge of other settings ({found['settings']} there, {settings} now); give another folder.")
    return found


def _train(model: JudgeCNN, images: Tensor, labels: Tensor, out: Path, settings: dict) -> float:
    """Train from the last finished epoch on; gives core-seconds."""
    epochs, batch = settings["epochs"], min(settings["batch"], len(images))
    each = len(images) // batch
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=epochs * each, pct_start=0.25)
    first, seconds, path = 0, 0.0, out / "checkpoint.pt"
    out.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        state = torch.load(path, weights_only=True)
        if state["settings"] != settings:
            raise ValueError(f"{path} is of other settings ({state['settings']}); give another folder, or delete it.")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first, seconds = state["epoch"], state["seconds"]
    for epoch in range(first, epochs):
        random = torch.Generator().manual_seed(settings["seed"] * 1000 + epoch)  # so that an epoch is the same after a stop
        started, total = time.process_time(), 0.0
        model.train()
        order = torch.randperm(len(images), generator=random)[: each * batch]
        for step, rows in enumerate(order.split(batch), start=1):
            x = _augmented(images[rows], random)
            loss = F.cross_entropy(model(x), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            if step % 100 == 0:
                log.info("epoch %d, step %d of %d  loss %.4f", epoch + 1, step, each, total / step)
        seconds += time.process_time() - started
        log.info("epoch %d of %d  loss %.4f  %.0f core-seconds", epoch + 1, epochs, total / each, seconds)
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        with replacing(path) as temporary:
            torch.save({**parts, "epoch": epoch + 1, "seconds": seconds, "settings": settings}, temporary)
    model.eval()
    return seconds


def _normalized(images: Tensor) -> Tensor:
    return (images.float() / 255 - 0.5) / 0.25


def _augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Normalised, shifted by up to 3 pixels, and mirrored by a coin, each image on its own."""
    padded = F.pad(images.float(), (3, 3, 3, 3), mode="reflect")
    top, left = torch.randint(0, 7, (2, len(images)), generator=random)
    rows, columns = top[:, None] + torch.arange(SIZE), left[:, None] + torch.arange(SIZE)
    flip = torch.rand(len(images), generator=random) < 0.5
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    moved = padded[torch.arange(len(images))[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (B, S, S, C)
    return _normalized(moved.permute(0, 3, 1, 2))


@torch.no_grad()
def _predicted(model: JudgeCNN, images: Tensor) -> Tensor:
    return torch.cat([model(_normalized(part)).argmax(1) for part in images.split(500)])


if __name__ == "__main__":
    main()
