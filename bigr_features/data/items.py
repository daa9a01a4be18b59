"""The encoded images of a source by number, their labels, and what tells that they were changed.   n images"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..functional.printing import one_line
from .limits import drawn
from .pixels import read_pixels

UNLABELLED = "it has no label (-1 or null), and others of the source have one"


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read: where it is, and why."""

    name: str
    reason: str


class Items(ABC):
    """Encoded images by number; can be pickled, so that worker processes take it as it is.

    Parameters
    ----------
    count : int
    labels : int64 array (n,), optional
        -1 where the label is missing.
    class_names : sequence of str, optional
        Names by label.

    Attributes
    ----------
    split : str or None
        The split that the images are, by the name that the source has for it; None if the source has no splits.
    """

    split: str | None = None

    def __init__(self, count: int, labels: Sequence[int] | np.ndarray | None = None, class_names: Sequence[str] | None = None):
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.class_names = None if class_names is None else tuple(class_names)
        self._places: range | np.ndarray = range(count)
        self._captions: Sequence[tuple[str, ...]] | None = None

    @abstractmethod
    def _load(self, place: int) -> Image.Image: ...

    @abstractmethod
    def _name(self, place: int) -> str: ...

    def _stamp(self, place: int) -> list:
        """Numbers that change when the image does, if it has a file of its own."""
        return []

    def _source_stamp(self) -> list:
        """The same, of files that hold all images."""
        return []

    def __len__(self) -> int:
        return len(self._places)

    def load(self, i: int) -> Image.Image:
        """A Pillow image, opened."""
        return self._load(int(self._places[i]))

    def name(self, i: int) -> str:
        """Where an image is."""
        return self._name(int(self._places[i]))

    @property
    def captions(self) -> list[tuple[str, ...]] | None:
        """Captions of each image, none or several; None if the source was opened without."""
        return None if self._captions is None else [self._captions[place] for place in self._places]

    def with_captions(self, captions: Sequence[tuple[str, ...]]) -> Items:
        """These, with captions for each of the source's images."""
        described = copy.copy(self)
        described._captions = captions
        return described

    def take(self, positions: range | np.ndarray) -> Items:
        """Some of them."""
        part = copy.copy(self)
        part._places = np.asarray(self._places)[np.asarray(positions, dtype=np.int64)]
        part.labels = None if self.labels is None else self.labels[np.asarray(positions, dtype=np.int64)]
        return part

    def first(self, limit: int) -> Items:
        return self.take(range(min(limit, len(self))))

    def limited(self, limit: int | None, seed: int = 0) -> Items:
        """At most so many, drawn by class with a seed (see `limits.drawn`); all without a limit."""
        return self if limit is None else self.take(drawn(self.labels, len(self), limit, seed))

    def unlabelled(self, i: int) -> Skipped | None:
        """Why an image cannot be used as a labelled one, if it has no label and others have."""
        return Skipped(self.name(i), UNLABELLED) if self.labels is not None and self.labels[i] < 0 else None

    def read_into(self, i: int, pixels: np.ndarray) -> Skipped | None:
        """Fill pixels (S, S, C) with an image; why not, if it cannot be read."""
        try:
            pixels[:] = read_pixels(self.load(i), pixels.shape[0], pixels.shape[2])
        except Exception as error:  # decoders raise almost anything on damaged files
            return Skipped(self.name(i), reason_of(error))
        return None

    def listing_sha256(self) -> str:
        """Digest of the names and labels, and of sizes and times of the files, so that a source that was changed is noticed."""
        digest = hashlib.sha256()
        for i, place in enumerate(self._places):
            label = None if self.labels is None else int(self.labels[i])
            digest.update(json.dumps([self.name(i), label, *self._stamp(int(place))]).encode())
        if self._source_stamp():
            digest.update(json.dumps(self._source_stamp()).encode())
        return digest.hexdigest()


class Files(Items):
    """Image files."""

    def __init__(self, paths: Sequence[Path], labels=None, class_names=None):
        super().__init__(len(paths), labels, class_names)
        self.paths = list(paths)

    def _load(self, place: int) -> Image.Image:
        path = self.paths[place]
        try:
            mode = os.stat(path).st_mode
        except FileNotFoundError:
            if path.is_symlink():
                raise FileNotFoundError("a link to a file that does not exist") from None
            raise
        if not stat.S_ISREG(mode):
            raise OSError("a folder" if stat.S_ISDIR(mode) else "no regular file")
        return Image.open(path)

    def _name(self, place: int) -> str:
        return str(self.paths[place])

    def _stamp(self, place: int) -> list:
        return stamp_of(self.paths[place])


class Arrays(Items):
    """uint8 pixels (n, H, W) or (n, H, W, 3) in memory, called NAME[0], NAME[1], ..."""

    def __init__(self, images: np.ndarray, title: str, labels=None, class_names=None):
        super().__init__(len(images), labels, class_names)
        self.images, self.title = images, title

    def _load(self, place: int) -> Image.Image:
        return Image.fromarray(self.images[place])

    def _name(self, place: int) -> str:
        return f"{self.title}[{place}]"


def stamp_of(path: Path) -> list:
    """Size and time of the last change of a file; nothing if it cannot be asked."""
    try:
        status = os.stat(path)
    except OSError:
        return [None]
    return [status.st_size, status.st_mtime_ns]


def reason_of(error: Exception) -> str:
    """One line that says why an image could not be read, the same in every run."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(error).__name__}: {error}")
    return one_line(text.replace("\n", " "))[:300]


def as_it_is(batch):
    """What a loader's worker read, unchanged; by default a loader would make tensors of arrays."""
    return batch
