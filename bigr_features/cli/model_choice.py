"""Which model reads somebody's photographs: none is guessed, three are proposed. And a warning where one does not see them."""

from __future__ import annotations

import logging
from pathlib import Path

from ..functional.printing import one_line

log = logging.getLogger(__name__)

OF_SAMPLES = "bigr_nano.fashion_mnist"  # for what it was trained on
SIDE = 32  # pixels of its images
PROPOSALS = {
    "vit_small_patch14_dinov2.lvd142m": "finds the same things and scenes; the best of the three, 88 MB, slow without a GPU",
    "resnet50.a1_in1k": "a common reference of ImageNet classes; 102 MB",
    "tf_efficientnet_lite0.in1k": "small and quick on a CPU; 19 MB",
}


def model_for(name: str | None, source: str, split: str = "train", option: str = "--model") -> str:
    """The model that was named; or the one that ships, for samples and for images on disk as small and grey as theirs, which is said.

    Raises
    ------
    ValueError
        For other images without a name, with proposals.
    """
    if name is not None:
        return name
    if source.startswith("sample:"):
        return OF_SAMPLES
    if Path(source).exists() and _like_samples(source, split):
        log.warning("no --model was given, and these images are small and grey: %s reads them, trained on Fashion-MNIST", OF_SAMPLES)
        return OF_SAMPLES
    lines = [f"{option} {model} ({text}{'; in the local cache' if is_cached(model) else ''})" for model, text in PROPOSALS.items()]
    raise ValueError(
        f"which model is to read {source}? Any timm model can, such as {'; '.join(lines)}; with a file of your own, {option} NAME "
        f"--weights PATH; or {option} pixels, the baseline without training."
    )


def _like_samples(source: str, split: str) -> bool:
    from ..data.fitness import all_small_and_grey
    from ..data.sources import open_items

    return all_small_and_grey(open_items(source, split, labelled=False), SIDE)


def is_cached(model: str) -> bool:
    """Whether the pretrained weights of a timm model are on this machine."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    cfg = timm.get_pretrained_cfg(model)
    repository = getattr(cfg, "hf_hub_id", None)
    if not repository:
        return False
    repository = repository if "/" in repository.strip("/") and not repository.endswith("/") else f"{repository}{model}"
    return any(isinstance(try_to_load_from_cache(repository, name), str) for name in ("model.safetensors", "pytorch_model.bin"))


def is_grey_trained(model, name: str, own_weights: bool) -> bool:
    """Whether a model takes grey images, or was trained on such: what is called fashion_mnist, unless it has other weights."""
    from ..features.inputs import input_channels

    return input_channels(model) == 1 or (not own_weights and name.partition(".")[2].startswith("fashion_mnist"))


def warn_of_unseen(model, name: str, own_weights: bool, items) -> None:
    """Log once what a small or grey model does not see of the images of a source; baselines are what they are."""
    from ..backbones.baselines import Pixels
    from ..data.fitness import unseen_of
    from ..features.inputs import preprocessing_of

    if isinstance(model, Pixels):
        return
    _, *sides = preprocessing_of(model)["input_size"]
    lost = unseen_of(items, is_grey_trained(model, name, own_weights), min(sides))
    if lost is not None:
        log.warning("%s", one_line(f"{lost}; for photographs take a model that was trained on such, by --model"))
