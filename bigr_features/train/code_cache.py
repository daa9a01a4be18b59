"""Images to packed codes, once, so that generator training need not run the tokenizer.

A cache is a folder of shards, each three arrays: `codes_00000.npy` (n, V, bytes) with one row a view, `labels_00000.npy` (n,) if
there are labels, and `items_00000.npy` (n,), positions in the source; and `manifest.json`, which says which tokenizer and which
transform made it.   n images, V views, N tokens, K bits
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import checkpoints
from ..data import VIEWS, ImageSet, open_images, side_for, views_of
from ..functional.inference import autocast
from ..functional.packing import pack_bits, packed_size, unpack_bits
from ..functional.printing import one_line
from ..models.autoencoder import BinaryAutoencoder
from ..storage.atomic import write_atomically
from ..storage.manifests import MANIFEST, read_manifest
from .run import to_dict
from .settings import EncodeConfig

log = logging.getLogger(__name__)

FORMAT = 1


def encode(config: EncodeConfig) -> CodeCache:
    """Write the cache that `config` describes, and open it."""
    from accelerate import PartialState
    from tqdm import tqdm

    if config.threads:
        torch.set_num_threads(config.threads)
    process = PartialState(cpu=config.device == "cpu")
    tokenizer = checkpoints.load_model(config.tokenizer)
    if not isinstance(tokenizer, BinaryAutoencoder):
        raise ValueError(f"{config.tokenizer} holds a {type(tokenizer).__name__}, not a tokenizer.")
    identity = checkpoints.fingerprint(tokenizer)
    tokenizer = tokenizer.to(process.device, memory_format=torch.channels_last)
    size = tokenizer.image_size
    images = open_images(config.source, config.split, size=side_for(size, config.views), in_chans=tokenizer.in_chans, limit=config.limit)
    manifest = {
        "format": FORMAT,
        "tokenizer": identity,
        "source": config.source,
        "split": config.split,
        "image_size": size,
        "in_chans": tokenizer.in_chans,
        "views": config.views,
        "bits": f"drawn with seed {config.seed}" if config.sample_bits else "thresholded at 0.5",
        "precision": config.precision,
        "num_tokens": tokenizer.grid_size**2,
        "code_dim": tokenizer.config.code_dim,
        "num_items": len(images),
        "shard_size": config.shard_size,
        "labelled": images.labels is not None,
        "class_names": list(images.class_names) if images.class_names is not None else None,
    }
    if process.is_main_process:
        _begin(config.out, manifest)
        content = {"kind": "EncodeConfig", "settings": to_dict(config), "identity": {}}
        write_atomically(config.out / "config.json", (json.dumps(content, indent=2) + "\n").encode())
    process.wait_for_everyone()

    shards = -(-len(images) // config.shard_size)
    left = [i for i in range(shards) if not _codes_file(config.out, i).is_file()]
    if len(left) < shards and process.is_main_process:
        log.info("%d of %d shards are there already", shards - len(left), shards)
    process.wait_for_everyone()
    mine = left[process.process_index :: process.num_processes]
    for shard in tqdm(mine, desc="encoding", unit="shard", disable=None):
        with autocast(process.device, config.precision):
            codes, kept = _encode_shard(tokenizer, images, config, shard, process.device)
        _write_array(config.out / f"items_{shard:05d}.npy", kept)
        if images.labels is not None:
            _write_array(config.out / f"labels_{shard:05d}.npy", images.labels[kept])
        _write_array(_codes_file(config.out, shard), codes)
    if images.skipped:
        path = config.out / ("skipped.txt" if process.num_processes == 1 else f"skipped_{process.process_index}.txt")
        before = path.read_text().splitlines() if path.is_file() else []  # of a run that was interrupted
        lines = dict.fromkeys([*before, *(f"{one_line(item.name)}\t{item.reason}" for item in images.skipped)])
        write_atomically(path, "".join(f"{line}\n" for line in lines).encode())
    process.wait_for_everyone()
    if process.is_main_process:
        counts = [len(np.load(config.out / f"items_{i:05d}.npy")) for i in range(shards)]
        if sum(counts) == 0:
            raise ValueError(f"none of the {len(images)} images of {config.source} can be read; see {config.out / 'skipped.txt'}.")
        manifest |= {"complete": True, "shards": counts}
        write_atomically(config.out / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    process.wait_for_everyone()
    return CodeCache(config.out)


@torch.no_grad()
def _encode_shard(tokenizer, images: ImageSet, config: EncodeConfig, shard: int, device) -> tuple[np.ndarray, np.ndarray]:
    generator = torch.Generator(device).manual_seed(config.seed + shard)
    end = min((shard + 1) * config.shard_size, len(images))
    chunks = [np.arange(i, min(i + config.batch_size, end)) for i in range(shard * config.shard_size, end, config.batch_size)]
    num_tokens, code_dim = tokenizer.grid_size**2, tokenizer.config.code_dim
    codes, kept = [np.empty((0, VIEWS[config.views], packed_size(num_tokens, code_dim)), np.uint8)], [np.empty(0, np.int64)]
    for indices, (pixels, readable) in zip(chunks, images.read_many(chunks, config.num_workers), strict=True):
        if not readable.any():
            continue
        views = views_of(pixels, tokenizer.image_size, config.views)  # (b, V, S, S, C)
        batch = to_images(views.reshape(-1, *views.shape[2:]), device)
        bits = tokenizer.encode(batch, sample=config.sample_bits, generator=generator)
        codes.append(pack_bits(bits).unflatten(0, (len(pixels), -1)).cpu().numpy())
        kept.append(indices[readable])
    return np.concatenate(codes), np.concatenate(kept)


def to_images(pixels: np.ndarray, device) -> Tensor:
    """Images (B, C, S, S) in [0, 1], channels last, of uint8 pixels (B, S, S, C)."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)


def _begin(folder: Path, manifest: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MANIFEST
    if path.is_file():
        before = _read_manifest(folder)
        differing = [f"{key} was {before.get(key)!r} and is now {value!r}" for key, value in manifest.items() if before.get(key) != value]
        if differing:
            raise ValueError(f"{folder} holds a cache made otherwise: {'; '.join(differing)}. Give another --out, or delete it.")
        return
    write_atomically(path, (json.dumps({**manifest, "complete": False}, indent=2) + "\n").encode())


def _codes_file(folder: Path, shard: int) -> Path:
    return folder / f"codes_{shard:05d}.npy"


def _write_array(path: Path, array: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, array)
    write_atomically(path, buffer.getvalue())


def _read_manifest(folder: Path) -> dict:
    remedy = "delete the cache and encode again"
    return read_manifest(Path(folder), "code cache", kind=None, format=FORMAT, command="bigr encode", remedy=remedy)


class CodeCache:
    """A complete cache, memory-mapped.

    Attributes
    ----------
    num_tokens, code_dim, num_views : int
    labels : int64 array (n,) or None
    manifest : dict

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no cache, it is unfinished, or a shard is missing.
    """

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        self.folder, self.manifest = folder, _read_manifest(folder)
        if not self.manifest.get("complete"):
            raise ValueError(f"the cache {folder} is unfinished; run the same `bigr encode` command again, and it continues.")
        self.num_tokens, self.code_dim = self.manifest["num_tokens"], self.manifest["code_dim"]
        self.num_views = VIEWS[self.manifest["views"]]
        counts = self.manifest["shards"]
        missing = [i for i in range(len(counts)) if not _codes_file(folder, i).is_file()]
        if missing:
            raise FileNotFoundError(f"{_codes_file(folder, missing[0])} is missing; run the same `bigr encode` command again.")
        self._shards = [np.load(_codes_file(folder, i), mmap_mode="r") for i in range(len(counts))]
        self._starts = np.cumsum([0, *counts])
        self.labels = None
        if self.manifest["labelled"]:
            self.labels = np.concatenate([np.load(folder / f"labels_{i:05d}.npy") for i in range(len(counts))])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def identity(self) -> str:
        """Digest of the manifest."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    def read(self, items: np.ndarray, views: np.ndarray | None = None) -> np.ndarray:
        """Codes (m, N, K) uint8 of images `items`, of view 0 or the views given."""
        views = np.zeros(len(items), dtype=np.int64) if views is None else views
        packed = np.empty((len(items), packed_size(self.num_tokens, self.code_dim)), dtype=np.uint8)
        shard_of = np.searchsorted(self._starts, items, side="right") - 1
        for shard in np.unique(shard_of):
            here = np.flatnonzero(shard_of == shard)
            packed[here] = self._shards[shard][items[here] - self._starts[shard], views[here]]
        return unpack_bits(packed, self.num_tokens, self.code_dim)

    def check_tokenizer(self, fingerprint: str) -> None:
        """Raise ValueError if another tokenizer made the cache."""
        if self.manifest["tokenizer"] != fingerprint:
            raise ValueError(
                f"the cache {self.folder} was made by another tokenizer (fingerprint {self.manifest['tokenizer'][:12]}..., "
                f"this one has {fingerprint[:12]}...); encode the images again with this tokenizer, or give the one that made the cache."
            )
