"""`bigr extract`: images to a feature store."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..features.settings import ExtractionSettings
from .model_choice import model_for, warn_of_unseen
from .models import WeightsOptions, build

if TYPE_CHECKING:
    from ..features.store import FeatureStore


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(WeightsOptions, ExtractionSettings):
    """Write features of any timm model to a store on disk, for `bigr probe`, `bigr knn` and `bigr sweep`.

    An interrupted run continues when the same command is given again; other settings in the same folder are refused.
    torchrun and accelerate launch spread the shards over their processes.

    Parameters
    ----------
    model : str, optional
        Name of any timm model, such as bigr_nano.fashion_mnist or vit_small_patch16_224; pixels and bits (of a tokenizer, by default that
        of bigr_nano) are baselines. Needed for images of your own, unless all are small and grey as those of the samples, which
        bigr_nano.fashion_mnist reads.
    out : Path
        Folder of the store.
    rank : int, optional
        Number of this process, RANK of the environment by default.
    world_size : int, optional
        Number of processes, WORLD_SIZE of the environment by default.
    ray : int
        Number of Ray workers; 0 does without Ray.
    ray_gpus : float
        GPUs per Ray worker.
    """

    model: str | None = None
    out: Path
    rank: int | None = None
    world_size: int | None = None
    ray: int = 0
    ray_gpus: float = 0.0


def extract(config: ExtractConfig) -> None:
    """Run the command; says what was written."""
    from ..data.sources import open_items, require_source

    if config.source is not None:
        require_source(config.source, config.split)
    elif config.model is None or config.codes is None:
        raise ValueError("give --source, the images; or --codes, a cache of `bigr encode`, with --model, the BiGR model that reads them.")
    import torch

    name = config.model or model_for(config.model, str(config.source), config.split)
    from ..features.extraction import extract_to_store, ranks_of_environment
    from ..functional.checks import some
    from ..functional.inference import local_device

    if config.threads:
        torch.set_num_threads(config.threads)
    if (config.rank is None) != (config.world_size is None):
        raise ValueError("give --rank and --world-size together, or neither.")
    rank, world_size = ranks_of_environment() if config.rank is None or config.world_size is None else (config.rank, config.world_size)
    if config.ray and world_size > 1:
        raise ValueError(f"--ray {config.ray} and world size {world_size} were given; Ray spreads the work itself, so give one of them.")
    settings = ExtractionSettings(**{field.name: getattr(config, field.name) for field in fields(ExtractionSettings)})
    model = build(config, name, config.seed).to("cpu" if config.ray else local_device(config.device))
    if config.source is not None:
        warn_of_unseen(model, name, bool(config.weights), open_items(config.source, config.split, config.labels))
    described: dict[str, Any] = dict(name=" ".join([name, *config.model_args]), weights=config.origin)
    store: FeatureStore | None
    if config.ray:
        from ..features.extraction_ray import extract_with_ray

        store = extract_with_ray(model, config.out, settings, workers=config.ray, gpus_per_worker=config.ray_gpus, **described)
    else:
        store = extract_to_store(model, config.out, settings, rank=rank, world_size=world_size, **described)
    if store is None:
        print(f"rank {rank} of {world_size} is done; the rank that ends last finishes {config.out}")
        return
    print(f"{config.out}: {len(store)} items with {some(store.names)}; {len(store.skipped)} skipped")
