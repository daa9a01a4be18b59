"""A gallery that follows its sources: synchronised with a folder, or embedded anew by another model."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import numpy as np

from ..data.folder_changes import Plan, compare
from ..data.reopened import reopened
from ..features.embedder import Embedder
from ..functional.progress import progress as progress_of
from ..nearest.settings import GallerySettings
from .changes import Changes
from .images import AddReport, add_images

log = logging.getLogger(__name__)

SIDE = "reindexing"  # folder in a gallery in which its items are embedded anew


def plan_sync(gallery: Changes, folder: str | Path, split: str = "train") -> Plan:
    """How a folder differs from what a gallery holds of it; writes nothing. FileNotFoundError if there is no such folder."""
    return compare(gallery.sources(), folder, split)


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
        assert embedder is not None
        report = add_images(gallery, embedder, folder, split, positions=list(plan.positions.values()), **options)
    gallery.remember(plan.touched)
    gallery.remove([item for items in (*plan.gone.values(), *plan.stale.values()) for item in items if item in gallery])
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
        if lost and len(lost) == len(gallery):
            item, reason = next(iter(lost.items()))
            raise ValueError(
                f"none of the {len(gallery)} images can be read from its source, the first is {item}: {reason}. "
                "Searching goes on as before; bring the sources back, or index what there is into a new gallery."
            )
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
    lost: dict[str, str] = {}
    tables: dict = {}
    ids: list[str] = []
    found: list[dict[str, np.ndarray]] = []

    def commit() -> None:
        if ids:
            features, bits = (np.concatenate([part[name] for part in found]) if name in found[0] else None for name in ("features", "bits"))
            side.add(features, bits=bits, ids=ids)
            ids.clear()
            found.clear()

    written = time.monotonic()
    with progress_of(total=len(left), unit="image", desc="reindex", shown=progress) as bar:
        for start in range(0, len(left), batch_size):
            part = left[start : start + batch_size]
            images = dict(reopened(part, tables, lost))
            if images:
                found.append(embedder.embed_images(list(images.values())))
                ids.extend(images)
            if time.monotonic() - written > commit_seconds:
                commit()
                written = time.monotonic()
            bar.update(len(part))
    commit()
    return lost
