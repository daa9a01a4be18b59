"""Pieces of a gallery: each addition is one, and small ones are joined, so that n items lie in about log n pieces.

A segment holds, for its m items, `ids`, `labels` (-1: none), `items` (source and metadata, one JSON object a line), and of these what
the gallery has: `features` (m, D), `bits` (m, bytes), and thumbnails (encoded pictures, one after the other, and where each ends).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..storage.sharded_rows import ShardedRows
from .binarize import Binarizer
from .files import Writer, load_array


@dataclass
class Rows:
    """Items on their way into a gallery, in memory or on disk.

    ids : list of str, or array of bytes.
    labels : int64 array (m,), -1 for none.
    items : list of dict, "source" and "metadata".
    features, bits : arrays (m, D) and (m, bytes), or None.
    thumbnails : list of bytes, or None.
    """

    ids: np.ndarray
    labels: np.ndarray
    items: list[dict] = field(default_factory=list)
    features: np.ndarray | None = None
    bits: np.ndarray | None = None
    thumbnails: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.labels)


class Segment:
    """A piece on disk, memory-mapped; a `Rows` whose parts are read when asked for.

    Raises
    ------
    ValueError
        If an array has another shape or dtype than the manifest says.
    """

    def __init__(self, folder: Path, entry: dict, dim: int | None, num_bytes: int | None):
        self.folder, self.entry, self.count = folder, entry, entry["count"]
        files = entry["files"]
        self.ids = load_array(folder, files["ids"], (self.count,), "S")
        self.labels = load_array(folder, files["labels"], (self.count,), "i")
        self.features = load_array(folder, files["features"], (self.count, dim), "f") if "features" in files else None
        self.bits = load_array(folder, files["bits"], (self.count, num_bytes), "u") if "bits" in files else None

    def __len__(self) -> int:
        return self.count

    @cached_property
    def items(self) -> list[dict]:
        path = self.folder / self.entry["files"]["items"]["file"]
        try:
            items = [json.loads(line) for line in path.read_bytes().splitlines()]
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); copy it again, or index again.") from error
        if len(items) != self.count or not all(isinstance(item, dict) for item in items):
            raise ValueError(f"{path} holds {len(items)} items, but {self.count} are expected; copy it again, or index again.")
        return items

    @cached_property
    def thumbnails(self) -> Thumbnails | None:
        files = self.entry["files"]
        if "thumbnails" not in files:
            return None
        ends = load_array(self.folder, files["thumbnail_ends"], (self.count,), "i")
        return Thumbnails(np.memmap(self.folder / files["thumbnails"]["file"], np.uint8, "r"), ends)


class Thumbnails:
    """Encoded pictures in one file."""

    def __init__(self, content: np.ndarray, ends: np.ndarray):
        self.content, self.ends = content, ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> bytes:
        return self.content[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))


class Taken:
    """Some rows of an array, read when sliced."""

    def __init__(self, rows, where: np.ndarray):
        self._rows, self._where = rows, where
        self.dtype, self.shape = rows.dtype, (len(where), *rows.shape[1:])

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, key):
        return self._rows[self._where[key]]


class Binarized:
    """Packed bits of features, made when sliced."""

    dtype = np.dtype(np.uint8)

    def __init__(self, features, binarizer: Binarizer):
        self._features, self._binarizer = features, binarizer
        self.shape = (len(features), -(-binarizer.num_bits // 8))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> np.ndarray:
        return self._binarizer.bits(self._features[key])


def joined(pieces: list) -> ShardedRows | None:
    """Rows of several segments as one array, on disk; None if there are none."""
    pieces = [piece for piece in pieces if piece is not None and len(piece)]
    return ShardedRows(pieces) if pieces else None


def write_segment(
    writer: Writer, parts: list, keep: np.ndarray | None = None, *, bits: bool = True, binarizer: Binarizer | None = None
) -> dict:
    """Write one segment of the items of `parts` (each a Rows or a Segment), or of those numbered `keep`.

    Bits are those of the parts, or made by a binarizer, or left out. Returns the segment's entry for the manifest.
    """
    ids, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "labels"))
    keep = np.arange(len(ids)) if keep is None else keep
    starts = np.cumsum([0, *(len(part) for part in parts)])
    part_of = np.searchsorted(starts, keep, side="right") - 1
    places = list(zip(part_of.tolist(), (keep - starts[part_of]).tolist(), strict=True))
    files = {
        "ids": writer.array("ids", ids[keep]),
        "labels": writer.array("labels", labels[keep], np.int64),
        "items": writer.lines("items", (parts[part].items[row] for part, row in places)),
    }
    for name in ("features", "bits") if bits and binarizer is None else ("features",):
        rows = joined([getattr(part, name) for part in parts])
        if rows is not None:
            files[name] = writer.array(name, Taken(rows, keep))
    if bits and binarizer is not None:
        features = joined([part.features for part in parts])
        files["bits"] = writer.array("bits", Binarized(Taken(features, keep), binarizer))
    if all(part.thumbnails is not None for part in parts):
        lengths: list[int] = []

        def blobs() -> Iterator[bytes]:
            for part, row in places:
                blob = parts[part].thumbnails[row]
                lengths.append(len(blob))
                yield blob

        files["thumbnails"] = writer.blobs("thumbnails", blobs())
        files["thumbnail_ends"] = writer.array("thumbnail_ends", np.cumsum(np.array(lengths, dtype=np.int64)))
    return {"count": len(keep), "files": files}
