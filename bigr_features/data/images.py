"""The readable images of a split, in memory or read when asked for.   n images, S side in pixels, C channels"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..functional.checks import some
from ..functional.printing import one_line
from .captioned import described
from .folders import image_suffixes
from .items import Items, Skipped, as_it_is
from .modes import CHANNEL_MODES
from .sources import open_items

log = logging.getLogger(__name__)


@dataclass
class ImageSet:
    """The readable images of one split; worker processes may take it, however they are started.

    source, split : what was opened; split is None where the source has no splits.
    size, in_chans : S and C.
    labels : int64 array (n,), or None.
    class_names : names by label, or None.
    captions : captions of each image, or None if they were not asked for.
    skipped : images that could not be read, or lack a label that others have. Complete if the pixels are in memory; otherwise it grows
        as images are read.
    """

    source: str
    split: str | None
    size: int
    in_chans: int
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    skipped: list[Skipped] = field(default_factory=list)
    captions: list[tuple[str, ...]] | None = None
    _pixels: np.ndarray | None = field(default=None, repr=False)
    _items: Items | None = field(default=None, repr=False)
    _listed: Items | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self._encoded() if self._pixels is None else self._pixels)

    def _encoded(self) -> Items:
        assert self._items is not None  # pixels or items are there
        return self._items

    @property
    def in_memory(self) -> bool:
        """Whether every image is decoded already."""
        return self._pixels is not None

    def listing_sha256(self) -> str:
        """Digest of names, labels, and sizes and times of the files, also of unreadable ones; it changes when the source is changed."""
        assert self._listed is not None
        return self._listed.listing_sha256()

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of images, without those that cannot be read, which are listed in `skipped`.

        Returns
        -------
        pixels : uint8 array (r, S, S, C)
        readable : bool array (m,), of which r are True
        """
        readable = np.ones(len(indices), dtype=bool)
        if self._pixels is not None:
            return self._pixels[indices], readable
        pixels = np.empty((len(indices), self.size, self.size, self.in_chans), dtype=np.uint8)
        filled = 0
        for position, index in enumerate(indices):
            problem = self._encoded().read_into(int(index), pixels[filled])
            if problem is None:
                filled += 1
            else:
                readable[position] = False
                self._note(problem)
        return pixels[:filled], readable

    def _note(self, problem: Skipped) -> None:
        if problem not in self.skipped:
            self.skipped.append(problem)
            log.warning("skipped %s: %s", one_line(problem.name), problem.reason)

    def read_many(self, chunks: Iterable[np.ndarray], num_workers: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What `read` gives for each array of indices; worker processes read ahead unless the pixels are in memory."""
        if self._pixels is not None or num_workers == 0:
            yield from map(self.read, chunks)
            return
        from torch.utils.data import DataLoader

        for pixels, readable, problems in DataLoader(
            _Reader(self), batch_size=None, sampler=chunks, num_workers=num_workers, collate_fn=as_it_is
        ):
            for problem in problems:
                self._note(problem)
            yield pixels, readable


class _Reader:
    """Map from an array of indices to their pixels, for worker processes."""

    def __init__(self, images: ImageSet):
        self.images = images

    def __getitem__(self, indices):
        self.images.skipped = []
        pixels, readable = self.images.read(indices)
        return pixels, readable, self.images.skipped


def open_images(
    source: str | Path,
    split: str = "train",
    *,
    size: int,
    in_chans: int = 3,
    limit: int | None = None,
    seed: int = 0,
    labelled: bool = True,
    memory_limit: int = 2 << 30,
    captioned: bool = False,
    caption_column: str | None = None,
) -> ImageSet:
    """Images of a split, as squares of `size` pixels, from wherever they are.

    Parameters
    ----------
    source : str or Path
        "sample:fashion_mnist" or "sample:digits"; a folder or file of parquet or arrow; a folder that `Dataset.save_to_disk` wrote;
        a folder of images (a subfolder for each class, or flat, which means no labels; with a folder for each split above, or none);
        a .csv, .tsv, .jsonl
        or .json file that lists images; otherwise the id of a data set on the Hugging Face Hub. Hidden and system files are left
        out. Transparent pictures are laid on
        white, and gray ones of 9 to 16 bits keep their highest 8.
    split : str
        "train", "test", "validation" or another name; folders such as Training, test_set and val are found by these too. A folder
        without splits counts as "train".
    size, in_chans : int
        Side in pixels, and 3 (RGB; gray is repeated) or 1 (gray).
    limit : int, optional
        Number of images to take, drawn by class; by default all.
    seed : int
        Seed of that draw.
    labelled : bool
        With False, class folders and columns of labels count for nothing, and images beside class folders are taken too.
    memory_limit : int
        If the decoded images take at most so many bytes, they are decoded now, once; otherwise each time they are read.
    captioned : bool
        Read captions too: a column of a table or listing, or a .txt file beside each image of a folder, with a caption a line. Images
        without one are skipped.
    caption_column : str, optional
        The column with the captions; by default one that is called caption, captions, text, prompt or description.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    ValueError
        For a split that does not exist, folders that may be splits or classes, labels that are no classes, several columns of images, or
        when no image can be read.
    """
    if in_chans not in CHANNEL_MODES:
        raise ValueError(f"in_chans={in_chans}, but images have 3 channels (RGB) or 1 (gray).")
    items = open_items(str(source), split, labelled, captioned=captioned, caption_column=caption_column).limited(limit, seed)
    if len(items) == 0:
        raise FileNotFoundError(f"{source} (split {split!r}) holds no image; give a folder with {some(image_suffixes())} files.")
    listed = items
    unlabelled = [problem for problem in map(items.unlabelled, range(len(items))) if problem is not None]
    if unlabelled:
        log.warning("%d of %d images of %s are skipped: %s", len(unlabelled), len(items), one_line(source), unlabelled[0].reason)
        assert items.labels is not None
        items = items.take(np.flatnonzero(items.labels >= 0))
    if captioned:
        items, silent = described(items, str(source))
        unlabelled += silent
    images = ImageSet(
        str(source),
        items.split,
        size,
        in_chans,
        items.labels,
        items.class_names,
        list(unlabelled),
        items.captions,
        _items=items,
        _listed=listed,
    )
    if len(items) * size * size * in_chans <= memory_limit:
        pixels, readable = images.read(np.arange(len(items)))
        if not readable.any():
            first = images.skipped[len(unlabelled)]
            raise ValueError(
                f"none of the {len(items)} images of {source} can be read; the first is {one_line(first.name)}: {first.reason}."
            )
        images._pixels, images._items = pixels, None
        images.labels = items.labels[readable] if items.labels is not None else None
        images.captions = None if images.captions is None else [images.captions[i] for i in np.flatnonzero(readable)]
    unread = len(images.skipped) - len(unlabelled)
    if unread:
        log.warning("%d of %d images of %s cannot be read and are skipped", unread, len(items), one_line(source))
    return images
