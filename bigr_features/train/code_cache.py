"""Images to stored codes, once, so that generator training need not run the tokenizer.

A cache is a folder of shards (`storage.shards`). Shard 3 holds `view0_00003.npy`, `view1_00003.npy`, ..., the codes of each view,
`positions_00003.npy`, and `labels_00003.npy` if there are labels; the manifest says which tokenizer and which transform made it.
n images, V views, N tokens, K bits
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import checkpoints
from ..data import VIEWS, ImageSet, open_images, side_for, views_of
from ..data.items import Skipped
from ..functional.inference import autocast, local_device, to_device
from ..functional.printing import one_line
from ..functional.progress import progress
from ..models.image_tokenizer import ImageTokenizer
from ..storage.atomic import write_atomically
from ..storage.json_files import write_json
from ..storage.shard_writer import ShardWriter, ranks_of_environment
from ..storage.shards import ShardFormat, ShardReader
from .precision import settled
from .settings import EncodeConfig
from .stored_codes import check_drawable, encoded, stored_codes

log = logging.getLogger(__name__)

CACHE = ShardFormat(
    kind="bigr_features code cache",
    format=2,
    what="code cache",
    command="bigr encode",
    arrays=("positions", "labels"),
    digested=("positions", "labels"),
)


def encode(config: EncodeConfig) -> CodeCache | None:
    """Write this process's shards of the cache that `config` describes, and open it; None while other processes are not done."""
    if config.threads:
        torch.set_num_threads(config.threads)
    rank, world_size = ranks_of_environment()
    device = local_device(config.device)
    tokenizer = checkpoints.load_trained(config.tokenizer)
    if not isinstance(tokenizer, ImageTokenizer):
        raise ValueError(f"{config.tokenizer} holds a {type(tokenizer).__name__}, not a tokenizer.")
    check_drawable(tokenizer, config.sample_bits)
    codes = stored_codes(tokenizer)
    identity = checkpoints.fingerprint(tokenizer)
    channels = tokenizer.config.channels
    tokenizer = tokenizer.to(device, memory_format=torch.channels_last)
    size = tokenizer.image_size
    images = open_images(
        config.source, config.split, size=side_for(size, config.views), in_chans=tokenizer.in_chans, limit=config.limit,
        labelled=config.labels,
    )  # fmt: skip
    config, _ = settled(config, device, (9 * channels, channels), goes_on=True)  # last, so that processes see what the first one chose
    writer = ShardWriter(
        config.out,
        CACHE,
        {
            "tokenizer": identity,
            "source": config.source,
            "split": images.split,
            "listing_sha256": images.listing_sha256(),
            "image_size": size,
            "in_chans": tokenizer.in_chans,
            "views": config.views,
            **({"bits": f"drawn with seed {config.seed}" if config.sample_bits else "thresholded at 0.5"} if codes.bits else {}),
            "precision": config.precision,
            **codes.facts,
        },
        num_items=len(images),
        shard_size=config.shard_size,
        labelled=images.labels is not None,
        class_names=images.class_names,
    )
    if rank == 0:
        write_json(config.out / "config.json", {"kind": "EncodeConfig", "settings": config, "identity": {}})
    left, mine = writer.pending(rank, world_size), range(rank, writer.num_shards, world_size)
    if len(left) < len(mine):
        log.info("%d of %d shards are there already", len(mine) - len(left), len(mine))
    before = [_skipped(None, item) for item in images.skipped]  # found when the images were opened
    for shard in progress(left, desc="encoding", unit="shard"):
        with autocast(device, config.precision):
            _encode_shard(tokenizer, images, config, writer, shard, before if shard == 0 else [])
    manifest = writer.join()
    if manifest is None:
        return None
    if manifest["skipped"]:
        lines = (f"{one_line(item['name'])}\t{item['reason']}\n" for item in manifest["skipped"])
        write_atomically(config.out / "skipped.txt", "".join(lines).encode("utf-8", "surrogateescape"))
    cache = CodeCache(config.out)
    log.info("wrote %s: codes of %d images", config.out, len(cache))
    return cache


@torch.no_grad()
def _encode_shard(tokenizer, images: ImageSet, config: EncodeConfig, writer: ShardWriter, shard: int, skipped: list[dict]) -> None:
    device = next(tokenizer.parameters()).device
    generator = torch.Generator(device).manual_seed(config.seed + shard)
    positions = writer.positions(shard)
    chunks = [positions[i : i + config.batch_size] for i in range(0, len(positions), config.batch_size)]
    stored, num_views = stored_codes(tokenizer), VIEWS[config.views]
    codes, kept = [stored.empty(0)], [np.empty(0, np.int64)]
    seen = len(images.skipped)
    for indices, (pixels, readable) in zip(chunks, images.read_many(chunks, config.num_workers), strict=True):
        skipped = skipped + [_skipped(index, item) for index, item in zip(indices[~readable], images.skipped[seen:], strict=False)]
        seen = len(images.skipped)
        if not readable.any():
            continue
        views = views_of(pixels, tokenizer.image_size, config.views)  # (b, V, S, S, C)
        batch = to_images(views.reshape(-1, *views.shape[2:]), device)
        codes.append(stored.pack(encoded(tokenizer, batch, config.sample_bits, generator)))
        kept.append(indices[readable])
    rows, items = np.concatenate(codes), np.concatenate(kept)
    rows = rows.reshape(len(items), num_views, rows.shape[1])
    names = [f"view{view}" for view in range(num_views)]
    writer.write(
        shard,
        {name: rows[:, view] for view, name in enumerate(names)},
        {"positions": items, "labels": None if images.labels is None else images.labels[items]},
        skipped=skipped,
        bits=None if stored.bits is None else dict.fromkeys(names, stored.bits),
    )


def _skipped(position: int | None, item: Skipped) -> dict:
    return {"position": None if position is None else int(position), "name": item.name, "reason": item.reason}


def to_images(pixels: np.ndarray, device) -> Tensor:
    """Images (B, C, S, S) in [0, 1], channels last, of uint8 pixels (B, S, S, C); the host does not wait for the copy."""
    return to_device(torch.from_numpy(np.ascontiguousarray(pixels)), device).permute(0, 3, 1, 2).float().div_(255)


class CodeCache(ShardReader):
    """A complete cache, memory-mapped.

    Attributes
    ----------
    codes : StoredBits or StoredIndices
        How rows become codes.
    num_views : int
    labels : int64 array (n,) or None
    manifest : dict

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no cache, it is unfinished, or a shard is missing.
    """

    def __init__(self, folder: str | Path):
        super().__init__(folder, CACHE)
        self.codes = stored_codes(self.manifest)
        self.num_views = VIEWS[self.manifest["views"]]
        self._views = [self.features(f"view{view}", packed=self.codes.bits is not None) for view in range(self.num_views)]

    def identity(self) -> str:
        """Digest of the manifest, and so of every file."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    def read(self, items: np.ndarray, views: np.ndarray | None = None) -> np.ndarray:
        """Stored codes (m, ...) of images `items`, of view 0 or the views given; see `codes.unpack`."""
        if views is None or self.num_views == 1:
            return self._views[0][items]
        rows = self.codes.empty(len(items))
        for view in np.unique(views):
            here = np.flatnonzero(views == view)
            rows[here] = self._views[view][items[here]]
        return rows

    def check_tokenizer(self, fingerprint: str) -> None:
        """Raise ValueError if another tokenizer made the cache."""
        if self.manifest["tokenizer"] != fingerprint:
            raise ValueError(
                f"the cache {self.folder} was made by another tokenizer (fingerprint {self.manifest['tokenizer'][:12]}..., "
                f"this one has {fingerprint[:12]}...); encode the images again with this tokenizer, or give the one that made the cache."
            )
