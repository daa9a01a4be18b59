"""Images of a folder, file or data set into a gallery, with ids of their pixels and small pictures.   b images of a batch"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..data.item_reader import pixel_id
from ..data.pixels import upright
from ..data.sources import IMAGE_SUFFIXES, Items, open_items, reason_of
from ..functional.checks import some
from .changes import Changes as Gallery
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
    gallery: Gallery,
    embedder: Embedder,
    source: str | Path,
    split: str = "train",
    *,
    limit: int | None = None,
    batch_size: int = 64,
    commit_every: int = 20_000,
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
        Take the first images only.
    batch_size : int
        Images a forward pass.
    commit_every : int
        Images after which the gallery is written.
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
    from tqdm import tqdm

    gallery.check_embedding(embedder.description)
    source = str(Path(source).resolve()) if Path(source).exists() else str(source)
    reader = _Reader(source, split, limit, embedder, thumbnail_size)
    items, report, batch = reader.items, AddReport(), _Waiting()
    if len(items) == 0:
        raise FileNotFoundError(f"{source} (split {split!r}) holds no image; give a folder with {some(IMAGE_SUFFIXES)} files.")
    known = {(item["id"].partition("-")[0], item["source"]) for item in gallery.items()}
    chunks = [np.arange(i, min(i + batch_size, len(items))) for i in range(0, len(items), batch_size)]
    with tqdm(total=len(items), unit="image", desc="index", disable=None if progress else True) as bar:
        for chunk, (images, skipped) in zip(chunks, _read(reader, chunks, num_workers), strict=True):
            for name, reason in skipped:
                log.warning("skipped %s: %s", name, reason)
            report.skipped += skipped
            fresh = [image for image in images if (image.id, image.source) not in known]
            report.known += len(images) - len(fresh)
            if fresh:
                batch.add(fresh, embedder.embed(torch.stack([image.pixels for image in fresh])), items.labels)
            if len(batch) >= commit_every:
                batch.commit(gallery, items.class_names, report)
            bar.update(len(chunk))
    if len(report.skipped) == len(items):
        name, reason = report.skipped[0]
        raise ValueError(f"none of the {len(items)} images of {source} can be read; the first is {name}: {reason}.")
    batch.commit(gallery, items.class_names, report)
    return report


@dataclass
class _Image:
    """An image on its way into a gallery."""

    position: int
    id: str
    source: str
    pixels: torch.Tensor
    thumbnail: bytes | None


class _Reader:
    """Map from positions in a source to images and what was skipped; each process opens the source for itself."""

    def __init__(self, source: str, split: str, limit: int | None, embedder: Embedder, thumbnail_size: int):
        if limit is not None and limit < 1:
            raise ValueError(f"limit={limit}; expected 1 or more images.")
        self.source, self.split, self.limit, self.thumbnail_size = source, split, limit, thumbnail_size
        self.transform, self.mode = embedder.transform, embedder.mode
        self._items: Items | None = None

    @property
    def items(self) -> Items:
        if self._items is None:
            path = Path(self.source)
            if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
                items = Items(1, lambda _: Image.open(path), lambda _: str(path))
            else:
                items = open_items(self.source, self.split)
            self._items = items if self.limit is None else items.first(self.limit)
        return self._items

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_items": None}

    def __getitem__(self, positions: np.ndarray) -> tuple[list[_Image], list[tuple[str, str]]]:
        images, skipped = [], []
        for position in map(int, positions):
            name = self.items.name(position)
            try:
                with self.items.load(position) as encoded:
                    image = upright(encoded)
                pixels = self.transform(image.convert(self.mode))
                small = thumbnail_of(image, self.thumbnail_size) if self.thumbnail_size else None
            except Exception as error:  # decoders raise almost anything on damaged files
                skipped.append((name, reason_of(error)))
                continue
            images.append(_Image(position, pixel_id(image), name, pixels, small))
        return images, skipped


def _read(reader: _Reader, chunks: list[np.ndarray], num_workers: int) -> Iterator:
    if num_workers == 0:
        yield from map(reader.__getitem__, chunks)
        return
    from torch.utils.data import DataLoader

    yield from DataLoader(reader, batch_size=None, sampler=chunks, num_workers=num_workers, collate_fn=_as_it_is)


def _as_it_is(batch):
    return batch


class _Waiting:
    """Images that were embedded and are still to be written."""

    def __init__(self):
        self.images: list[_Image] = []
        self.vectors: list[dict[str, np.ndarray]] = []
        self.labels: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def add(self, images: list[_Image], vectors: dict[str, np.ndarray], labels: np.ndarray | None) -> None:
        for image in images:
            image.pixels = None
        self.images += images
        self.vectors.append(vectors)
        self.labels += [-1 if labels is None else int(labels[image.position]) for image in images]

    def commit(self, gallery: Gallery, class_names: Sequence[str] | None, report: AddReport) -> None:
        """Write them to the gallery, and forget them."""
        if not self.images:
            return
        added = gallery.add(
            **{name: np.concatenate([vectors[name] for vectors in self.vectors]) for name in self.vectors[0]},
            ids=[image.id for image in self.images],
            labels=np.array(self.labels),
            sources=[image.source for image in self.images],
            thumbnails=None if self.images[0].thumbnail is None else [image.thumbnail for image in self.images],
            copies="number",
            class_names=class_names,
        )
        report.ids += added.ids
        report.duplicates |= added.duplicates
        self.__init__()
