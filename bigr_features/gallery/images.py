"""Images of a folder, file or data set into a gallery, with ids of their pixels and small pictures.   b images of a batch"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..data.folder_changes import stamp_of
from ..data.folders import image_suffixes
from ..data.item_reader import ItemReader
from ..data.items import Items
from ..data.pixels import thumbnail_of
from ..data.read_ahead import read_batches
from ..features.embedder import Embedder
from ..functional.checks import some
from ..functional.printing import one_line
from ..functional.progress import progress as progress_of
from .changes import Changes

log = logging.getLogger(__name__)


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
    report, items, rows, vectors = AddReport(), reader.items, list[tuple](), list[dict]()
    commit = partial(_commit, gallery, items, embedder.description, rows, vectors, report)
    there = {(item.partition("-")[0], place): stamp for _, item, place, stamp in gallery.sources()}
    unchanged = {place: stamp for (_, place), stamp in there.items() if stamp is not None}
    wanted, stamps = [], {}
    for i in range(len(items)) if positions is None else positions:
        stamps[i] = stamp_of(items.name(i))
        if stamps[i] is None or unchanged.get(items.name(i)) != stamps[i]:
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
                vectors.append(embedder.embed(batch.images[fresh]))
                for i in fresh:
                    position = int(batch.positions[i])
                    label = -1 if items.labels is None else int(items.labels[position])
                    thumbnail = batch.thumbnails[i] if batch.thumbnails else None
                    rows.append((batch.ids[i], label, batch.sources[i], stamps[position], thumbnail))
            if len(rows) >= commit_every or time.monotonic() - written > commit_seconds:
                commit()
                written = time.monotonic()
            bar.update(len(chunk))
    if wanted and len(report.skipped) == len(items):
        name, reason = report.skipped[0]
        raise ValueError(f"none of the {len(wanted)} images of {source} can be read; the first is {one_line(name)}: {reason}.")
    commit()
    return report


def reader_of(
    source: str | Path, split: str, limit: int | None, embedder: Embedder, thumbnail_size: int, labelled: bool = True
) -> ItemReader:
    """A reader of the images of a source, which is then named by its whole path; FileNotFoundError if it holds none."""
    source = str(Path(source).resolve()) if Path(source).exists() else str(source)
    thumbnail = partial(thumbnail_of, size=thumbnail_size) if thumbnail_size else None
    picture, batch = embedder.transform.pixels, embedder.transform.stack
    reader = ItemReader(source, split, limit, picture, embedder.mode, thumbnail, unlabelled=True, labelled=labelled, stack=batch)
    if len(reader.items) == 0:
        raise FileNotFoundError(f"{source} (split {split!r}) holds no image; give a folder with {some(image_suffixes())} files.")
    return reader


def first_images(source: str | Path, split: str, embedder: Embedder, limit: int | None, labelled: bool, count: int) -> torch.Tensor:
    """The first `count` images of a source that can be read, transformed (b, C, H, W); those that cannot are left to `add_images`."""
    reader = reader_of(source, split, limit, embedder, 0, labelled)
    return reader[np.arange(min(count, len(reader.items)))].images


def _commit(gallery: Changes, items: Items, description: dict, rows: list[tuple], vectors: list[dict], report: AddReport) -> None:
    """Write what was embedded to the gallery, and forget it."""
    if rows:
        ids, labels, sources, stamps, thumbnails = map(list, zip(*rows, strict=True))
        features, bits = (np.concatenate([part[name] for part in vectors]) if name in vectors[0] else None for name in ("features", "bits"))
        columns: dict = {"ids": ids, "labels": np.array(labels), "sources": sources, "stamps": stamps, "thumbnails": thumbnails}
        added = gallery.add(features, bits=bits, **columns, copies="number", class_names=items.class_names, embedding=description)
        report.ids += added.ids
        report.duplicates |= added.duplicates
        rows.clear()
        vectors.clear()
