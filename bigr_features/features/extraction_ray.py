"""Extraction by Ray workers, on one machine or a cluster that shares a file system.   n shards"""

from __future__ import annotations

import copy
import logging
import os
from pathlib import Path

from torch import nn

from ..functional.progress import progress as progress_of
from .extraction import Extraction, ExtractionSettings
from .store import FeatureStore

log = logging.getLogger(__name__)


def extract_with_ray(
    model: nn.Module,
    folder: str | Path,
    settings: ExtractionSettings,
    *,
    name: str = "",
    weights: str = "",
    workers: int = 2,
    gpus_per_worker: float = 0.0,
    progress: bool = True,
) -> FeatureStore:
    """As `extraction.extract_to_store`, by so many Ray workers; the store is the same, byte for byte.

    A Ray that is running already (`ray.init`, RAY_ADDRESS) is used and left running; otherwise a local one is started for the call.

    Parameters
    ----------
    model, folder, settings, name, weights : see `extraction.Extraction`
        Every worker must see the same folder and source under the same paths.
    workers : int
        Actors, each with a model of its own.
    gpus_per_worker : float
        GPUs that Ray reserves for an actor; 0 runs on CPUs.

    Raises
    ------
    ImportError
        Without Ray.
    FileNotFoundError, ValueError
        As `extraction.Extraction`.
    """
    if workers < 1 or gpus_per_worker < 0:
        raise ValueError(f"workers={workers}, gpus_per_worker={gpus_per_worker}; expected 1 or more, and 0 or more.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("extraction with Ray needs Ray Data: pip install bigr-features[ray]") from error

    writer = Extraction(model, folder, settings, name=name, weights=weights).writer
    left = writer.pending()
    started = bool(left) and not ray.is_initialized()
    if started:
        address = os.environ.get("RAY_ADDRESS")
        local = {} if address else {"num_cpus": max(workers, os.cpu_count() or 1), "include_dashboard": False}
        ray.init(logging_level=logging.WARNING, log_to_driver=False, **local)
    try:
        if left:
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            logging.getLogger("ray.data").setLevel(logging.ERROR)  # it reports plans and progress; errors are raised anyway
            weights_on_cpu = ray.put(copy.deepcopy(model).cpu())
            shards = ray.data.from_items([{"shard": shard} for shard in left], override_num_blocks=len(left))
            made = shards.map_batches(
                _ShardMaker,
                fn_constructor_args=(weights_on_cpu, str(folder), settings, name, weights, os.getcwd()),
                batch_size=1,
                concurrency=workers,
                num_gpus=gpus_per_worker or None,
            )
            total = sum(len(writer.positions(shard)) for shard in left)
            with progress_of(total=total, unit="image", desc="features", shown=progress) as bar:
                for row in made.iter_rows():
                    bar.update(len(writer.positions(int(row["shard"]))))
    finally:
        if started:
            ray.shutdown()
    store = writer.finish()
    if store is None:
        raise RuntimeError(f"the Ray workers ended without all shards of {folder}; run the same command again, and it continues.")
    return store


class _ShardMaker:
    """A worker: takes numbers of shards, writes the shards."""

    def __init__(self, model, folder: str, settings: ExtractionSettings, name: str, weights: str, where: str):
        import ray
        import torch

        os.chdir(where)  # so that relative paths mean what they mean to the caller
        model = ray.get(model)
        gpus = ray.get_gpu_ids()
        model = copy.deepcopy(model).to("cuda" if gpus and torch.cuda.is_available() else "cpu")
        self.extraction = Extraction(model, folder, settings, name=name, weights=weights)

    def __call__(self, batch: dict) -> dict:
        self.extraction.run([int(shard) for shard in batch["shard"]], progress=False)
        return batch
