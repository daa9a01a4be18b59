"""`bigr classify`: a generator as a classifier, without any training."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from .probe_options import PrintingOptions

log = logging.getLogger(__name__)
TOGETHER = "all"  # the scores of every noise level, added


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(PrintingOptions):
    """Classify images by a generator: the class under which their hidden tokens are most probable. No probe, no training.

    Mask ratio, noise level and temperature are chosen on training images; the test images are used once.

    Parameters
    ----------
    data : str
        Labelled images: "sample:fashion_mnist", a folder or file of parquet, arrow or images, or the id of a data set on the Hub.
    out : Path
        JSON to write.
    model : str
        A bigr model of timm that was trained with classes.
    weights : Path, optional
        Its weights instead of its own: what `bigr train` or `bigr export` wrote.
    model_args : tuple of str
        Arguments of timm.create_model for it, such as code_dim=12.
    mask_ratios : tuple of float
        Shares of tokens that are hidden and scored, in (0, 1], to choose from; of masked generators.
    num_masks : int
        Masks per image, for --num-groups 1; one at mask ratio 1, where all are alike; of masked generators.
    num_groups : tuple of int
        Groups in which the hidden tokens are scored, each given those before it (chain rule), to choose from. More than one group is tried
        at mask ratio 1 with one random order. Of masked generators.
    timesteps : tuple of int
        Noise levels to choose from; by default an eighth, a quarter, a half and all of the model's. Their sum is tried too. Of models
        with the Bernoulli transcoder.
    choose_on : int
        Training images for the choices, drawn by class.
    train_split, test_split : str
        Splits of the data.
    limit : int, optional
        Number of test images, drawn by class; by default all.
    foreign : str
        Other images, to measure how well they are told from those of the data: area under the ROC curve.
    foreign_split : str
        Their split.
    batch_size : int
        Images per pass.
    seed : int
        Seed of masks, noise, and images that are drawn.
    device : str
        auto (an accelerator if there is one) or a torch device such as cpu.
    threads : int
        CPU threads; 0 for torch's default.
    """

    data: Annotated[str, tyro.conf.Positional]
    out: Path
    model: str
    weights: Path | None = None
    model_args: tuple[str, ...] = ()
    mask_ratios: tuple[float, ...] = (0.75, 0.9, 1.0)
    num_masks: int = 8
    num_groups: tuple[int, ...] = (1, 8)
    timesteps: tuple[int, ...] = ()
    choose_on: int = 500
    train_split: str = "train"
    test_split: str = "test"
    limit: int | None = None
    foreign: str = ""
    foreign_split: str = "test"
    batch_size: int = 250
    seed: int = 0
    device: str = "auto"
    threads: int = 0


def classify(config: ClassifyConfig) -> None:
    """Run the command; prints the result and writes it."""
    import torch

    from ..data.sources import require_source
    from ..evaluate.likelihoods import fit_temperature, foreign_image_auroc, generative_classifier
    from ..evaluate.reports import write_json
    from ..features.class_likelihoods import check_classes
    from ..storage.json_files import json_bytes
    from .drawing import load_generator

    for source, split in ((config.data, config.train_split), (config.data, config.test_split), (config.foreign, config.foreign_split)):
        if source:
            require_source(source, split)
    if config.choose_on < 1:
        raise ValueError(f"--choose-on {config.choose_on}; expected 1 or more training images.")
    if config.threads:
        torch.set_num_threads(config.threads)
    model = load_generator(config.model, config.weights, config.device, config.model_args)
    check_classes(model.generator)
    candidates = _candidates(config, model.generator.config)

    images = _images(config, model, config.data, config.train_split, config.choose_on)
    check_classes(model.generator, images.labels)
    codes = _codes(model, images, config.batch_size)
    tried, best = [], None
    for settings in candidates:
        scores = _scores(config, model, codes, settings)
        for level, matrix in _levels(scores, settings):
            temperature = fit_temperature(matrix, images.labels)
            found = generative_classifier(matrix, images.labels, temperature=temperature)
            row: dict = {name: settings.get(name) for name in ("mask_ratio", "num_groups")}
            row |= {"timestep": level, "accuracy": found["top1"], "nll": found["nll"]}
            tried.append(row)
            if best is None or (row["accuracy"], -row["nll"]) > (best[0]["accuracy"], -best[0]["nll"]):
                best = row, {**settings, **({"timesteps": (level,)} if isinstance(level, int) else {})}, temperature
    assert best is not None  # there is a candidate
    row, settings, temperature = best
    log.info("chosen on %d training images: %s", len(images), _described(row))

    test = _images(config, model, config.data, config.test_split, config.limit)
    check_classes(model.generator, test.labels)
    scores = _scores(config, model, _codes(model, test, config.batch_size), settings).mean(-1)
    passes = settings.get("num_masks", 1) * settings.get("num_groups", 1) * scores.shape[1]
    protocol = {
        "model": config.model, "weights": "pretrained" if config.weights is None else str(config.weights.name), "data": config.data,
        "chosen_on": len(images), **row, "settings": {**settings, "seed": config.seed}, "trunk_passes_per_image": passes,
    }  # fmt: skip
    names = list(test.class_names) if test.class_names else None
    result = generative_classifier(scores, test.labels, temperature=temperature, protocol=protocol, class_names=names)
    foreign = None
    if config.foreign:
        others = _images(config, model, config.foreign, config.foreign_split, config.limit, labelled=False)
        found = _scores(config, model, _codes(model, others, config.batch_size), settings).mean(-1)
        foreign = {"data": config.foreign, "images": len(others), "auroc": foreign_image_auroc(scores, found)}
    content = {"command": "classify", "tried": tried, "test": result, "foreign": foreign}
    write_json(config.out, content)
    if config.json:
        print(json_bytes(content).decode(), end="")
        log.info("wrote %s", config.out)
        return
    _show(content, passes)
    print(f"wrote {config.out}")


def _candidates(config: ClassifyConfig, generator) -> list[dict]:
    """Settings of `class_log_likelihoods` to try, as this generator takes them; options that it has no use for are refused."""
    given = {name: getattr(config, name) for name in ("mask_ratios", "num_masks", "num_groups", "timesteps")}
    default = {name: getattr(ClassifyConfig, name) for name in given}
    changed = [name for name in given if given[name] != default[name]]
    for names, useless, reason in (
        (("mask_ratios", "num_masks", "num_groups"), generator.causal, "is causal: it scores every token once, from those before it"),
        (("timesteps",), generator.categorical, f"has head={generator.head!r}, and no noise levels"),
    ):
        wrong = [name for name in names if useless and name in changed]
        if wrong:
            raise ValueError(f"--{wrong[0].replace('_', '-')} has no effect: {config.model} {reason}; leave it out.")
    levels = {}
    if not generator.categorical:
        steps = generator.num_timesteps
        levels["timesteps"] = config.timesteps or tuple(sorted({max(1, steps // part) for part in (8, 4, 2, 1)}))
    if generator.causal:
        return [levels]
    for name in ("mask_ratios", "num_groups"):
        if not getattr(config, name):
            raise ValueError(f"--{name.replace('_', '-')} is empty; give one value or more.")
    found = []
    for groups in config.num_groups:
        for ratio in config.mask_ratios if groups == 1 else (1.0,):
            masks = config.num_masks if groups == 1 and ratio < 1 else 1
            found.append({"mask_ratio": ratio, "num_masks": masks, "num_groups": groups, **levels})
    return found


def _images(config: ClassifyConfig, model, source: str, split: str, limit: int | None, labelled: bool = True):
    from ..data import open_images

    size = model.tokenizer.config.image_size
    images = open_images(source, split, size=size, in_chans=model.in_chans, limit=limit, seed=config.seed, labelled=labelled)
    if labelled and images.labels is None:
        raise ValueError(f"{source} has no labels, so there is no accuracy to measure; give images in one folder a class.")
    return images


def _codes(model, images, batch_size: int):
    """Codes of all images that can be read."""
    import torch

    device = next(model.parameters()).device
    chunks = [np.arange(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    parts, kept = [], []
    with torch.no_grad():
        for _, (pixels, readable) in zip(chunks, images.read_many(chunks), strict=True):
            batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255
            parts.append(model.tokenizer.encode(model.tokenizer.normalize(batch)))
            kept.append(readable)
    if images.labels is not None:
        images.labels = images.labels[np.concatenate(kept)]
    return torch.cat(parts)


def _scores(config: ClassifyConfig, model, codes, settings: dict) -> np.ndarray:
    from ..features.class_likelihoods import class_log_likelihoods

    return class_log_likelihoods(model.generator, codes, seed=config.seed, batch_size=config.batch_size, **settings)


def _levels(scores: np.ndarray, settings: dict) -> list[tuple[int | str | None, np.ndarray]]:
    """Log-likelihoods (n, C) of every noise level, and of all of them together."""
    steps = settings.get("timesteps")
    if steps is None:
        return [(None, scores[..., 0])]
    each = [(step, scores[..., i]) for i, step in enumerate(steps)]
    return each if len(steps) == 1 else [*each, (TOGETHER, scores.mean(-1))]


def _described(row: dict) -> str:
    words = [f"{name.replace('_', ' ')} {row[name]}" for name in ("mask_ratio", "num_groups", "timestep") if row[name] is not None]
    return ", ".join([*words, f"accuracy {100 * row['accuracy']:.1f} %"])


def _show(content: dict, passes: int) -> None:
    print("on training images:")
    for row in content["tried"]:
        print(f"  {_described(row)}, {row['nll']:.3f} nats")
    result, chosen = content["test"], content["test"]["protocol"]
    low, high = (100 * value for value in result["top1_interval"])
    print(f"chosen: {_described(chosen)}")
    print(
        f"test: top-1 {100 * result['top1']:.2f} % (95 % interval {low:.1f} - {high:.1f}) of {result['test_samples']} images, "
        f"{result['nll']:.3f} nats, calibration error {100 * result['calibration_error']:.1f} %, {passes} passes of the trunk per image"
    )
    if content["foreign"] is not None:
        foreign = content["foreign"]
        scores = ", ".join(f"by {name} {value:.3f}" for name, value in foreign["auroc"].items())
        print(f"told from {foreign['images']} images of {foreign['data']}: AUROC {scores}")
