"""The inside of a change: a transaction, whole or not at all.   n items, m of them new, D features, K bits

Rows are appended to the vector files first; the database's commit then makes them count. What a killed change left is trimmed or deleted
by the next one. A removed item is a tombstone until compaction writes the vectors anew without it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..nearest.binarize import fit_binarizer
from ..nearest.index import VectorIndex, chosen_factory
from ..nearest.settings import kind_of, new_index
from ..storage.append_file import AppendFile, chunks
from .arguments import Rows
from .queries import Queries
from .state import FILE, State, save_state, states_of

log = logging.getLogger(__name__)

FIT_ROWS = 50_000  # rows that a binarizer learns from
TOMBSTONES = 1000  # so many are carried along however few items there are
TAIL = 10_000  # rows added since an approximate index was written, up to which they are searched beside it


class Writing(Queries):
    """A gallery with what its changes are made of; see `Changes`."""

    @contextlib.contextmanager
    def _changing(self) -> Iterator[State]:
        """Be the writer, at the newest state, which the change edits; then take the snapshot of what was written."""
        try:
            with self._database.writing():
                states = states_of(self._database)
                self._open(states)
                if self._state.generation < states[0].generation:
                    self._roll_back(self._state.generation)
                self._sweep()
                state = replace(self._state, files=dict(self._state.files), generation=states[0].generation + 1)
                yield state
                save_state(self._database, state)
        except BaseException:
            self.__dict__.pop("_kept", None)  # its index may hold rows that were not saved
            raise
        finally:
            self._load()
        if {entry["file"] for entry in _named(state)} < {path.name for path in self._own_files()}:
            with contextlib.suppress(BlockingIOError), self._database.writing():
                self._sweep()
            self._load()

    def _own_files(self) -> Iterator[Path]:
        return (path for path in self.folder.iterdir() if FILE.fullmatch(path.name))

    def _sweep(self) -> None:
        """Delete files that no longer count, or were left by a change that was killed."""
        named = {entry["file"] for entry in _named(states_of(self._database)[0])} | {entry["file"] for entry in _named(self._state)}
        for path in self._own_files():
            if path.name not in named:
                with contextlib.suppress(OSError):  # Windows keeps files that are mapped
                    path.unlink()

    def _roll_back(self, generation: int) -> None:
        """Forget changes whose vectors are not there."""
        log.warning("%s: changes after %d are given up, for their vectors are missing", self.folder, generation)
        self._database.rows(f"DELETE FROM appends WHERE born > {generation}")
        self._items.roll_back(generation)
        self.__dict__.pop("_kept", None)

    def _file(self, state: State, kind: str) -> AppendFile:
        entry = state.files[kind]
        return AppendFile(self.folder / entry["file"], entry["dtype"], entry["width"])

    def _write(self, state: State, kind: str, start: int, blocks: Iterable[np.ndarray]) -> None:
        file = self._file(state, kind)
        count, sha256 = file.append(start, blocks)
        values = (file.path.name, start, count, sha256, state.generation)
        self._database.rows("INSERT INTO appends VALUES (?, ?, ?, ?, ?)", values)

    def _new_file(self, state: State, kind: str, dtype: np.dtype, width: int) -> None:
        state.files[kind] = {"file": f"{kind}_{state.generation:06d}.bin", "dtype": np.dtype(dtype).newbyteorder("<").str, "width": width}
        if kind == "features":
            state.dim = width
        elif not state.settings.binarize:
            state.num_bits = 8 * width

    def _append(self, state: State, rows: Rows) -> None:
        if not len(rows):
            return
        if state.binarized:
            assert self._binarizer is not None
            assert rows.features is not None
            rows.bits = self._binarizer.bits(rows.features)
        for kind, given in (("features", rows.features), ("bits", rows.bits)):
            if given is not None:
                if kind not in state.files:
                    self._new_file(state, kind, given.dtype, given.shape[1])
                self._write(state, kind, state.rows, [self._file(state, kind).cast(given)])
        names = ("ids", "sources", "stamps", "metadata", "thumbnails")
        labels = [None if label < 0 else label for label in rows.labels.tolist()]
        self._items.insert(state.rows, state.generation, labels=labels, **{name: getattr(rows, name) for name in names})
        state.rows, state.live = state.rows + len(rows), state.live + len(rows)

    def _bury(self, state: State, rows: Iterable[int]) -> None:
        """Make rows tombstones."""
        rows = list(rows)
        self._items.bury(rows, state.generation)
        state.live -= len(rows)

    def _stored_rows(self, rows: list[int]) -> Rows:
        """Rows of this snapshot with everything that belongs to them."""
        stored = self._items.stored(rows)
        labels = np.array([-1 if label is None else label for label in stored.pop("labels")], dtype=np.int64)
        features, bits = (self._vectors[kind][rows] if kind in self._vectors else None for kind in ("features", "bits"))
        return Rows(labels, features, bits, **stored)

    def _clear(self, state: State) -> None:
        """No items, and nothing learned from them."""
        self._items.clear()
        for table in ("appends", "arrays"):
            self._database.rows(f"DELETE FROM {table}")
        vars(state).update(vars(state.emptied()))

    def _rewrite(self, state: State, given: dict | None = None) -> None:
        """Compact: vectors, or those `given` as (rows, numbers) by kind, are written anew without tombstones."""
        keep = np.fromiter(self._items.rows().values(), np.int64)
        if given is None:
            self.verify(database=False)
            given = {kind: (file.read(state.rows), keep) for kind, file in ((kind, self._file(state, kind)) for kind in state.files)}
        state.files, state.index, state.factory, state.binarized, state.num_bits, state.dim = {}, None, None, False, None, None
        wanted = {"features": state.settings.has_features, "bits": state.settings.takes_bits}
        self._database.rows("DELETE FROM appends")
        for kind, (rows, where) in given.items():
            if rows is not None and wanted[kind]:
                self._new_file(state, kind, rows.dtype, rows.shape[1])
                self._write(state, kind, 0, chunks(rows, where=where))
        self._items.compact(keep)
        self._database.rows("DELETE FROM generations")  # older ones can no longer be read
        self._database.rows("PRAGMA incremental_vacuum")
        state.rows = state.live = len(keep)

    def _tend(self, state: State) -> None:
        """After a change: compact if tombstones outnumber the items, learn bits, and keep an approximate index up to date."""
        if not state.live:
            self._clear(state)
            return
        if state.rows - state.live > max(TOMBSTONES, state.live):
            before = replace(state, files=dict(state.files))
            self._database.rows("SAVEPOINT compaction")
            try:
                self._rewrite(state)
                self._learn(state)
                return
            except ValueError as error:  # too little is left for this kind of index to learn from
                log.warning("the tombstones stay in the files: %s", error)
                self._database.rows("ROLLBACK TO compaction")
                vars(state).update(vars(before))
        self._learn(state)

    def _learn(self, state: State) -> None:
        settings = state.settings
        if settings.binarize and not state.binarized:
            features = self._file(state, "features").read(state.rows)
            alive = np.fromiter(self._items.rows().values(), np.int64)
            picked = np.sort(np.random.default_rng(0).permutation(alive)[:FIT_ROWS])
            binarizer = fit_binarizer(settings.binarize, features[picked], settings.num_bits)
            self._database.rows("DELETE FROM arrays")
            for name, array in (("mean", binarizer.mean), ("rotation", binarizer.rotation)):
                if array is not None:
                    values = (name, json.dumps(array.shape), np.ascontiguousarray(array, "<f4").tobytes())
                    self._database.rows("INSERT INTO arrays VALUES (?, ?, ?)", values)
            state.num_bits, state.binarized = binarizer.num_bits, True
            self._new_file(state, "bits", np.dtype(np.uint8), -(-binarizer.num_bits // 8))
            self._write(state, "bits", 0, chunks(features, made=binarizer.bits))
        flat, chosen = (chosen_factory(index, settings.index_metric, state.live) for index in ("flat", settings.index))
        if state.factory is None or (state.factory == flat and chosen != flat):
            state.factory, state.index = chosen, None
        if state.factory in ("Flat", "BFlat"):
            return
        self._keep_index(state, self._file(state, kind_of(settings)).read(state.rows))

    def _keep_index(self, state: State, rows: np.ndarray) -> None:
        """Make the index, add what came since to it, or leave that beside it as long as it is little."""
        entry = state.index
        covered, trained = (0, 0) if entry is None else (entry["rows"], entry["trained"])
        if entry is not None and state.rows - covered <= max(TAIL, covered // 8):
            return
        assert state.factory is not None
        index = None if entry is None or state.rows > 4 * trained else self._searcher().base
        if index is None:
            index, trained = new_index(state.settings, state.factory, state.dim, state.num_bits), state.rows
            index.build(rows)
        else:
            for block in chunks(rows, covered):
                index.add(block)
        self._write_index(state, index, trained)
        self.__dict__.pop("_kept", None)

    def _write_index(self, state: State, index: VectorIndex, trained: int) -> None:
        written = index.write(self.folder / f"index_{state.generation:06d}.faiss")
        state.index = {**written, "rows": len(index), "trained": trained}

    def _replace_index(self, index: VectorIndex) -> None:
        entry = self._state.index
        assert entry is not None
        try:  # by another connection: this one is in the middle of a search, whose snapshot must stay
            if self._database.read_only:
                raise PermissionError(f"{self.folder} can only be read")
            with type(self)(self.folder, verify=False, wait=0) as other, other._changing() as state:
                if state.index == entry:
                    other._write_index(state, index, entry["trained"])
        except (OSError, ValueError) as error:
            log.warning("the new index cannot be saved (%s)", error)


def _named(state: State) -> Iterator[dict]:
    yield from state.files.values()
    if state.index is not None:
        yield state.index
