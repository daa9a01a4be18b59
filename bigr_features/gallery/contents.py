"""What is in a gallery: items by id, with labels, sources, vectors and pictures.   n items, D features, K bits"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from . import files
from .collection import Collection
from .settings import GallerySettings

VERIFY_LIMIT = 1 << 30  # bytes up to which the checksum of every file is compared when a gallery is opened


class Contents:
    """A gallery on disk, opened for reading; see `Gallery`."""

    def __init__(self, folder: str | Path, *, verify: bool | None = None):
        self.folder = Path(folder)
        manifest = files.read_gallery_manifest(self.folder)
        size = sum(entry["bytes"] for entry in files.entries(manifest))
        files.check_files(self.folder, manifest, contents=size <= VERIFY_LIMIT if verify is None else verify)
        self._set(Collection(self.folder, manifest))

    def _set(self, collection: Collection) -> None:
        self._collection = collection
        self.__dict__.pop("_by_id", None)

    @property
    def settings(self) -> GallerySettings:
        """How it is searched."""
        return self._collection.settings

    @property
    def embedding(self) -> dict | None:
        """What made the features: model, weights, layer, transform, ..."""
        return self._collection.manifest["embedding"]

    @property
    def class_names(self) -> list[str] | None:
        """Names by label."""
        return self._collection.manifest["class_names"]

    @property
    def dim(self) -> int | None:
        """Width of the features, once there are any."""
        return self._collection.manifest["dim"]

    @property
    def num_bits(self) -> int | None:
        """Bits of an item, once there are any."""
        return self._collection.manifest["num_bits"]

    @property
    def index_factory(self) -> str | None:
        """The faiss factory string of the index, once there is one."""
        return self._collection.manifest["factory"]

    def __len__(self) -> int:
        return len(self._collection.rows)

    def __contains__(self, item: str) -> bool:
        return self._find(item) is not None

    def __repr__(self) -> str:
        index = self.index_factory or self.settings.index
        return f"Gallery({str(self.folder)!r}, {len(self)} items, {self.settings.metric}, index {index})"

    @property
    def ids(self) -> np.ndarray:
        """Strings (n,), in the order in which they were added."""
        return np.char.decode(self._collection.ids[self._collection.rows], "utf-8")

    @property
    def labels(self) -> np.ndarray:
        """int64 (n,), -1 for an item without."""
        return self._collection.labels[self._collection.rows]

    @property
    def features(self) -> np.ndarray | None:
        """Vectors (n, D) as they were added, read into memory; None if the gallery holds bits alone."""
        rows = self._collection.features
        return None if rows is None else rows[self._collection.rows]

    @property
    def bits(self) -> np.ndarray | None:
        """Packed bits (n, ceil(K / 8)), read into memory; None if the gallery has none."""
        rows = self._collection.bits
        return None if rows is None else rows[self._collection.rows]

    def item(self, item: str) -> dict:
        """id, label, class_name, source and metadata of an item."""
        return self._described(self._row_of(item))

    def items(self) -> Iterator[dict]:
        """What `item` gives, for every item."""
        return map(self._described, self._collection.rows)

    def thumbnail(self, item: str) -> bytes | None:
        """The encoded small picture of an item, if there is one."""
        segment, row = self._collection.place(self._row_of(item))
        return segment.thumbnails[row] or None if segment.thumbnails is not None else None

    def _described(self, row: int) -> dict:
        segment, place = self._collection.place(row)
        label, names = int(self._collection.labels[row]), self.class_names or []
        return {
            "id": self._collection.ids[row].decode(),
            "label": None if label < 0 else label,
            "class_name": names[label] if 0 <= label < len(names) else None,
            "source": segment.items[place].get("source"),
            "metadata": segment.items[place].get("metadata") or {},
        }

    @cached_property
    def _by_id(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids in their order as bytes, and the row of each."""
        rows = self._collection.rows
        order = rows[np.argsort(self._collection.ids[rows], kind="stable")]
        return self._collection.ids[order], order

    def _find(self, item: str) -> int | None:
        ids, rows = self._by_id
        place = int(np.searchsorted(ids, np.array(item.encode())))
        return int(rows[place]) if place < len(ids) and ids[place] == item.encode() else None

    def _row_of(self, item: str) -> int:
        """Row of an id, or of the beginning of one; numbered copies of an image are not meant by its beginning alone."""
        row = self._find(item)
        if row is not None:
            return row
        begin, dash, number = item.rpartition("-")
        if dash and number.isdecimal():
            found = self._beginning_with(begin)
            row = self._find(f"{found[0]}-{number}") if len(found) == 1 else None
            if row is not None:
                return row
        found = self._beginning_with(item)
        if len(found) == 1:
            return self._find(found[0])
        if found:
            raise ValueError(f"several ids begin with {item!r}, such as {found[0]} and {found[1]}; give more of it.")
        raise ValueError(f"there is no item {item!r} among the {len(self)} of the gallery {self.folder}.")

    def _beginning_with(self, begin: str) -> list[str]:
        """The first one or two ids that begin so, copies of the first left out."""
        ids, _ = self._by_id
        place, found = int(np.searchsorted(ids, np.array(begin.encode()))), []
        while begin and place < len(ids) and len(found) < 2 and ids[place].startswith(begin.encode()):
            item = ids[place].decode()
            if not found or not item.startswith(f"{found[0]}-"):
                found.append(item)
            place += 1
        return found

    def resolve(self, ids: Iterable[str]) -> list[str]:
        """Whole ids, of ids or of beginnings that belong to one item only; ValueError for an unknown one."""
        return [self._collection.ids[self._row_of(item)].decode() for item in as_list(ids)]


def as_list(ids: Iterable[str]) -> list[str]:
    """Ids as a list; TypeError for a single string, which would be taken letter by letter."""
    if isinstance(ids, str):
        raise TypeError(f"ids is one string, {ids!r}; give a list of ids.")
    return [str(item) for item in ids]
