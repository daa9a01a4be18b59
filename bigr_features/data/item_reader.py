"""Images of a source as model inputs, with an id of their pixels.   b images of a batch, C x H x W pixels"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .items import Items, reason_of
from .limits import check_limit
from .modes import upright
from .sources import open_items

ID_LENGTH = 32  # hexadecimal digits of the SHA-256: 128 bits
BAND = 1 << 20  # pixels of a picture that are copied at a time


@dataclass
class Batch:
    """The readable images of a batch, and why the others are not.

    images : Tensor (b, C, H, W); empty (0,) if none can be read.
    positions : numbers of the images in the source.
    ids, sources : strings, one an image.
    thumbnails : encoded small pictures, if the reader makes them.
    skipped : position, name and reason of each image that cannot be read, or lacks a label that others have.
    """

    images: Tensor = field(default_factory=lambda: torch.empty(0))
    positions: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    thumbnails: list[bytes] = field(default_factory=list)
    skipped: list[dict] = field(default_factory=list)


class ItemReader:
    """Map from positions in a source to a `Batch`; the source is opened when it is first asked for.

    Parameters
    ----------
    source, split : str
        As in `open_images`.
    limit : int, optional
        Number of images to take, drawn by class; by default all.
    transform : from an upright Pillow image to a Tensor (C, H, W)
    stack : from the tensors of several images to their batch (b, C, H, W), optional
        What is left to do is done here to the whole batch; `torch.stack` by default.
    mode : "RGB" or "L"
    thumbnail : from an upright Pillow image to an encoded small picture, optional
    unlabelled : bool
        Take images without a label too, where others have one.
    seed : int
        Seed of the draw of `limit`.
    labelled : bool
        With False, class folders and columns of labels count for nothing.
    """

    def __init__(
        self,
        source: str,
        split: str,
        limit: int | None,
        transform: Callable[[Image.Image], Tensor],
        mode: str = "RGB",
        thumbnail: Callable[[Image.Image], bytes] | None = None,
        unlabelled: bool = False,
        seed: int = 0,
        labelled: bool = True,
        stack: Callable[[list[Tensor]], Tensor] = torch.stack,
    ):
        check_limit(limit)
        self.source, self.split, self.limit, self.transform, self.mode = source, split, limit, transform, mode
        self.thumbnail, self.unlabelled, self.seed, self.labelled = thumbnail, unlabelled, seed, labelled
        self.stack = stack
        self._items: Items | None = None

    @property
    def items(self) -> Items:
        """The encoded images."""
        if self._items is None:
            self._items = open_items(self.source, self.split, self.labelled).limited(self.limit, self.seed)
        return self._items

    def __getitem__(self, positions: np.ndarray) -> Batch:
        batch, images = Batch(), []
        for position in map(int, positions):
            unlabelled = None if self.unlabelled else self.items.unlabelled(position)
            if unlabelled is not None:
                batch.skipped.append({"position": position, "name": unlabelled.name, "reason": unlabelled.reason})
                continue
            try:
                with self.items.load(position) as encoded:
                    image = upright(encoded)
                    item = pixel_id(image)
                    small = self.thumbnail(image) if self.thumbnail is not None else None
                    images.append(self.transform(image if image.mode == self.mode else image.convert(self.mode)))
            except Exception as error:  # decoders raise almost anything on damaged files
                batch.skipped.append({"position": position, "name": self.items.name(position), "reason": reason_of(error)})
                continue
            batch.positions.append(position)
            batch.ids.append(item)
            batch.thumbnails += [] if small is None else [small]
            batch.sources.append(self.items.name(position))
        if images:
            batch.images = self.stack(images)
        return batch


def pixel_id(image: Image.Image) -> str:
    """Shortened SHA-256 of the size and pixels of an RGB image: the same picture has the same id wherever it lies."""
    digest = hashlib.sha256(f"{image.width} {image.height} ".encode())
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        band = image if rows >= image.height else image.crop((0, top, image.width, min(top + rows, image.height)))
        digest.update(band.tobytes())
    return digest.hexdigest()[:ID_LENGTH]
