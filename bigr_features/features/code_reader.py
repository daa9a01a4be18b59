"""The codes of a cache (`bigr encode`) as what a BiGR model's features are read from, in place of images.   n images, N tokens, K bits

No image is opened and no tokenizer runs. Of a cache of several views the first is read, the centre crop.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..backbones.backbone import BiGRBackbone
from ..checkpoints import fingerprint
from ..data.item_reader import ID_LENGTH, Batch
from ..data.limits import check_limit, drawn
from ..train.code_cache import CodeCache

MADE_BY = ("tokenizer", "image_size", "in_chans", "views", "bits", "precision")  # what in a cache decides what its codes are


class CodeReader:
    """Map from positions in a cache to a `Batch` whose `images` are stored codes; `codes` unpacks them.

    Parameters
    ----------
    folder : str or Path
        A finished cache.
    model : BiGR model
        With the tokenizer that made the cache.
    limit : int, optional
        Number of images to take, drawn by class; by default all.
    labelled : bool
        With False, the labels of the cache count for nothing.

    Attributes
    ----------
    labels, class_names, split
        As `data.items.Items` has them.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no finished cache, another tokenizer made it, or the model reads no codes.
    """

    def __init__(self, folder: str | Path, model: nn.Module, limit: int | None = None, labelled: bool = True):
        if not isinstance(model, BiGRBackbone):
            raise ValueError(
                f"codes={folder} was given, but {type(model).__name__} reads images, not codes; give a BiGR model, or a source."
            )
        check_limit(limit)
        self.cache = CodeCache(folder)
        self.cache.check_tokenizer(fingerprint(model.tokenizer))
        self.places = np.arange(len(self.cache))
        if limit is not None:
            self.places = drawn(self.cache.labels, len(self.cache), limit)
        found = self.cache.labels if labelled else None
        self.labels = None if found is None else np.asarray(found)[self.places]
        self.class_names = self.cache.manifest["class_names"] if labelled else None
        self.split: str | None = self.cache.manifest["split"]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def items(self) -> CodeReader:
        """What is read, as `ItemReader` has it."""
        return self

    def listing_sha256(self) -> str:
        """Digest of the cache, of which codes are read, and of their labels."""
        digest = hashlib.sha256(self.cache.identity().encode())
        digest.update(self.places.astype(np.int64).tobytes())
        digest.update(b"" if self.labels is None else self.labels.astype(np.int64).tobytes())
        return digest.hexdigest()

    def preprocessing(self) -> dict:
        """What made the codes of the images; stores are told apart by it."""
        return {"codes": {name: self.cache.manifest[name] for name in MADE_BY if name in self.cache.manifest}}

    def codes(self, rows: Tensor) -> Tensor:
        """Codes (b, N, K) of 0 and 1, or (b, N) of indices, of stored ones, on their device."""
        return self.cache.codes.unpack(rows)

    def __getitem__(self, positions: np.ndarray) -> Batch:
        places = self.places[positions]
        rows = np.ascontiguousarray(self.cache.read(places))
        source, numbers = self.cache.manifest["source"], self.cache.positions[places]
        return Batch(
            images=torch.from_numpy(rows.astype(np.int64) if rows.dtype == np.uint32 else rows),
            positions=list(map(int, positions)),
            ids=[hashlib.sha256(row.tobytes()).hexdigest()[:ID_LENGTH] for row in rows],
            sources=[f"{source}[{number}]" for number in numbers],
        )
