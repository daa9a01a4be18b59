"""What each choice in sampling does to the images: Frechet distance of CNN features to real test images, and the class a CNN sees.

- The order of reveal: entropy against random, raster and Halton (BiGR's Table 3 on a small scale), all with the paper's guidance, all
  without guidance, and each with the guidance and logit temperature (entropy: and Gumbel noise) that are best for it on training images
  and another seed.
- Sweeps over reveal steps (in entropy and in random order) and denoise steps (its Figure 3), and over guidance scales.
- The official against the exact reverse step.
- Inpainting a central hole of half the side: how often the CNN still sees the class it saw in the original, against a hole filled with the
  mean of the training images.

Generated and real features come from the same small CNN, so distances can be compared within one result only. All settings draw the same
classes from the same seed.

    python benchmarks/sampling_quality.py                                      # the sample that ships, minutes on two cores
    python benchmarks/sampling_quality.py --data path/to/fashion_mnist --images 2000 --epochs 4
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
from pathlib import Path

import numpy as np
import timm
import torch
from classifier import pooled_features, predicted, train_classifier
from torch import Tensor, nn

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import fingerprint
from bigr_features.data import open_images
from bigr_features.evaluate.frechet import frechet_feature_distance, frechet_interval
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json
from bigr_features.sampling import inpaint
from bigr_features.sampling.regions import center_mask

log = logging.getLogger("sampling_quality")
# guidance and Gumbel temperature of the paper's Table 7 (L)
BASE = {"order": "entropy", "gumbel_temperature": 0.17, "guidance_scale": 2.5, "num_reveal_steps": 12, "num_denoise_steps": 16}
NO_GUMBEL = {"gumbel_temperature": 0.0}
ORDERS = {
    "entropy": {},
    "entropy, no Gumbel noise": NO_GUMBEL,
    **{order: {"order": order, **NO_GUMBEL} for order in ("random", "raster", "halton")},
}
# what a row is called: what differs from BASE
SWEEPS = {
    "order": ORDERS,
    "order_unguided": {name: {**changes, "guidance_scale": 1.0} for name, changes in ORDERS.items()},
    "posterior": {posterior: {"posterior": posterior} for posterior in ("official", "exact")},
    "denoise": {steps: {"num_denoise_steps": steps} for steps in (4, 8, 16, 32)},
    "reveal": {steps: {"num_reveal_steps": steps} for steps in (4, 8, 12, 20)},
    "reveal_random": {steps: {"num_reveal_steps": steps, "order": "random", **NO_GUMBEL} for steps in (4, 8, 12, 20)},
    "guidance": {scale: {"guidance_scale": scale} for scale in (1.0, 1.5, 2.5, 4.0)},
}
# what each order may choose: guidance, logit temperature, and for the entropy order the Gumbel noise
GUIDANCE_CHOICES = (1.0, 1.5, 2.5)
TEMPERATURE_CHOICES = (1.0, 1.1, 1.25)
GUMBEL_CHOICES = (0.0, 0.17, 0.5)
PARTS = ("order", "order_unguided", "order_chosen", "inpainting", "posterior", "denoise", "reveal", "reveal_random", "guidance")
BARS_AND_CURVES = [part for part in PARTS if part != "inpainting"]


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.perf_counter()
    overlay = {"file": str(args.weights)} if args.weights else None
    model = timm.create_model(args.model, pretrained=True, pretrained_cfg_overlay=overlay).eval()
    (train, train_labels), (test, test_labels) = (read_split(args.data, split, model.img_size) for split in ("train", "test"))
    judge = train_classifier(train, torch.from_numpy(train_labels), seed=args.seed, epochs=args.epochs)
    seen = predicted(judge, test)
    reference = pooled_features(judge, test)
    result = {
        "benchmark": "sampling_quality",
        "model": args.model,
        "weights_sha256": fingerprint(model),
        "dataset": {
            "name": "Fashion-MNIST" + (" sample" if args.data.startswith("sample:") else ""),
            "train": len(train),
            "test": len(test),
            "sha256": array_hash(train.numpy(), train_labels, test.numpy(), test_labels),
        },
        "protocol": {
            "features": "128 channels of the CNN's last convolution, averaged over the image; reference: all test images",
            "interval": "95 %: bootstrap over generated images, the reference held fixed; for shares, bootstrap over images",
            "images": args.images,
            "choice": f"{args.choice_images} images of seed {args.seed + 1} for each setting, against the training images",
            "classes": "in turn",
            "base": base(args),
            "seed": args.seed,
        },
        "judge": {"epochs": args.epochs, "test_accuracy": float((seen == test_labels).mean())},
        "real_train_images": measured(pooled_features(judge, spread(train, train_labels, args.images)), reference, args),
    }
    log.info("CNN %.2f %%, real training images at %s", 100 * result["judge"]["test_accuracy"], result["real_train_images"])
    done: dict[tuple, dict] = {}
    for part in args.parts:
        if part == "inpainting":
            rows = evenly(test_labels, args.images)
            result[part] = inpainting_quality(model, judge, train, test[rows], torch.from_numpy(test_labels[rows]), args)
        elif part == "order_chosen":
            result[part] = [
                best_of_order(order, model, judge, pooled_features(judge, train), reference, args)
                for order in ("entropy", "random", "raster", "halton")
            ]
        else:
            result[part] = []
            for name, changes in SWEEPS[part].items():
                settings = {**base(args), "posterior": "official", **changes}
                key = tuple(sorted(settings.items()))
                if key not in done:
                    done[key] = quality(model, judge, reference, settings, args)
                result[part].append({"name": name, **settings, **done[key]})
                log.info("%s %s: %s", part, name, done[key])
        result["environment"] = {**environment(), "seconds": round(time.perf_counter() - started)}
        write_json(args.out / f"{args.name}.json", result)
    print_table(result)
    if any(part in result for part in BARS_AND_CURVES):
        plot(result, args.out / f"{args.name}.png")
    print(f"wrote {args.out / args.name}.json")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source",
        "--data",
        dest="data",
        default="sample:fashion_mnist",
        help="Fashion-MNIST: sample:fashion_mnist, its Hub id, or a folder",
    )
    parser.add_argument("--model", default="bigr_nano.fashion_mnist")
    parser.add_argument("--weights", type=Path, help="weights instead of those that ship: what `bigr train` or `bigr export` wrote")
    parser.add_argument("--images", type=int, default=200, help="images for each setting, and to inpaint (default: %(default)s)")
    parser.add_argument("--choice-images", type=int, default=200, help="images for each setting an order may choose (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="epochs of the CNN (default: %(default)s; 4 are enough for 60,000 images)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[p for p in PARTS if p != "guidance"], help="default: %(default)s")
    parser.add_argument(
        "--reveal-steps", type=int, default=BASE["num_reveal_steps"], help="reveal steps of every setting (default: %(default)s)"
    )
    parser.add_argument(
        "--denoise-steps", type=int, default=BASE["num_denoise_steps"], help="denoising steps of every setting (default: %(default)s)"
    )
    parser.add_argument("--resamples", type=int, default=200, help="resamples of the bootstrap intervals (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/sampling_quality"), help="folder for JSON and picture (default: %(default)s)"
    )
    parser.add_argument("--name", default="sampling_quality", help="name of the files in it (default: %(default)s)")
    return parser.parse_args()


def base(args: argparse.Namespace) -> dict:
    """The settings that rows differ from."""
    return {**BASE, "num_reveal_steps": args.reveal_steps, "num_denoise_steps": args.denoise_steps}


def read_split(data: str, split: str, size: int) -> tuple[Tensor, np.ndarray]:
    images = open_images(data, split, size=size)
    pixels = images.read(np.arange(len(images)))[0]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255, images.labels


def evenly(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of about `count` items, the classes in equal shares, the first of each."""
    each = -(-count // len(np.unique(labels)))
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:each] for label in np.unique(labels)]))[:count]


def spread(images: Tensor, labels: np.ndarray, count: int) -> Tensor:
    return images[evenly(labels, count)]


def measured(features: np.ndarray, reference: np.ndarray, args: argparse.Namespace) -> dict:
    interval = frechet_interval(features, reference, resamples=args.resamples)
    return {"frechet": distance(features, reference), "frechet_interval": interval}


def distance(features: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance, also of few images: it ranks settings of equal numbers of images, whose bias is the same."""
    return frechet_feature_distance(features, reference, few_samples=True)


def classes_in_turn(model: nn.Module, count: int) -> Tensor:
    return torch.arange(count) % model.generator.config.num_classes


def drawn_images(model: nn.Module, settings: dict, count: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.cat([model.generate(part, generator=random, **settings) for part in classes_in_turn(model, count).split(50)])


def quality(model: nn.Module, judge: nn.Module, reference: np.ndarray, settings: dict, args: argparse.Namespace) -> dict:
    """Frechet distance and recognised share of images drawn with these settings, and the time they took."""
    started = time.perf_counter()
    images = drawn_images(model, settings, args.images, args.seed)
    seconds = time.perf_counter() - started
    correct = predicted(judge, images) == classes_in_turn(model, args.images).numpy()
    share = {"recognised": float(correct.mean()), "recognised_interval": bootstrap_interval(correct)}
    return {**measured(pooled_features(judge, images), reference, args), **share, "seconds_per_image": round(seconds / args.images, 4)}


def best_of_order(order: str, model: nn.Module, judge: nn.Module, train: np.ndarray, test: np.ndarray, args: argparse.Namespace) -> dict:
    """An order with the settings, of those it may choose, that bring it nearest to the training images; measured against test images.

    The choice draws with another seed than the measurement, and never sees a test image.
    """
    settings = {**base(args), "posterior": "official", "order": order}
    tried = []
    gumbel_choices = GUMBEL_CHOICES if order == "entropy" else GUMBEL_CHOICES[:1]
    for scale, temperature, gumbel in itertools.product(GUIDANCE_CHOICES, TEMPERATURE_CHOICES, gumbel_choices):
        choice = {"guidance_scale": scale, "temperature": temperature, "gumbel_temperature": gumbel}
        images = drawn_images(model, {**settings, **choice}, args.choice_images, args.seed + 1)
        tried.append({**choice, "frechet_to_training_images": distance(pooled_features(judge, images), train)})
        log.info("%s, to training images: %s", order, tried[-1])
    best = min(tried, key=lambda row: row["frechet_to_training_images"])
    settings |= {name: value for name, value in best.items() if name != "frechet_to_training_images"}
    row = {"name": order, **settings, **quality(model, judge, test, settings, args), "tried": tried}
    log.info("order_chosen %s: %s", order, {key: value for key, value in row.items() if key != "tried"})
    return row


def inpainting_quality(model: nn.Module, judge: nn.Module, train: Tensor, images: Tensor, labels: Tensor, args: argparse.Namespace) -> dict:
    """How often the CNN's class of an image survives a central hole of half the side, filled in several ways."""
    size = model.img_size
    mask = center_mask(size)
    before = predicted(judge, images)
    settings = {name: base(args)[name] for name in ("num_denoise_steps", "guidance_scale")}

    def drawn(given: Tensor | None, conceal: bool) -> Tensor:
        random = torch.Generator().manual_seed(args.seed)
        parts = zip(images.split(50), labels.split(50), strict=True)
        return torch.cat(
            [inpaint(model, x, mask, None if given is None else y, conceal=conceal, generator=random, **settings).images for x, y in parts]
        )

    filled = {
        "mean of training images": torch.where(mask, train.mean(0), images),
        "inpainted, no class, hole hidden from the encoder": drawn(None, True),
        "inpainted, no class": drawn(None, False),
        "inpainted, true class given, hole hidden from the encoder": drawn(labels, True),
    }
    result = {"hole": f"{int(mask.any(1).sum())} x {int(mask.any(0).sum())} pixels in the middle", "images": len(images), "kept_class": {}}
    for name, pictures in filled.items():
        kept = predicted(judge, pictures) == before
        result["kept_class"][name] = {"share": float(kept.mean()), "interval": bootstrap_interval(kept)}
        log.info("%s: the CNN's class is kept in %.1f %%", name, 100 * kept.mean())
    return result


def print_table(result: dict) -> None:
    real = result["real_train_images"]
    accuracy = result["judge"]["test_accuracy"]
    print(f"\n{result['model']}, {result['protocol']['images']} images a setting; the CNN is right on {accuracy:.1%} of real test images")
    print(f"{'':<36}{'Frechet':>9}{'95 % interval':>18}{'recognised':>12}{'s/image':>9}")
    print(f"{'real training images':<36}{real['frechet']:9.3f}{_interval(real['frechet_interval']):>18}")
    for part in BARS_AND_CURVES:
        for row in result.get(part, []):
            label = f"{part} {row['name']}"
            interval = _interval(row["frechet_interval"])
            print(f"{label:<36}{row['frechet']:9.3f}{interval:>18}{row['recognised']:12.1%}{row['seconds_per_image']:9.3f}")
    for name, row in result.get("inpainting", {}).get("kept_class", {}).items():
        low, high = row["interval"]
        print(f"class kept, {name:<58}{row['share']:7.1%}   {low:.1%} - {high:.1%}")


def _interval(bounds) -> str:
    return f"{bounds[0]:.3f} - {bounds[1]:.3f}"


def plot(result: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    titles = {
        "order": "order of reveal",
        "order_unguided": "order, no guidance",
        "order_chosen": "order, each with its best settings",
        "reveal": "reveal steps",
        "reveal_random": "reveal steps, random order",
        "denoise": "denoise steps",
        "posterior": "reverse step",
        "guidance": "guidance scale",
    }
    parts = [part for part in BARS_AND_CURVES if part in result]
    figure, panels = plt.subplots(1, len(parts), figsize=(3.3 * len(parts), 3.6), layout="constrained", sharey=True, squeeze=False)
    for axes, part in zip(panels[0], parts, strict=True):
        rows = result[part]
        heights = np.array([row["frechet"] for row in rows])
        bounds = np.array([row["frechet_interval"] for row in rows])
        errors = np.abs(bounds - heights[:, None]).T
        if isinstance(rows[0]["name"], str):
            axes.bar([row["name"].replace(", ", ",\n") for row in rows], heights, yerr=errors, color="#0072B2", capsize=4, width=0.6)
        else:
            axes.errorbar([row["name"] for row in rows], heights, yerr=errors, fmt="o-", color="#0072B2", capsize=4)
            axes.set_xticks([row["name"] for row in rows])
        axes.axhline(result["real_train_images"]["frechet"], color="#D55E00", linestyle="--", label="real training images")
        axes.set_title(titles[part])
        if part.startswith("order"):
            plt.setp(axes.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
        axes.grid(alpha=0.3, axis="y")
    panels[0, 0].set_ylabel("Frechet distance of CNN features")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
