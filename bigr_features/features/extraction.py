"""Features of a whole set of images, streamed into a feature store.   n images, m items of a shard, D features

The source is cut into shards of `shard_size` items, and each shard is read, run through the model and written on its own, always in the
same batches. So a run can be killed and continued, or spread over ranks or Ray workers, and gives the same bytes.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..backbones.backbone import BiGRBackbone
from ..checkpoints import fingerprint
from ..data.item_reader import Batch, ItemReader
from ..data.read_ahead import check_workers, read_batches
from ..functional.compiling import check_compiler, compiled, repeated_blocks
from ..functional.inference import evaluating
from ..functional.int8 import check_int8
from ..functional.pooling import HEAD
from ..functional.printing import one_line
from ..functional.progress import progress as progress_of
from ..storage.manifests import MANIFEST
from ..storage.shard_writer import ranks_of_environment
from .code_reader import CodeReader
from .inputs import image_transform, preprocessing_of
from .int8 import Computing
from .precision import CHOICES, precision_for, recorded_precision, why_exact
from .readout import Readout, by_depth, check_condition, check_inputs, read_out
from .settings import ExtractionSettings
from .store import STORE, FeatureStore
from .store_writer import StoreWriter

log = logging.getLogger(__name__)

__all__ = ["Extraction", "ExtractionSettings", "extract_to_store", "ranks_of_environment"]
CONDITIONS = ("null", "label")
VERSIONS = ("bigr-features", "torch", "timm", "numpy", "pillow")


class Extraction:
    """A model, a source and a store, ready to work shard by shard.

    Parameters
    ----------
    model : timm model
        On its device; its mode is kept.
    folder : str or Path
        Of the store, new or begun with the same settings.
    settings : ExtractionSettings
    name : str
        What the manifest calls the model; its timm name by default.
    weights : str
        Where the weights come from, for the manifest: "pretrained", "random", ...

    Raises
    ------
    FileNotFoundError, ValueError
        For a source that cannot be opened, a setting that this model or source cannot serve, or a store of other settings.
    """

    def __init__(self, model: nn.Module, folder: str | Path, settings: ExtractionSettings, *, name: str = "", weights: str = ""):
        if settings.batch_size < 1:
            raise ValueError(f"batch_size={settings.batch_size}; expected 1 or more.")
        check_workers(settings.num_workers)
        self.model, self.settings = model, settings
        self._first: list[Batch] | None = None
        self._computing = Computing(model)
        self.device = next(model.parameters()).device
        if settings.precision not in CHOICES:
            raise ValueError(f"precision={settings.precision!r} is unknown; choose one of {', '.join(CHOICES)}.")
        if settings.precision == "int8":
            check_int8(self.device)
        if settings.compile:
            if "int8" in (settings.precision, (recorded_precision(folder) or {}).get("precision")):
                raise ValueError("compile does not go with int8, whose layers have kernels of their own; leave one of them out.")
            check_compiler(self.device)
            self._blocks = repeated_blocks(model.generator.trunk if isinstance(model, BiGRBackbone) else model)
        asked = settings.layers, settings.pooling, settings.bits, settings.mask_ratio, settings.sample_bits, settings.seed
        readout = Readout(*asked).resolved(model)
        self.readout = replace(readout, layers=tuple(by_depth(readout.resolved_layers)))
        self.reader = _reader(model, settings)
        self.labels, self.class_names = self.reader.items.labels, self.reader.items.class_names
        self._check_condition()
        _refuse_older(Path(folder))
        self.writer = self._begin(folder, name or _name_of(model), weights)
        self.precision = self.writer.manifest.get("precision") or {"precision": self.writer.manifest["dtype"]}

    def _begin(self, folder: str | Path, name: str, weights: str) -> StoreWriter:
        """The writer of the store; all ranks take the precision of the one that began it."""
        recorded = recorded_precision(folder)
        try:
            return self._writer(folder, name, weights, recorded)
        except ValueError:
            if recorded is not None or recorded_precision(folder) is None:
                raise
        return self._writer(folder, name, weights, recorded_precision(folder))  # another rank has begun it since

    def _writer(self, folder: str | Path, name: str, weights: str, recorded: dict | None) -> StoreWriter:
        settings, items = self.settings, self.reader.items
        exact = why_exact(self.readout)
        precision = precision_for(settings.precision, self.device, self.model, self._first_features, exact=exact, recorded=recorded)
        return StoreWriter(
            folder,
            {
                "model": name,
                "weights": weights,
                "weights_sha256": fingerprint(self.model),
                "layers": list(self.readout.resolved_layers),
                "poolings": list(self.readout.poolings),
                "bits": settings.bits,
                **({"token_shapes": self._token_shapes()} if "tokens" in settings.pooling else {}),
                "preprocessing": self._preprocessing(),
                "mask_ratio": settings.mask_ratio,
                "condition": settings.condition,
                "sample_bits": settings.sample_bits,
                "seed": settings.seed if self.readout.draws else None,
                "dtype": precision["precision"],
                "precision": precision,
                "source": settings.source or str(settings.codes),
                "split": items.split,
                **({"labelled": False} if not settings.labels else {}),
                **({"limit": settings.limit} if settings.limit is not None else {}),
                "listing_sha256": items.listing_sha256(),
                "batch_size": settings.batch_size,
                "versions": {package: _version(package) for package in VERSIONS},
            },
            num_items=len(items),
            shard_size=settings.shard_size,
            labelled=self.labels is not None,
            class_names=self.class_names,
        )

    def run(self, shards: list[int], progress: bool = True) -> None:
        """Make these shards, one after another."""
        start = time.perf_counter()
        batches = [(shard, chunk) for shard in shards for chunk in self._chunks(shard)]
        total = sum(len(chunk) for _, chunk in batches)
        model_cores = torch.get_num_threads() if self.device.type == "cpu" else 1
        readers = read_batches(self.reader, [chunk for _, chunk in batches], self.settings.num_workers, model_cores)
        compiling = compiled(self._blocks) if self.settings.compile else nullcontext()
        with evaluating(self.model), compiling, progress_of(total=total, unit="image", desc="features", shown=progress) as bar:
            parts = _Parts()
            for i, ((shard, chunk), batch) in enumerate(zip(batches, readers, strict=True)):
                parts.add(batch, self._features(batch, self.precision))
                bar.update(len(chunk))
                if i + 1 == len(batches) or batches[i + 1][0] != shard:
                    self._write(shard, parts)
                    parts = _Parts()
        if total:
            log.info("%d images, %.1f images/s", total, total / max(time.perf_counter() - start, 1e-9))

    def _chunks(self, shard: int) -> Iterator[np.ndarray]:
        positions, size = self.writer.positions(shard), self.settings.batch_size
        return (positions[i : i + size] for i in range(0, len(positions), size))

    def _first_features(self, precision: dict, count: int) -> dict[str, np.ndarray]:
        """Features of the first images, on which precisions are compared."""
        if self._first is None:
            positions, size = np.arange(min(count, len(self.reader.items))), self.settings.batch_size
            self._first = [self.reader[positions[i : i + size]] for i in range(0, len(positions), size)]
        parts = _Parts()
        with evaluating(self.model):
            for batch in self._first:
                parts.add(batch, self._features(batch, precision))
        return parts.features()

    @torch.inference_mode()
    def _features(self, batch: Batch, precision: dict) -> dict[str, np.ndarray]:
        if not len(batch.positions):
            return {}
        images, codes = None, None
        if isinstance(self.reader, CodeReader):
            codes = self.reader.codes(batch.images.to(self.device, non_blocking=True))
        else:
            check_inputs(batch.images, self.model)
            images = batch.images.to(self.device, next(self.model.parameters()).dtype, non_blocking=True)
        seeds = np.array([int(item[:16], 16) for item in batch.ids], dtype=np.uint64)
        with self._computing.context(precision):
            found = read_out(self.model, images, self.readout, self._condition_of(batch.positions), seeds, codes)
        return {name: rows.flatten(1).cpu().numpy() for name, rows in found.items()}

    @torch.inference_mode()
    def _token_shapes(self) -> dict[str, list[int]]:
        """Number and width of the tokens of every layer, by the name of the feature that keeps them."""
        size = preprocessing_of(self.model, self.settings.image_size)["input_size"]
        image = torch.zeros(1, *size, device=self.device, dtype=next(self.model.parameters()).dtype)
        with evaluating(self.model):
            found = read_out(
                self.model, image, Readout(tuple(layer for layer in self.readout.resolved_layers if layer != HEAD), ("tokens",))
            )
        return {name: list(tokens.shape[1:]) for name, tokens in found.items()}

    def _write(self, shard: int, parts: _Parts) -> None:
        bits = None
        if self.readout.bits:
            bits = {"bits": (self.model.tokenizer.grid_size**2, self.model.tokenizer.code_dim)}
        for item in parts.skipped:
            log.warning("skipped %s: %s", one_line(item["name"]), item["reason"])
        positions = np.array(parts.positions, dtype=np.int64)
        self.writer.write_shard(
            shard,
            parts.features() or {name: np.empty((0, 0), np.float32) for name in self.readout.names},
            ids=parts.ids,
            sources=parts.sources,
            positions=positions,
            labels=None if self.labels is None else self.labels[positions],
            skipped=parts.skipped,
            bits=bits,
        )

    def _preprocessing(self) -> dict:
        if isinstance(self.reader, CodeReader):
            return self.reader.preprocessing()
        return preprocessing_of(self.model, self.settings.image_size)

    def _condition_of(self, positions: list[int]) -> Tensor | None:
        condition = self.settings.condition
        if condition == "null":
            return None
        if condition != "label":
            labels = np.full(len(positions), int(condition))
        else:
            assert self.labels is not None
            labels = self.labels[positions]
        return torch.as_tensor(labels, dtype=torch.int64, device=self.device)

    def _check_condition(self) -> None:
        condition = self.settings.condition
        if condition == "null":
            return
        if condition == "label":
            if self.labels is None:
                raise ValueError(
                    f"condition='label', but {self.settings.source or self.settings.codes} has no labels; give a class index, or null."
                )
            check_condition(torch.from_numpy(self.labels[self.labels >= 0]), self.model)
            log.warning("every image's own label is its condition: such features contain the answer, so do not probe them for labels")
        elif condition.isdecimal():
            check_condition(torch.tensor([int(condition)]), self.model)
        else:
            raise ValueError(f"condition={condition!r}; give null, label, or a class index.")


def extract_to_store(
    model: nn.Module,
    folder: str | Path,
    settings: ExtractionSettings,
    *,
    name: str = "",
    weights: str = "",
    rank: int = 0,
    world_size: int = 1,
    progress: bool = True,
) -> FeatureStore | None:
    """Extract features into a store, or go on where an earlier call with the same settings stopped.

    Parameters
    ----------
    model, folder, settings, name, weights : see `Extraction`
    rank, world_size : int
        This process makes every world_size-th shard, beginning with number `rank`. Ranks share the folder and nothing else.
    progress : bool
        Show a progress bar, with images per second and the time left.

    Returns
    -------
    FeatureStore, or None while other ranks are not done; the last of them finishes the store.

    Raises
    ------
    FileNotFoundError, ValueError
        As `Extraction`, and if no image can be read.
    """
    extraction = Extraction(model, folder, settings, name=name, weights=weights)
    writer = extraction.writer
    left, mine = writer.pending(rank, world_size), range(rank, writer.num_shards, world_size)
    if len(left) < len(mine):
        log.info("%d of %d shards are there already", len(mine) - len(left), len(mine))
    extraction.run(left, progress)
    return writer.finish()


def _reader(model: nn.Module, settings: ExtractionSettings) -> ItemReader | CodeReader:
    """What reads the images of a source, or the codes of a cache."""
    if (settings.source is None) == (settings.codes is None):
        given = "neither was given" if settings.source is None else "both were given"
        raise ValueError(f"features are read from the images of a source or from the codes of a cache; {given}. Give one of them.")
    if settings.codes is not None:
        if settings.sample_bits or settings.image_size is not None:
            raise ValueError("sample_bits and image_size are settled when images are encoded; leave them out beside codes.")
        return CodeReader(settings.codes, model, settings.limit, settings.labels)
    assert settings.source is not None
    transform, mode = image_transform(model, settings.image_size)
    taken = settings.source, settings.split, settings.limit
    reader = ItemReader(*taken, transform.pixels, mode, labelled=settings.labels, stack=transform.stack)
    if len(reader.items) == 0:
        raise FileNotFoundError(f"{settings.source} (split {settings.split!r}) holds no image.")
    return reader


class _Parts:
    """What has come of a shard so far."""

    def __init__(self):
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.positions: list[int] = []
        self.skipped: list[dict] = []
        self._features: dict[str, list[np.ndarray]] = defaultdict(list)

    def add(self, batch: Batch, features: dict[str, np.ndarray]) -> None:
        self.ids += batch.ids
        self.sources += batch.sources
        self.positions += batch.positions
        self.skipped += batch.skipped
        for name, rows in features.items():
            self._features[name].append(rows)

    def features(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate(rows) for name, rows in self._features.items()}


def _name_of(model: nn.Module) -> str:
    cfg = getattr(model, "pretrained_cfg", None) or {}
    parts = [cfg.get("architecture") or type(model).__name__, cfg.get("tag")]
    return ".".join(part for part in parts if part)


def _refuse_older(folder: Path) -> None:
    """Raise ValueError if the folder holds a store whose preprocessing was recorded as text, which cannot be compared with ours."""
    if (folder / MANIFEST).is_file() and "transform" in STORE.manifest(folder):
        raise ValueError(
            f"the store {folder} was begun by an older version, which recorded its preprocessing as text: it can be read, but not "
            "continued. Give another folder, or delete it and extract again."
        )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except Exception:  # a package of that name is not installed
        return None
