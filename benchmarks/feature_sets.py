"""What the probes compare: raw pixels, their PCA, the tokenizer's bits, and every layer of each model asked for."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import peers  # noqa: F401  (registers the networks of like size)
import timm
import torch
from torch import nn

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import fingerprint
from bigr_features.data import SAMPLES, Sample, load_sample, open_images
from bigr_features.features.extract import extract_features
from bigr_features.features.inputs import model_inputs
from bigr_features.functional.inference import PRECISIONS
from bigr_features.functional.pooling import layer_and_pooling

log = logging.getLogger(__name__)
DEFAULT_MODELS = ("bigr_nano.fashion_mnist", "bigr_nano=random")
PCA_SIZES = (32, 64, 128, 256)


@dataclass
class FeatureSet:
    """Features of one origin: candidates among which held-out training images choose.

    name : what the table calls it.
    candidates : (train, test) arrays by the name of a candidate; layers are "block5_mean" and so on.
    layers : 0-based layer of each candidate that is one.
    facts : what a result must say about where they come from.
    """

    name: str
    candidates: dict[str, tuple[np.ndarray, np.ndarray]]
    layers: dict[str, int] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options about data and features that every probe takes."""
    parser.add_argument(
        "--dataset",
        nargs="+",
        default=list(SAMPLES),
        help=f"images to probe on: {', '.join(SAMPLES)} (embedded samples, the default), or Hub ids with train and test splits",
    )
    parser.add_argument("--data-dir", type=Path, help="a folder with train and test splits (images, parquet), instead of --dataset")
    parser.add_argument(
        "--model",
        nargs="+",
        default=list(DEFAULT_MODELS),
        metavar="NAME[=WEIGHTS]",
        help="timm models, ours or not: with their pretrained weights, with =random, or =FILE (default: %(default)s)",
    )
    parser.add_argument("--layers", nargs="+", type=int, help="0-based, negative from the end (default: all)")
    parser.add_argument(
        "--pooling", nargs="+", default=["mean", "quarters"], help="mean, cls, max, concat, quarters; a row each (default: mean quarters)"
    )
    parser.add_argument("--dtype", choices=PRECISIONS, default="fp32", help="precision of the forward pass (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--limit", type=int, help="use the first images of each split only, to try the script")
    parser.add_argument("--holdout", type=float, default=0.2, help="share of the training images that chooses (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random weights and held-out split (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of torch, 0 for its own choice")


def data_sets(args: argparse.Namespace) -> Iterator[Sample]:
    """The data sets asked for, as arrays."""
    names = [str(args.data_dir)] if args.data_dir else args.dataset
    for name in names:
        sample = load_sample(name) if name in SAMPLES else _from_source(name, sizes_of(args.model))
        if args.limit:
            rows = slice(args.limit)
            sample = replace(
                sample,
                train_images=sample.train_images[rows], train_labels=sample.train_labels[rows],
                test_images=sample.test_images[rows], test_labels=sample.test_labels[rows],
                source=f"{sample.source}; first {args.limit} of each split",
            )  # fmt: skip
        yield sample


def feature_sets(sample: Sample, args: argparse.Namespace) -> Iterator[FeatureSet]:
    """Baselines first, then each model; made one after the other, so that only one lies in memory."""
    from sklearn.decomposition import PCA

    train, test = (images.reshape(len(images), -1).astype(np.float32) / 255 for images in (sample.train_images, sample.test_images))
    yield FeatureSet("raw pixels", {"pixels": (train, test)})
    sizes = [size for size in PCA_SIZES if size < min(train.shape)]
    pca = PCA(max(sizes), random_state=args.seed).fit(train)
    train, test = pca.transform(train), pca.transform(test)
    yield FeatureSet("PCA of pixels", {f"{size} components": (train[:, :size], test[:, :size]) for size in sizes})
    seen = set()
    for spec in args.model:
        model, label = build(spec, args.seed)
        inputs = model_inputs(np.concatenate([sample.train_images, sample.test_images]), model)
        if hasattr(model, "encode") and (identity := fingerprint(model.tokenizer)) not in seen:
            seen.add(identity)
            with torch.no_grad():
                bits = np.concatenate([model.encode(batch).flatten(1).numpy() for batch in inputs.split(args.batch_size)])
            facts = {"tokenizer_sha256": identity, "tokenizer of": label}
            yield FeatureSet("B-AE bits" if "random" not in label else "B-AE bits, random", {"bits": _parts(bits, sample)}, facts=facts)
        features = extract_features(model, inputs, layers=args.layers, pooling=args.pooling, dtype=args.dtype, batch_size=args.batch_size)
        facts = {
            "model": spec.split("=")[0],
            "weights": weights_of(spec, model, args.seed),
            "weights_sha256": fingerprint(model),
            "parameters": sum(p.numel() for p in model.parameters()),
            "preprocessing": {key: value for key, value in timm.data.resolve_data_config(model=model).items() if key != "device"},
            "dtype": args.dtype,
        }
        for pooling in args.pooling:
            names = {name: layer for name in features for layer, own in [layer_and_pooling(name)] if own == pooling}
            candidates = {name: _parts(features[name], sample) for name in names}
            yield FeatureSet(label if pooling == "mean" else f"{label}, {pooling}", candidates, names, facts)


def build(spec: str, seed: int) -> tuple[nn.Module, str]:
    """The model that `NAME[=WEIGHTS]` names, without a head and in eval mode, and what a table calls it.

    Raises
    ------
    FileNotFoundError
        If WEIGHTS is neither "random" nor a file or folder.
    """
    name, _, weights = spec.partition("=")
    torch.manual_seed(seed)
    if weights == "random":
        log.warning("%s has RANDOM weights (seed %d): what an untrained network gives, as a baseline.", name, seed)
        return timm.create_model(name.split(".")[0], num_classes=0).eval(), f"{name}, random"
    if not weights:
        return timm.create_model(name, pretrained=True, num_classes=0).eval(), name
    if not Path(weights).exists():
        raise FileNotFoundError(f"there are no weights {weights} for {name}; give a file, a run folder of `bigr train`, or =random.")
    if Path(weights).suffix == ".safetensors" and not name.startswith("bigr"):
        return timm.create_model(name, checkpoint_path=weights, num_classes=0).eval(), f"{name}, {Path(weights).parent.name}"
    overlay = {"file": weights}
    return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0).eval(), f"{name}, {Path(weights).name}"


def weights_of(spec: str, model: nn.Module, seed: int) -> str:
    """Where a model's weights come from, in words."""
    weights = spec.partition("=")[2]
    if weights == "random":
        return f"random, seed {seed}"
    return f"file {Path(weights).name}" if weights else f"pretrained, tag {model.pretrained_cfg.get('tag')}"


def sizes_of(specs: list[str]) -> int:
    """Side in pixels at which a data set from elsewhere is read: the largest that a model asked for takes."""
    sides = []
    for spec in specs:
        with torch.device("meta"):
            model = timm.create_model(spec.split("=")[0].split(".")[0], num_classes=0)
        sides.append(timm.data.resolve_data_config(model=model)["input_size"][-1])
    return max(sides)


def _from_source(source: str, size: int) -> Sample:
    if not Path(source).exists() and "/" not in source:
        raise SystemExit(
            f"there is no sample or folder {source}; choose {' or '.join(SAMPLES)}, a folder, or the owner/name of a Hub data set."
        )
    train, test = (open_images(source, split, size=size) for split in ("train", "test"))
    for split in (train, test):
        if split.labels is None:
            raise ValueError(f"{source} (split {split.split!r}) has no labels; a probe needs a folder for each class, or a label column.")
    pixels = []
    for split in (train, test):
        images = split.read(np.arange(len(split)))[0]
        gray = (images == images[..., :1]).all()
        pixels.append(images[..., 0] if gray else images)
    if pixels[0].ndim != pixels[1].ndim:
        pixels = [np.repeat(x[..., None], 3, axis=3) if x.ndim == 3 else x for x in pixels]
    names = tuple(train.class_names or map(str, range(int(train.labels.max()) + 1)))
    name = Path(source).name if Path(source).exists() else source
    return Sample(name.replace("/", "_"), pixels[0], train.labels, pixels[1], test.labels, names, name)


def _parts(x: np.ndarray, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    count = len(sample.train_labels)
    return x[:count], x[count:]
