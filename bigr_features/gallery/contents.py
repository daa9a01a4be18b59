"""What is in a gallery: items by id, with labels, sources, vectors and pictures.   n items, D features, K bits"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from ..nearest.binarize import Binarizer
from ..nearest.settings import GallerySettings
from ..storage.append_file import AppendFile
from ..storage.database import CHECK_LIMIT
from ..storage.item_table import ItemTable
from .arguments import as_list
from .state import State, open_database, states_of

log = logging.getLogger(__name__)

BATCH = 8192


class Contents:
    """A gallery on disk, opened for reading: a snapshot, which stays as it is until `refresh`; see `Gallery`."""

    def __init__(self, folder: str | Path, *, verify: bool | None = None, wait: float = 10.0):
        self.folder = Path(folder)
        self._database = open_database(self.folder, wait)
        self._load()
        size = sum(file.row_bytes * self._state.rows for file in self._files.values())
        if verify or (verify is None and size <= CHECK_LIMIT):
            self.verify(database=bool(verify))

    def _load(self) -> None:
        """Take a new snapshot, with its files open: one that is compacted away from now on can still be read."""
        for attempt in range(100):
            self._database.snapshot()
            states = states_of(self._database)
            missing = None
            try:
                self._open(states)
                if self._state.index is None or self._index_file is not None:
                    return
            except FileNotFoundError as error:
                missing = error
            self._database.snapshot()  # files are missing: a writer has put others in their place just now, or they are lost
            if attempt == 99 or states_of(self._database)[0].generation == states[0].generation:
                if missing is not None:
                    raise missing
                return

    def _open(self, states: list[State]) -> None:
        """Be at the newest whole one of some states."""
        self._state = self._whole(states)
        self._files = {kind: AppendFile(self.folder / f["file"], f["dtype"], f["width"]) for kind, f in self._state.files.items()}
        self._vectors = {kind: file.read(self._state.rows) for kind, file in self._files.items()}
        generation, entry = self._state.generation, self._state.index
        is_newest = generation == states[0].generation
        self._items = ItemTable(self._database, None if is_newest else generation)
        self._dead = self._items.dead(generation)
        index = None if entry is None else self.folder / entry["file"]
        self._index_file = index.open("rb") if index is not None and index.is_file() else None
        for name in ("_rows", "_labels", "_binarizer", "ids"):
            self.__dict__.pop(name, None)

    def _whole(self, states: list[State]) -> State:
        """The newest state of which all vectors are there: an older one in a folder that was copied during a change."""
        short: list[Path] = []
        for state in states:
            files = [(AppendFile(self.folder / entry["file"], entry["dtype"], entry["width"])) for entry in state.files.values()]
            lacking = [file.path for file in files if file.rows_there() < state.rows]
            if not lacking and (state is states[0] or state.live):
                if short:
                    kept = f"{state.live} items, as of change {state.generation} of {states[0].generation}"
                    log.warning("%s is incomplete, as in a copy made during a change; the gallery is read with %s", short[0], kept)
                return state
            short += lacking
        raise ValueError(f"{short[0]} is truncated: the database knows more rows than it has. Copy the whole folder again, or index again.")

    def refresh(self) -> bool:
        """Read what other processes have written since; whether there was anything."""
        before = self._state.generation
        self._load()
        return self._state.generation != before

    def verify(self, *, database: bool = True) -> None:
        """Compare the checksum of every append, and check the structure of the database; ValueError naming the damaged file."""
        if database:
            self._database.quick_check()
        for kind, file in self._files.items():
            name = self._state.files[kind]["file"]
            appends = self._database.rows("SELECT start, rows, sha256 FROM appends WHERE file = ? ORDER BY start", (name,))
            lacking = file.check(self._vectors[kind], appends)
            if lacking is not None:
                raise self._database.damaged(f"it has no checksum of row {lacking} of {name}")

    def close(self) -> None:
        """Close the files; the gallery cannot be used afterwards."""
        self._vectors = {}
        if self._index_file is not None:
            self._index_file.close()
        self._database.close()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def settings(self) -> GallerySettings:
        """How it is searched."""
        return self._state.settings

    @property
    def embedding(self) -> dict | None:
        """What made the features: model, weights, layer, transform, ..."""
        return self._state.embedding

    @property
    def class_names(self) -> list[str] | None:
        """Names by label."""
        return self._state.class_names

    @property
    def dim(self) -> int | None:
        """Width of the features, once there are any."""
        return self._state.dim

    @property
    def num_bits(self) -> int | None:
        """Bits of an item, once there are any."""
        return self._state.num_bits

    @property
    def index_factory(self) -> str | None:
        """The faiss factory string of the index, once there is one."""
        return self._state.factory

    @property
    def generation(self) -> int:
        """Number of the change that the gallery is read at; each one adds 1."""
        return self._state.generation

    def __len__(self) -> int:
        return self._state.live

    def __contains__(self, item: str) -> bool:
        return isinstance(item, str) and self._items.find(item) is not None

    def __repr__(self) -> str:
        index = self.index_factory or self.settings.index
        return f"Gallery({str(self.folder)!r}, {len(self)} items, {self.settings.metric}, index {index})"

    @cached_property
    def _rows(self) -> np.ndarray:
        """Numbers of the rows that are no tombstones."""
        alive = np.ones(self._state.rows, dtype=bool)
        alive[self._dead] = False
        return np.flatnonzero(alive)

    @cached_property
    def ids(self) -> np.ndarray:
        """Strings (n,), in the order in which they were added."""
        return self._items.ids()

    @property
    def labels(self) -> np.ndarray:
        """int64 (n,), -1 for an item without."""
        return self._labels[self._rows]

    @cached_property
    def _labels(self) -> np.ndarray:
        """Labels of all rows."""
        return self._items.labels(self._state.rows)

    @property
    def features(self) -> np.ndarray | None:
        """Vectors (n, D) as they were added, read into memory; None if the gallery holds bits alone."""
        return self._vectors["features"][self._rows] if "features" in self._vectors else None

    @property
    def bits(self) -> np.ndarray | None:
        """Packed bits (n, ceil(K / 8)), read into memory; None if the gallery has none."""
        return self._vectors["bits"][self._rows] if "bits" in self._vectors else None

    def vectors(self) -> dict[str, np.ndarray]:
        """All rows of "features" and "bits", tombstones too, memory-mapped."""
        return dict(self._vectors)

    @cached_property
    def _binarizer(self) -> Binarizer | None:
        if not self._state.binarized:
            return None
        parts = {}
        for name, shape, content in self._database.rows("SELECT name, shape, content FROM arrays"):
            parts[name] = np.frombuffer(content, "<f4").reshape(json.loads(shape))
        if parts["mean"].shape != (self.dim,) or ("rotation" in parts and parts["rotation"].shape != (self.dim, self.num_bits)):
            raise self._database.damaged("its binarizer has other shapes than the vectors")
        return Binarizer(**parts)

    def item(self, item: str) -> dict:
        """id, label, class_name, source and metadata of an item."""
        return next(self._items.described([self._items.row_of(item)], self.class_names or []))

    def items(self) -> Iterator[dict]:
        """What `item` gives, for every item."""
        for start in range(0, len(self._rows), BATCH):
            yield from self._items.described(self._rows[start : start + BATCH], self.class_names or [])

    def batches(self, size: int = BATCH) -> Iterator[dict]:
        """Items some at a time, for programs that read all of a large gallery: `size` dictionaries in "items", "features" and "bits"."""
        if size < 1:
            raise ValueError(f"size={size}; expected 1 or more items a batch.")
        for start in range(0, len(self._rows), size):
            rows = self._rows[start : start + size]
            vectors = {kind: self._vectors[kind][rows] if kind in self._vectors else None for kind in ("features", "bits")}
            yield {"items": list(self._items.described(rows, self.class_names or [])), **vectors}

    def thumbnail(self, item: str) -> bytes | None:
        """The encoded small picture of an item, if there is one."""
        return self._items.thumbnail(self._items.row_of(item))

    def sources(self) -> Iterator[tuple[int, str, str, str | None]]:
        """Row, id, source and stamp of every item with a source."""
        return self._items.sources()

    def resolve(self, ids: Iterable[str]) -> list[str]:
        """Whole ids, of ids or of beginnings that belong to one item only; ValueError for an unknown one."""
        rows = [self._items.row_of(item) for item in as_list(ids)]
        found = self._items.columns(rows, "id")
        return [found[row][0] for row in rows]
