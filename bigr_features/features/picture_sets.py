"""Sets of pictures of one size, batch by batch: splits of data sets, folders of samples, sample files.   b pictures, S side in pixels"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.items import reason_of
from ..data.modes import upright
from ..data.pixels import read_pixels
from ..data.sources import open_items
from ..evaluate.reference import SampleFile

log = logging.getLogger(__name__)


class PictureSet:
    """uint8 RGB pictures, batch by batch.

    Parameters
    ----------
    source : str or Path
        What `open_images` takes, or a `.npz` file of samples.
    split : str
        Of the source.
    size : int, optional
        Side S of the squares that pictures are cropped and resized to, as data sets are. By default they are taken as they are, and must
        all be of one size: resizing moves a Frechet distance by whole points.
    limit : int, optional
        Take at most so many, evenly spread over the set, which may be sorted by class.
    strict : bool
        Refuse a picture that cannot be read, instead of leaving it out with a warning.

    Attributes
    ----------
    labels : int array (n,), or None; of the pictures taken, readable or not.
    class_names : names by label, or None.

    Raises
    ------
    FileNotFoundError, ValueError
        For a source that cannot be opened, or is empty.
    """

    def __init__(self, source: str | Path, split: str = "train", size: int | None = None, limit: int | None = None, strict: bool = False):
        if limit is not None and limit < 1:
            raise ValueError(f"limit={limit}; expected 1 or more pictures.")
        self.source, self.split, self.size, self.strict = str(source), split, size, strict
        self.labels, self.class_names = None, None
        self._file = SampleFile(source) if Path(source).suffix.lower() == ".npz" else None
        if self._file is not None:
            self._count = len(self._file)
        else:
            self._items = open_items(self.source, split)
            self._count = len(self._items)
            self.labels, self.class_names = self._items.labels, self._items.class_names
        if self._count == 0:
            raise FileNotFoundError(f"{source} (split {split!r}) holds no image.")
        self._taken = np.arange(self._count)
        if limit is not None and limit < self._count:
            self._taken = np.linspace(0, self._count - 1, limit).round().astype(int)
        if self.labels is not None:
            self.labels = self.labels[self._taken]

    def __len__(self) -> int:
        return len(self._taken)

    def batches(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """uint8 pictures (b, H, W, 3) and their numbers (b,) among those taken, in order.

        Raises
        ------
        ValueError
            For pictures of several sizes, and for one that cannot be read where that is not left out.
        """
        size: tuple[int, ...] | None = None
        for positions, pictures in self._read(count):
            for position, picture in zip(positions, pictures, strict=True):
                size = picture.shape if size is None else size
                if picture.shape != size:
                    raise ValueError(
                        f"{self._name(position)} is {picture.shape[1]} x {picture.shape[0]} but the first picture is "
                        f"{size[1]} x {size[0]}; metrics need pictures of one size. Bring all to one size as the model's are made, "
                        "or give --image-size to have them cropped and resized."
                    )
            if len(pictures):
                yield np.stack(pictures), np.array(positions)

    def first_size(self) -> tuple[int, int]:
        """Height and width of the first picture that can be read."""
        pictures, _ = next(self.batches(1), (None, None))
        if pictures is None:
            raise ValueError(f"no picture of {self.source} can be read.")
        return pictures.shape[1:3]

    def _read(self, count: int) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        if self._file is not None:
            start = 0
            for batch in self._file.batches(count):
                numbers = np.flatnonzero((self._taken >= start) & (self._taken < start + len(batch)))
                yield numbers.tolist(), [self._sized(batch[self._taken[number] - start]) for number in numbers]
                start += len(batch)
            return
        for start in range(0, len(self), count):
            read, pictures = list[int](), list[np.ndarray]()
            for number in range(start, min(start + count, len(self))):
                try:
                    with self._items.load(int(self._taken[number])) as image:
                        picture = read_pixels(image, self.size, 3) if self.size else np.asarray(upright(image))
                except Exception as error:  # decoders raise almost anything on damaged files
                    if self.strict:
                        raise ValueError(f"{self._name(number)} cannot be read ({reason_of(error)}); delete or replace it.") from error
                    log.warning("skipped %s: %s", self._name(number), reason_of(error))
                    continue
                read.append(number)
                pictures.append(picture)
            yield read, pictures

    def _sized(self, picture: np.ndarray) -> np.ndarray:
        return read_pixels(Image.fromarray(picture), self.size, 3) if self.size else picture

    def _name(self, number: int) -> str:
        position = int(self._taken[number])
        return f"{self.source}[{position}]" if self._file is not None else self._items.name(position)


class Pixels:
    """SHA-256 of pictures as they pass by, in order: the same for the same pixels, wherever they lie."""

    def __init__(self):
        self._digest, self.count = hashlib.sha256(), 0

    def update(self, pictures: np.ndarray) -> None:
        for one in pictures:
            self._digest.update(f"{one.shape}".encode())
            self._digest.update(np.ascontiguousarray(one).tobytes())
        self.count += len(pictures)

    def facts(self) -> dict:
        return {"images": self.count, "sha256": self._digest.hexdigest()}
