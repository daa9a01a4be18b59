"""What the presets of sampling cost and give, and how they were chosen: Frechet distance of CNN features, time, and the class a CNN sees.

Candidates (Halton order, so that the transcoder runs on the tokens of a step only; few reveal steps; a chain that falls over them;
guidance in a part of them) are ranked by the distance of their images to TRAINING images: "fast" is the nearest, "fastest" the quickest
within 5 % of that distance. The presets of the library are then measured against test images, with another seed. One thread; CPU seconds
include the decoder.

    taskset -c 1 python benchmarks/sampling_presets.py
    taskset -c 1 python benchmarks/sampling_presets.py --parts presets --images 2000
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import timm
import torch
from classifier import pooled_features, predicted, train_classifier
from sampling_quality import classes_in_turn, distance, measured, read_split
from sampling_speed import plain_sample_codes

from bigr_features.checkpoints import fingerprint
from bigr_features.evaluate.reports import bootstrap_interval, environment, write_json
from bigr_features.sampling.presets import PRESETS

CANDIDATES = [
    {"order": "halton", "num_reveal_steps": reveals, "num_denoise_steps": first, "final_denoise_steps": last, **guidance}
    for reveals, (first, last), guidance in itertools.product(
        (16, 10, 6),
        ((16, 4), (6, 2)),
        (
            {"guidance_scale": 1.0},
            {"guidance_scale": 2.0, "guidance_schedule": "interval", "guidance_interval": (0.0, 0.5)},
            {"guidance_scale": 2.0, "guidance_schedule": "interval", "guidance_interval": (0.5, 1.0)},
        ),
    )
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample:fashion_mnist", help="Fashion-MNIST: sample:fashion_mnist, its Hub id, or a folder")
    parser.add_argument("--parts", nargs="+", choices=("candidates", "presets"), default=("candidates", "presets"))
    parser.add_argument("--choice-images", type=int, default=500, help="images of each candidate (default: %(default)s)")
    parser.add_argument("--images", type=int, default=500, help="images of each preset (default: %(default)s)")
    parser.add_argument("--exact-images", type=int, default=500, help="images of the exact preset (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of the CNN (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/sampling_presets"), help="folder for the JSON (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = timm.create_model("bigr_nano.fashion_mnist", pretrained=True, num_classes=0).eval()
    (train, train_labels), (test, test_labels) = (read_split(args.data, split, model.img_size) for split in ("train", "test"))
    judge = train_classifier(train, torch.from_numpy(train_labels), seed=args.seed, epochs=args.epochs)
    training, testing = pooled_features(judge, train), pooled_features(judge, test)
    path = args.out / "sampling_presets.json"
    result: dict = {
        "benchmark": "sampling_presets",
        "model": "bigr_nano.fashion_mnist",
        "weights_sha256": fingerprint(model),
        "protocol": {
            "choice_images": args.choice_images,
            "choice_seed": args.seed + 1,
            "seed": args.seed,
            "classes": "in turn",
            "batch": 50,
        },
        "judge": {"epochs": args.epochs, "test_accuracy": float((predicted(judge, test) == test_labels).mean())},
        "plain_cpu_seconds_per_image": plain_seconds(model),
    }
    if "candidates" in args.parts:
        rows = []
        for settings in CANDIDATES:
            images, seconds = drawn(model, settings, args.choice_images, args.seed + 1)
            found = distance(pooled_features(judge, images), training)
            rows.append({**settings, "frechet_to_training_images": found, "cpu_seconds_per_image": seconds})
            print(rows[-1], flush=True)
        result["candidates"] = rows
    elif path.is_file():  # of an earlier call
        before = json.loads(path.read_text())
        result["candidates"] = before.get("candidates", [])
        result["protocol"] |= {name: before["protocol"][name] for name in ("choice_images", "choice_seed")}
    if "presets" in args.parts:
        result["presets"] = []
        for name, settings in PRESETS.items():
            count = args.exact_images if name == "exact" else args.images
            images, seconds = drawn(model, settings, count, args.seed)
            right = predicted(judge, images) == classes_in_turn(model, count).numpy()
            row = {"name": name, **settings, "images": count, "cpu_seconds_per_image": seconds}
            row |= measured(pooled_features(judge, images), testing, SimpleNamespace(resamples=200))
            row |= {"recognised": float(right.mean()), "recognised_interval": bootstrap_interval(right)}
            row["of_plain"] = seconds / result["plain_cpu_seconds_per_image"]
            result["presets"].append(row)
            print(row, flush=True)
    result["environment"] = environment()
    write_json(path, result)
    print(f"wrote {path}")


def drawn(model: torch.nn.Module, settings: dict, count: int, seed: int) -> tuple[torch.Tensor, float]:
    """Images (count, C, S, S) in [0, 1], and CPU seconds an image of 50 at a time."""
    random, times, images = torch.Generator().manual_seed(seed), [], []
    for part in classes_in_turn(model, count).split(50):
        start = time.process_time()
        images.append(model.generate(part, generator=random, **settings))
        times.append((time.process_time() - start) / len(part))
    return torch.cat(images), float(np.median(times))


def plain_seconds(model: torch.nn.Module, batch: int = 8) -> float:
    """CPU seconds an image of the paper's algorithm done plainly, decoder included."""
    start = time.process_time()
    codes = plain_sample_codes(model.generator, torch.arange(batch) % 10, 20, model.generator.config.num_denoise_steps, 2.5)
    with torch.no_grad():
        model.decode(codes)
    return (time.process_time() - start) / batch


if __name__ == "__main__":
    main()
