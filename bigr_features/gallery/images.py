"""Images of a folder, file or data set into a gallery, with ids of their pixels and small pictures.   b images of a batch"""

from __future__ import annotations

import io
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.folders import image_suffixes
from ..data.item_reader import Batch, ItemReader, read_batches
from ..data.items import Items
from ..functional.checks import some
from ..functional.printing import one_line
from ..functional.progress import progress as progress_of
from .changes import Changes
from .embedding import Embedder

log = logging.getLogger(__name__)

LOSSLESS = 64  # pictures up to so many pixels a side are kept as they are


def thumbnail_of(image: Image.Image, size: int) -> bytes:
    """A picture of at most `size` pixels a side as PNG, if it is tiny, or JPEG."""
    small = image.convert("RGB")
    small.thumbnail((size, size))
    buffer = io.BytesIO()
    small.save(buffer, "PNG") if max(small.size) <= LOSSLESS else small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


@dataclass
class AddReport:
    """What became of the images of a source.

    ids : of the images that were added.
    duplicates : id of each copy, and the id of the first one.
    skipped : name and reason of each image that cannot be read.
    known : how many were in the gallery already, from the same place.
    """

    ids: list[str] = field(default_factory=list)
    duplicates: dict[str, str] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    known: int = 0


def add_images(
    gallery: Changes,
    embedder: Embedder,
    source: str | Path,
    split: str = "train",
    *,
    limit: int | None = None,
    labelled: bool = True,
    positions: Sequence[int] | None = None,
    batch_size: int = 64,
    commit_every: int = 20_000,
    commit_seconds: float = 60,
    thumbnail_size: int = 128,
    num_workers: int = 0,
    progress: bool = True,
) -> AddReport:
    """Add the images of a source that are not in the gallery yet.

    An image that is there already, from the same place and with the same pixels, is left out; so a killed command goes on when it is
    given again. Copies of an image from other places are kept, under numbered ids.

    Parameters
    ----------
    gallery : Gallery
    embedder : Embedder
        Made like that of the gallery; another is refused.
    source, split : str
        As in `open_images`; or one image file.
    limit : int, optional
        Number of images to take, drawn by class; by default all.
    labelled : bool
        With False, class folders and columns of labels count for nothing.
    positions : sequence of int, optional
        Take these images only, by their number in the source.
    batch_size : int
        Images a forward pass.
    commit_every, commit_seconds : int, float
        Images, or seconds, after which the gallery is written.
    thumbnail_size : int
        Pixels a side of the pictures kept for result sheets; 0 for none.
    num_workers : int
        Processes that read images ahead.
    progress : bool
        Show a progress bar.

    Raises
    ------
    FileNotFoundError, ValueError
        For a source without images, or when none can be read.
    """
    gallery.check_embedding(embedder.description)
    reader = reader_of(source, split, limit, embedder, thumbnail_size, labelled)
    report, waiting = AddReport(), _Waiting(gallery, reader.items, embedder.description)
    there = {(item.partition("-")[0], place): stamp for _, item, place, stamp in gallery.sources()}
    unchanged = {place: stamp for (_, place), stamp in there.items() if stamp is not None}
    wanted, stamps = [], {}
    for i in range(len(reader.items)) if positions is None else positions:
        stamps[i] = stamp_of(reader.items.name(i))
        if stamps[i] is None or unchanged.get(reader.items.name(i)) != stamps[i]:
            wanted.append(i)
        else:
            report.known += 1
    chunks = [np.array(wanted[i : i + batch_size]) for i in range(0, len(wanted), batch_size)]
    written = time.monotonic()
    with progress_of(total=len(wanted), unit="image", desc="index", shown=progress) as bar:
        for chunk, batch in zip(chunks, read_batches(reader, chunks, num_workers), strict=True):
            for skipped in batch.skipped:
                log.warning("skipped %s: %s", one_line(skipped["name"]), skipped["reason"])
            report.skipped += [(skipped["name"], skipped["reason"]) for skipped in batch.skipped]
            fresh = [i for i, place in enumerate(zip(batch.ids, batch.sources, strict=True)) if place not in there]
            report.known += len(batch.ids) - len(fresh)
            if fresh:
                waiting.add(batch, fresh, embedder.embed(batch.images[fresh]), stamps)
            if len(waiting) >= commit_every or time.monotonic() - written > commit_seconds:
                waiting.commit(report)
                written = time.monotonic()
            bar.update(len(chunk))
    if wanted and len(report.skipped) == len(reader.items):
        name, reason = report.skipped[0]
        raise ValueError(f"none of the {len(wanted)} images of {source} can be read; the first is {one_line(name)}: {reason}.")
    waiting.commit(report)
    return report


def reader_of(
    source: str | Path, split: str, limit: int | None, embedder: Embedder, thumbnail_size: int, labelled: bool = True
) -> ItemReader:
    """A reader of the images of a source, which is then named by its whole path; FileNotFoundError if it holds none."""
    source = str(Path(source).resolve()) if Path(source).exists() else str(source)
    thumbnail = partial(thumbnail_of, size=thumbnail_size) if thumbnail_size else None
    reader = ItemReader(source, split, limit, embedder.transform, embedder.mode, thumbnail, unlabelled=True, labelled=labelled)
    if len(reader.items) == 0:
        raise FileNotFoundError(f"{source} (split {split!r}) holds no image; give a folder with {some(image_suffixes())} files.")
    return reader


def stamp_of(name: str) -> str | None:
    """Size and time of the last change of a file, by which it is known again without being read; None if it is no file."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return None
    return f"{status.st_size} {status.st_mtime_ns}"


class _Waiting:
    """Images that were embedded and are still to be written."""

    def __init__(self, gallery: Changes, items: Items, description: dict):
        self.gallery, self.items, self.description = gallery, items, description
        self.vectors: list[dict[str, np.ndarray]] = []
        self.columns: dict[str, list] = {}

    def __len__(self) -> int:
        return len(self.columns.get("ids", ()))

    def add(self, batch: Batch, picked: list[int], vectors: dict[str, np.ndarray], stamps: dict[int, str | None]) -> None:
        labels = self.items.labels
        self.vectors.append(vectors)
        for name, values in self._columns(batch, labels, stamps):
            self.columns.setdefault(name, []).extend(values[i] for i in picked)

    def _columns(self, batch: Batch, labels: np.ndarray | None, stamps: dict[int, str | None]) -> Iterator[tuple[str, list]]:
        yield "ids", batch.ids
        yield "labels", [-1 if labels is None else int(labels[i]) for i in batch.positions]
        yield "sources", batch.sources
        yield "stamps", [stamps[i] for i in batch.positions]
        yield "thumbnails", batch.thumbnails or [b""] * len(batch.ids)

    def commit(self, report: AddReport) -> None:
        """Write them to the gallery, and forget them."""
        if not len(self):
            return
        self.columns["labels"] = np.array(self.columns["labels"])
        rows = {name: np.concatenate([vectors[name] for vectors in self.vectors]) for name in self.vectors[0]}
        names = self.items.class_names
        added = self.gallery.add(**rows, **self.columns, copies="number", class_names=names, embedding=self.description)
        report.ids += added.ids
        report.duplicates |= added.duplicates
        self.vectors, self.columns = [], {}
