"""A gallery that follows its sources: synchronised with a folder, or embedded anew by another model."""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.item_reader import ID_LENGTH, pixel_id
from ..data.items import reason_of
from ..data.sources import open_items
from ..functional.progress import progress as progress_of
from .changes import Changes
from .embedding import Embedder, opened
from .images import AddReport, add_images, stamp_of
from .settings import GallerySettings

log = logging.getLogger(__name__)

SIDE = "reindexing"  # folder in a gallery in which its items are embedded anew
_IN_A_TABLE = re.compile(r"(?P<source>.*)\[(?P<split>[^\[\]]+)\]\[(?P<number>\d+)\]", re.DOTALL)
_IN_A_SAMPLE = re.compile(r"(?P<source>\w+)\[(?P<number>\d+)\]")
_PIXEL_ID = re.compile(f"[0-9a-f]{{{ID_LENGTH}}}(-\\d+)?")


@dataclass
class Plan:
    """How a folder differs from what a gallery holds of it.

    positions : by path, the number of each image in the folder that is to be read: those `added` and those `changed`.
    added, changed : paths.
    gone : by path, the ids of images whose files are not there any more.
    stale : by path, the ids of images that were changed.
    unreadable : by path, why.
    touched : by row, the stamp of files that are the same though their time is not.
    same : how many are as they were.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    gone: dict[str, list[str]] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    touched: dict[int, str] = field(default_factory=dict)
    same: int = 0


def plan_sync(gallery: Changes, folder: str | Path, split: str = "train") -> Plan:
    """Compare a folder of images with a gallery; writes nothing.

    Files are known again by size and time of change; where these differ, or were not kept, the pixels are compared.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the folder that the gallery was made of.")
    items, plan, held = open_items(str(folder), split), Plan(), {}
    for row, item, source, stamp in gallery.sources():
        if source.startswith(f"{folder}{os.sep}"):
            held.setdefault(source, []).append((row, item, stamp))
    for position in range(len(items)):
        name = items.name(position)
        there, stamp = held.pop(name, []), stamp_of(name)
        if any(old == stamp is not None for _, _, old in there) and len(there) == 1:
            plan.same += 1
            continue
        try:
            with items.load(position) as encoded:
                now = pixel_id(opened(encoded))
        except Exception as error:  # decoders raise almost anything on damaged files
            plan.unreadable[name] = reason_of(error)
            continue
        stale = [item for _, item, _ in there if item.partition("-")[0] != now]
        if stale:
            plan.stale[name] = stale
        if len(stale) < len(there):
            plan.same += not stale
            plan.touched |= {row: stamp for row, item, _ in there if item not in stale and stamp is not None}
        else:
            plan.positions[name] = position
            (plan.changed if there else plan.added).append(name)
    plan.gone = {source: [item for _, item, _ in there] for source, there in held.items() if not os.path.exists(source)}
    return plan


def sync(gallery: Changes, embedder: Embedder | None, folder: str | Path, plan: Plan, split: str = "train", **options) -> AddReport:
    """Do what `plan_sync` found: first what is new, then what is to go; interrupted, it goes on with the next call.

    Parameters
    ----------
    gallery : Gallery
    embedder : Embedder or None
        Needed if images were added or changed.
    folder, split, plan : as in `plan_sync`
    **options
        Of `add_images`.
    """
    report = AddReport()
    if plan.positions:
        report = add_images(gallery, embedder, folder, split, positions=list(plan.positions.values()), **options)
    gallery.remember(plan.touched)
    ids = [item for items in (*plan.gone.values(), *plan.stale.values()) for item in items]
    gallery.remove([item for item in ids if item in gallery])
    return report


def reembed(
    gallery: Changes,
    embedder: Embedder,
    settings: GallerySettings | None = None,
    *,
    drop_missing: bool = False,
    batch_size: int = 64,
    commit_seconds: float = 60,
    progress: bool = True,
) -> list[str]:
    """Embed all images of a gallery anew from their sources, by another model; ids, labels, metadata and thumbnails stay.

    The gallery serves as it is until the new vectors are whole, then takes them all at once. An interrupted call goes on when it is
    repeated. Returns the ids that were left out.

    Parameters
    ----------
    gallery : Gallery
    embedder : Embedder
    settings : GallerySettings, optional
        How the gallery is searched from then on; by default as it was.
    drop_missing : bool
        Leave out images whose source cannot be read or was changed; otherwise they are an error.
    batch_size : int
        Images a forward pass.
    commit_seconds : float
        After so many seconds the new vectors are written.
    progress : bool
        Show a progress bar.

    Raises
    ------
    ValueError
        If sources cannot be read.
    """
    settings = gallery.settings if settings is None else settings
    side = _side_gallery(gallery, embedder, settings)
    lost: dict[str, str] = {}
    while True:
        gallery.refresh()
        done = set(side.ids.tolist())
        left = [(item["id"], item["source"]) for item in gallery.items() if item["id"] not in done and item["id"] not in lost]
        if left:
            lost |= _embed(side, embedder, left, batch_size, commit_seconds, progress)
        if lost and not drop_missing:
            item, reason = next(iter(lost.items()))
            raise ValueError(
                f"{len(lost)} of {len(gallery)} images cannot be read from their sources, the first is {item}: {reason}. "
                "Run `bigr sync` first, or leave them out with --drop-missing."
            )
        ids = side.ids.tolist()
        vectors = dict.fromkeys(("features", "bits")) | side.vectors()
        try:
            gallery.replace_vectors(ids, vectors["features"], vectors["bits"], embedder.description, settings, drop=lost)
            break
        except KeyError:  # images were added meanwhile
            continue
    side.close()
    shutil.rmtree(gallery.folder / SIDE)
    return list(lost)


def _side_gallery(gallery: Changes, embedder: Embedder, settings: GallerySettings) -> Changes:
    """Where new vectors are gathered: what an interrupted call with the same model left, or a new one."""
    folder = gallery.folder / SIDE
    plain = GallerySettings("hamming") if not settings.has_features else GallerySettings("two_stage" if settings.takes_bits else "cosine")
    plain = plain.replaced(index="flat")
    try:
        side = type(gallery)(folder)
        side.check_embedding(embedder.description)
        if side.settings == plain and side.embedding is not None:
            return side
    except (FileNotFoundError, ValueError):
        pass
    shutil.rmtree(folder, ignore_errors=True)
    return type(gallery).create(folder, plain, embedding=embedder.description)


def _embed(side: Changes, embedder: Embedder, left: list[tuple], batch_size: int, commit_seconds: float, progress: bool) -> dict[str, str]:
    """Add images by id from their sources; returns the ids of those that cannot be read, and why."""
    lost, ids, found, tables = {}, [], [], {}

    def commit() -> None:
        if ids:
            side.add(**{name: np.concatenate([part[name] for part in found]) for name in found[0]}, ids=ids)
            ids.clear(), found.clear()

    written = time.monotonic()
    with progress_of(total=len(left), unit="image", desc="reindex", shown=progress) as bar:
        for start in range(0, len(left), batch_size):
            part = left[start : start + batch_size]
            images = dict(_readable(part, tables, lost))
            if images:
                found.append(embedder.embed_images(list(images.values())))
                ids.extend(images)
            if time.monotonic() - written > commit_seconds:
                commit()
                written = time.monotonic()
            bar.update(len(part))
    commit()
    return lost


def _readable(items: Iterable[tuple[str, str | None]], tables: dict, lost: dict[str, str]) -> Iterator[tuple[str, Image.Image]]:
    for item, source in items:
        try:
            image = opened(image_of(source, tables, item))
        except Exception as error:  # decoders raise almost anything on damaged files
            lost[item] = f"{source}: {reason_of(error)}"
            continue
        if _PIXEL_ID.fullmatch(item) and pixel_id(image) != item.partition("-")[0]:
            lost[item] = f"{source} was changed since it was indexed"
            continue
        yield item, image


def image_of(source: str | None, tables: dict | None = None, item: str = "") -> Image.Image:
    """The image that a source of a gallery names: a file, a row of a table, or an image of a sample.

    `tables` keeps what was opened, for the next call. A sample's name says nothing of its split, so that the id of the pixels decides.
    """
    tables = {} if tables is None else tables
    if source is None:
        raise FileNotFoundError("the gallery knows no source of this image")
    if os.path.exists(source):
        return Image.open(source)
    in_table, in_sample = _IN_A_TABLE.fullmatch(source), _IN_A_SAMPLE.fullmatch(source)
    if in_table:
        places = [(in_table["source"], in_table["split"], int(in_table["number"]))]
    elif in_sample:
        places = [(f"sample:{in_sample['source']}", split, int(in_sample["number"])) for split in ("train", "test")]
    else:
        raise FileNotFoundError("there is no such file any more")
    for table, split, number in places:
        if (table, split) not in tables:
            tables[table, split] = open_items(table, split)
        if number < len(tables[table, split]):
            image = tables[table, split].load(number)
            if (table, split, number) == places[-1] or not item or pixel_id(opened(image)) == item.partition("-")[0]:
                return image
    raise FileNotFoundError("there is no such image in the table any more")
