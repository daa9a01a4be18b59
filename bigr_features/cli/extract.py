"""`bigr extract`: images to a feature store."""

from __future__ import annotations

import ast
import logging
import os
from dataclasses import dataclass, fields
from pathlib import Path

from ..extraction import ExtractionSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(ExtractionSettings):
    """Write features of any timm model to a store on disk, for `bigr probe`, `bigr knn` and `bigr sweep`.

    An interrupted run continues when the same command is given again; other settings in the same folder are refused.
    torchrun and accelerate launch spread the shards over their processes.

    Parameters
    ----------
    model : str
        Name of any timm model, such as bigr_nano.fashion_mnist or vit_small_patch16_224.
    out : Path
        Folder of the store.
    random : bool
        Random weights, seeded, instead of the pretrained ones.
    checkpoint : str
        File of weights to load instead of the pretrained ones.
    model_args : tuple of str
        Arguments of timm.create_model, such as img_size=32 patch_size=4.
    rank : int, optional
        Number of this process, RANK of the environment by default.
    world_size : int, optional
        Number of processes, WORLD_SIZE of the environment by default.
    ray : int
        Number of Ray workers; 0 does without Ray.
    ray_gpus : float
        GPUs of a Ray worker.
    device : str
        auto (an accelerator if there is one) or a torch device such as cpu.
    threads : int
        CPU threads, 0 for the default.
    """

    model: str
    out: Path
    random: bool = False
    checkpoint: str = ""
    model_args: tuple[str, ...] = ()
    rank: int | None = None
    world_size: int | None = None
    ray: int = 0
    ray_gpus: float = 0.0
    device: str = "auto"
    threads: int = 0


def extract(config: ExtractConfig) -> None:
    """Run the command; says what was written."""
    import torch

    from ..extraction import extract_to_store, ranks_of_environment

    if config.threads:
        torch.set_num_threads(config.threads)
    if (config.rank is None) != (config.world_size is None):
        raise ValueError("give --rank and --world-size together, or neither.")
    rank, world_size = ranks_of_environment() if config.rank is None else (config.rank, config.world_size)
    if config.ray and world_size > 1:
        raise ValueError(f"--ray {config.ray} and world size {world_size} were given; Ray spreads the work itself, so give one of them.")
    settings = ExtractionSettings(**{field.name: getattr(config, field.name) for field in fields(ExtractionSettings)})
    weights = "random" if config.random else config.checkpoint or "pretrained"
    model = build(config).to("cpu" if config.ray else device_of(config.device))
    described = dict(name=" ".join([config.model, *config.model_args]), weights=weights)
    if config.ray:
        from ..extraction_ray import extract_with_ray

        store = extract_with_ray(model, config.out, settings, workers=config.ray, gpus_per_worker=config.ray_gpus, **described)
    else:
        store = extract_to_store(model, config.out, settings, rank=rank, world_size=world_size, **described)
    if store is None:
        print(f"rank {rank} of {world_size} is done; the rank that ends last finishes {config.out}")
        return
    print(f"{config.out}: {len(store)} items, {len(store.names)} features, {len(store.skipped)} images skipped")


def build(config: ExtractConfig):
    """The timm model that `config` names, in eval mode.

    Raises
    ------
    ValueError
        For a model that timm does not know, or one without pretrained weights.
    """
    import timm
    import torch

    arguments = parse_arguments(config.model_args)
    name = config.model.split(".")[0]
    if ":" not in config.model and not timm.is_model(name):
        near = timm.list_models(f"*{name[:6]}*")[:5]
        raise ValueError(f"there is no timm model {config.model!r}; {'similar: ' + ', '.join(near) if near else 'see timm.list_models()'}.")
    if config.random and config.checkpoint:
        raise ValueError("--random and --checkpoint were both given; give one of them.")
    pretrained = not config.random and not config.checkpoint
    if pretrained and ":" not in config.model and not timm.is_model_pretrained(config.model):
        raise ValueError(f"{config.model} has no pretrained weights; name a model that has, or give --checkpoint FILE or --random.")
    if config.random:
        log.warning("RANDOM weights: the features of %s say nothing about a trained model", config.model)
        torch.manual_seed(config.seed)
    model = timm.create_model(config.model, pretrained=pretrained, checkpoint_path=config.checkpoint, **{"num_classes": 0, **arguments})
    return model.eval()


def parse_arguments(pairs: tuple[str, ...]) -> dict:
    """Keyword arguments of "name=value" texts; values are Python literals, or text."""
    arguments = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"model argument {pair!r} is not of the form name=value.")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def device_of(name: str):
    """The torch device; of several accelerators, the one of LOCAL_RANK."""
    import torch

    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
