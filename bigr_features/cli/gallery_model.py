"""The model of a gallery, as commands name it, and the one-line description of a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .models import WeightsOptions, build


@dataclass(frozen=True, kw_only=True)
class ModelOptions(WeightsOptions):
    """The model that reads the images.

    Parameters
    ----------
    model : str, optional
        Name of any timm model, or a baseline: pixels, or bits of a tokenizer; by default the one that the gallery was made with. For a new
        gallery of images of your own it must be given.
    layer : int or str, optional
        Number of the layer, 0-based, negative from the end, or head, which is what a model gives its classifier; by default 6 of
        bigr_nano.fashion_mnist (the best of its layers), the feature layer of another BiGR model, the head of any other model, or that
        of the gallery.
    seed : int
        Seed of random weights.
    """

    model: str | None = None
    layer: int | str | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(ModelOptions):
    """How many images are read at a time.

    Parameters
    ----------
    batch_size : int
        Images per forward pass.
    num_workers : int
        Processes that read images ahead.
    """

    batch_size: int = 64
    num_workers: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.num_workers < 0:
            raise ValueError(f"--batch-size {self.batch_size} --num-workers {self.num_workers}; expected 1 or more, and 0 or more.")


def embedder_of(config: ModelOptions, settings, name: str, layer: int | str | None, pooling: str, dtype: str = "fp32"):
    """The model that options name, ready to read images."""

    import torch

    from ..features.embedder import Embedder
    from ..functional.inference import local_device

    if config.threads:
        torch.set_num_threads(config.threads)
    model = build(config, name, config.seed).to(local_device(config.device))
    weights = f"random, seed {config.seed}," if config.random else config.origin
    return Embedder(model, settings, layer=layer, pooling=pooling, name=" ".join([name, *config.model_args]), weights=weights, dtype=dtype)


def embedder_for(gallery, config: ModelOptions):
    """The model that a gallery was made with, as far as options do not name another one; ValueError if that does not fit."""
    from dataclasses import replace

    from ..functional.pooling import layer_and_pooling

    made = gallery.embedding
    if made is None:
        raise ValueError(f"the gallery {gallery.folder} does not say what made its vectors; search it by ids, or by vectors in Python.")
    layer, pooling = layer_and_pooling(made["feature"])
    name, *arguments = made["model"].split(" ")
    if config.model is None and not config.random and not config.weights:
        weights = str(made.get("weights") or "pretrained")
        if weights.startswith("random"):
            config = replace(config, random=True, seed=int("".join(filter(str.isdecimal, weights)) or 0))
        elif weights != "pretrained":
            if not Path(weights).exists():
                raise FileNotFoundError(f"the gallery was made with the weights {weights}, which are not there; give --weights.")
            config = replace(config, weights=weights)
    if config.model is None:
        config = replace(config, model_args=config.model_args or tuple(arguments))
    layer = layer if config.layer is None else config.layer
    try:
        embedder = embedder_of(config, gallery.settings, config.model or name, layer, pooling or "mean", made.get("dtype") or "fp32")
        gallery.check_embedding(embedder.description)
    except ValueError as error:
        there = f"{made['model']} ({made.get('weights') or 'unknown'} weights), {made['feature']}"
        raise ValueError(f"the gallery {gallery.folder} was made with {there}: {error}") from error
    return embedder


def how(gallery) -> str:
    """Model, feature and index of a gallery in a line."""
    made, settings = gallery.embedding or {}, gallery.settings
    bits = f", {gallery.num_bits} bits{' by ' + settings.binarize if settings.binarize else ''}" if settings.has_bits else ""
    weights = Path(made.get("weights") or "unknown").name
    model = f"{made['model']} ({weights} weights), {made['feature']}" if made else "vectors"
    return f"{model}{bits}, index {gallery.index_factory}"


def described(gallery) -> str:
    """Folder, number of images, model, feature and index of a gallery, in one line."""
    return f"{gallery.folder}: {len(gallery)} images, {how(gallery)}"


def short_id(item: str) -> str:
    """An id of pixels cut to what is enough to name it."""
    begin, dash, number = item.partition("-")
    return f"{begin[:12]}{dash}{number}" if len(begin) == 32 else item
