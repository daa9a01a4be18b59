"""Does a model of captions draw what its prompts say? Word by word, on Fashion-MNIST with synthetic captions.

- Words: for each word the share of generated images for which its rule (dark, wide, ...) or, for the class, a CNN trained on real images
  says yes. Beside it the ceiling, the same of real images that the word is true of, decoded from their codes; and the floor, generated
  images against the prompts of others.
- Composition: prompts with two words that captions never name together, against prompts with two other words.
- Guidance: accuracy against coverage of real images (in features of the CNN) over guidance scales.

    python benchmarks/text_to_image.py --data path/to/fashion_mnist
    python benchmarks/text_to_image.py --data path/to/fashion_mnist --weights runs/t2i --images 500

Prompts name a class, and in turn no word, one, two of a combination that captions name, and two that are held out.
"""

from __future__ import annotations

import argparse
import logging
from itertools import combinations
from pathlib import Path

import numpy as np
import timm
import torch
from classifier import EPOCHS, add_source, pooled_features, predicted, train_classifier
from torch import Tensor, nn

import bigr_features
from bigr_features.checkpoints import fingerprint
from bigr_features.cli.models import parse_arguments as parse_arguments_of
from bigr_features.data import captions as rules
from bigr_features.data import open_images
from bigr_features.evaluate.manifold import density_coverage
from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, write_json

log = logging.getLogger("text_to_image")
PARTS = ("words", "guidance")
SCALES = (1.0, 1.5, 2.5, 4.0, 6.0)


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(args.threads or torch.get_num_threads())
    if args.weights:
        model = bigr_features.load_weights("bigr_nano_t2i", args.weights, **parse_arguments_of(tuple(args.model_args)))
    else:
        model = timm.create_model(args.model, pretrained=True).eval()
    train, test = (open_images(args.data, split, size=model.img_size, limit=args.limit) for split in ("train", "test"))
    pixels = [part.read(np.arange(len(part)))[0] for part in (train, test)]
    images = [to_images(part) for part in pixels]
    judge = train_classifier(images[0], torch.from_numpy(train.labels), seed=args.seed, epochs=args.epochs)
    correct = predicted(judge, images[1]) == test.labels
    result = {
        "benchmark": "text_to_image",
        "model": args.model,
        "weights_sha256": fingerprint(model),
        "dataset": {"name": "Fashion-MNIST", "train": len(train), "test": len(test), "sha256": array_hash(*pixels)},
        "captions": "synthetic: bigr_features/data/captions.py",
        "judge": {"network": "CNN of 3 convolutions", "epochs": args.epochs, "test_accuracy": float(correct.mean())},
        "protocol": {"interval": "95 % bootstrap over images", "seed": args.seed, "images": args.images, **sampling(args)},
    }
    log.info("judge: %.1f %% of real test images", 100 * correct.mean())
    prompts = make_prompts(args.images, args.seed)
    if "words" in args.parts:
        drawn = draw(model, prompts, args, args.guidance_scale)
        result["words"] = word_table(drawn, prompts, judge)
        result["ceiling"] = ceiling(model, images[1], test.labels, judge, args.images)
        order = np.random.default_rng(args.seed).permutation(len(prompts))
        result["floor"] = word_table(drawn, [prompts[i] for i in order], judge)
        result["summary"] = summary(result)
        print_table(result)
    if "guidance" in args.parts:
        result["guidance"] = guidance_curve(model, prompts[: args.guidance_images], judge, images[1], args)
        for row in result["guidance"]:
            print("guidance {scale:4.1f}   words {accuracy:6.1%}   coverage {coverage:6.1%}".format(**row))
    result["environment"] = environment()
    write_json(args.out / "text_to_image.json", result)
    print(f"wrote {args.out / 'text_to_image.json'}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_source(parser)
    parser.add_argument("--model", default="bigr_nano_t2i.fashion_mnist")
    parser.add_argument("--weights", type=Path, help="weights instead of those that ship: what `bigr train` or `bigr export` wrote")
    parser.add_argument("--model-args", nargs="*", default=[], help="arguments of timm.create_model that --weights were trained with")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=2000, help="prompts, and images of them (default: %(default)s)")
    parser.add_argument("--guidance-images", type=int, default=500)
    parser.add_argument("--guidance-scale", type=float, default=2.5)
    parser.add_argument("--reveal-steps", type=int, default=12)
    parser.add_argument("--denoise-steps", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of the judge (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="use the first images of each split only, to try the script")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/text_to_image"), help="folder for the JSON (default: %(default)s)")
    return parser.parse_args()


def to_images(pixels: np.ndarray) -> Tensor:
    """uint8 (n, S, S, C) to float (n, C, S, S) in [0, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def sampling(args: argparse.Namespace) -> dict:
    return {"num_reveal_steps": args.reveal_steps, "num_denoise_steps": args.denoise_steps}


# ---------------------------------------------------------------------------------------------------------------- prompts


def said_of(label: int) -> list[tuple[str, str]]:
    """The pairs of opposites that a class can have."""
    return [pair for measure, pair in rules.PAIRS.items() if label in rules.CLASSES[measure]]


def make_prompts(count: int, seed: int) -> list[dict]:
    """Prompts of every class in turn: no word, one, two of a seen combination, two that are held out."""
    found = []
    for i in range(count):
        random = np.random.default_rng([seed, 7, i])
        label, kind = i % 10, ("class", "one", "seen", "held_out")[i // 10 % 4]
        if kind == "held_out":
            words = next((one, other) for of, one, other in rules.HELD_OUT if of == label)
        else:
            number = {"class": 0, "one": 1, "seen": 2}[kind]
            words = [
                tuple(pair[k] for pair, k in zip(pairs, sides, strict=True))
                for pairs in combinations(said_of(label), number)
                for sides in np.ndindex(*(2,) * number)
            ]
            words = [two for two in words if not rules.is_held_out(label, two)]
            words = words[random.integers(len(words))]
        found.append({"label": label, "kind": kind, "words": words, "text": rules.caption(label, words, random)})
    return found


@torch.no_grad()
def draw(model: nn.Module, prompts: list[dict], args: argparse.Namespace, scale: float) -> Tensor:
    """An image of each prompt."""
    random = torch.Generator().manual_seed(args.seed)
    parts = [prompts[i : i + 100] for i in range(0, len(prompts), 100)]
    images = []
    for number, part in enumerate(parts):
        images.append(model.generate(text=[p["text"] for p in part], guidance_scale=scale, generator=random, **sampling(args)))
        log.info("%d of %d images at guidance %g", min(100 * (number + 1), len(prompts)), len(prompts), scale)
    return torch.cat(images)


# --------------------------------------------------------------------------------------------------------------- measures


def judged(images: Tensor, prompts: list[dict], judge: nn.Module) -> list[dict[str, bool]]:
    """For each image, whether each word of its prompt is true of it; the class stands under "class"."""
    classes = predicted(judge, images)
    pixels = images.permute(0, 2, 3, 1).numpy()
    labels = np.array([p["label"] for p in prompts])
    true = {}
    for word, rule in rules.RULES.items():
        said = np.isin(labels, rules.CLASSES[rule.measure])
        true[word] = np.zeros(len(labels), bool)
        true[word][said] = rules.holds(word, pixels[said], labels[said])
    return [{"class": bool(classes[i] == p["label"]), **{word: bool(true[word][i]) for word in p["words"]}} for i, p in enumerate(prompts)]


def share(flags: list[bool]) -> dict:
    """Share of True, with its interval; the number alone where there are none."""
    if not flags:
        return {"images": 0}
    return {"share": float(np.mean(flags)), "interval": bootstrap_interval(np.array(flags)), "images": len(flags)}


def word_table(images: Tensor, prompts: list[dict], judge: nn.Module) -> dict:
    """Share of images that are right, by word, and by kind of prompt over all words of it."""
    found = judged(images, prompts, judge)
    words = {word: share([one[word] for one in found if word in one]) for word in ("class", *rules.RULES)}
    kinds, both = {}, {}
    for kind in ("class", "one", "seen", "held_out"):
        own = [one for one, p in zip(found, prompts, strict=True) if p["kind"] == kind]
        kinds[kind] = share([right for one in own for word, right in one.items() if kind == "class" or word != "class"])
        both[kind] = share([all(right for word, right in one.items() if word != "class") for one in own if len(one) == 3])
    return {"words": words, "kinds": kinds, "both_words": both}


@torch.no_grad()
def ceiling(model: nn.Module, images: Tensor, labels: np.ndarray, judge: nn.Module, count: int) -> dict:
    """The same of real test images that the words are true of, decoded from their codes."""
    chosen = np.random.default_rng(0).permutation(len(images))[: max(count, 200)]
    true = rules.attributes(images[chosen].permute(0, 2, 3, 1).numpy(), labels[chosen])
    decoded = torch.cat([model.decode(model.encode(part)) for part in images[chosen].split(250)]).clamp(0, 1)
    prompts = [{"label": int(label), "words": words, "kind": "one"} for label, words in zip(labels[chosen], true, strict=True)]
    return {"words": word_table(decoded, prompts, judge)["words"]}


def summary(result: dict) -> dict:
    """Means over words, and what they are of the ceiling."""
    names = [name for name, row in result["words"]["words"].items() if row["images"] and result["ceiling"]["words"][name]["images"]]
    mean = {part: float(np.mean([table["words"][name]["share"] for name in names])) for part, table in (
        ("generated", result["words"]), ("ceiling", result["ceiling"]), ("floor", result["floor"])
    )}  # fmt: skip
    kinds = result["words"]["kinds"]
    gap = {"held_out_minus_seen": kinds["held_out"]["share"] - kinds["seen"]["share"]} if kinds["held_out"]["images"] else {}
    return {**mean, "of_ceiling": mean["generated"] / mean["ceiling"], **gap}


def guidance_curve(model: nn.Module, prompts: list[dict], judge: nn.Module, real: Tensor, args: argparse.Namespace) -> list[dict]:
    """Mean word accuracy and coverage of as many real images, over guidance scales."""
    chosen = torch.from_numpy(np.random.default_rng(1).permutation(len(real))[: len(prompts)])
    reference = pooled_features(judge, real[chosen])
    rows = []
    for scale in SCALES:
        images = draw(model, prompts, args, scale)
        flags = [right for one in judged(images, prompts, judge) for right in one.values()]
        density, coverage = density_coverage(pooled_features(judge, images), reference)
        rows.append({"scale": scale, "accuracy": float(np.mean(flags)), "interval": bootstrap_interval(np.array(flags)),
                     "coverage": float(coverage), "density": float(density)})  # fmt: skip
    return rows


def print_table(result: dict) -> None:
    print(f"\n{result['model']}: share of images of which the word is true, 95 % interval; decoded real images; prompts of others")
    for name, row in result["words"]["words"].items():
        if row["images"]:
            low, high = row["interval"]
            above, below = (result[part]["words"][name].get("share", float("nan")) for part in ("ceiling", "floor"))
            print(
                f"{name:<12}{row['share']:7.1%}  ({low:.1%}-{high:.1%})  ceiling {above:6.1%}  floor {below:6.1%}  {row['images']} images"
            )
    for kind, row in result["words"]["kinds"].items():
        if row["images"]:
            print(f"{kind:<12}{row['share']:7.1%}  ({row['interval'][0]:.1%}-{row['interval'][1]:.1%})")
    s = result["summary"]
    print(f"mean {s['generated']:.1%}, ceiling {s['ceiling']:.1%} ({s['of_ceiling']:.1%} of it), floor {s['floor']:.1%}")


if __name__ == "__main__":
    main()
