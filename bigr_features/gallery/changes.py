"""Changes of a gallery: each one is a transaction, whole or not at all.   n items, m of them new, D features, K bits

Rows are appended to the vector files first; the database's commit then makes them count. What a killed change left is trimmed or deleted
by the next one. A removed item is a tombstone until compaction writes the vectors anew without it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..nearest.binarize import fit_binarizer
from ..nearest.index import VectorIndex, chosen_factory
from ..nearest.settings import GallerySettings, kind_of, new_index
from ..storage.append_file import AppendFile, chunks
from . import arguments
from .arguments import Rows, as_list
from .queries import Queries
from .state import FILE, LAYOUT, State, create_database, save_state, states_of

NAME = LAYOUT.name

log = logging.getLogger(__name__)

FIT_ROWS = 50_000  # rows that a binarizer learns from
TOMBSTONES = 1000  # so many are carried along however few items there are
TAIL = 10_000  # rows added since an approximate index was written, up to which they are searched beside it


@dataclass(frozen=True)
class Added:
    """Ids of the items that were added, in order; and for each copy of an image, its id and the id of the first one."""

    ids: list[str]
    duplicates: dict[str, str]


class Changes(Queries):
    """A gallery that can be changed; see `Gallery`."""

    @classmethod
    def create(
        cls,
        folder: str | Path,
        settings: GallerySettings | None = None,
        *,
        embedding: dict | None = None,
        class_names: Sequence[str] | None = None,
        **fields,
    ):
        """A new, empty gallery.

        Parameters
        ----------
        folder : str or Path
            New or empty.
        settings : GallerySettings, optional
            Or its fields by name: metric="hamming", binarize="itq", ...
        embedding : dict, optional
            What makes the features, as JSON; see `check_embedding`.
        class_names : sequence of str, optional
            Names by label.

        Raises
        ------
        FileExistsError
            If there is a gallery, or anything else, already.
        """
        folder = Path(folder)
        check_free(folder)
        settings = GallerySettings().replaced(**fields) if settings is None else settings.replaced(**fields)
        create_database(folder, State(settings, embedding, None if class_names is None else list(class_names)))
        return cls(folder)

    def add(
        self,
        features: np.ndarray | None = None,
        *,
        bits: np.ndarray | None = None,
        ids: Sequence[str] | None = None,
        labels: np.ndarray | None = None,
        sources: Sequence[str] | None = None,
        metadata: Sequence[dict] | None = None,
        thumbnails: Sequence[bytes] | None = None,
        copies: str = "refuse",
        class_names: Sequence[str] | None = None,
        embedding: dict | None = None,
        stamps: Sequence[str] | None = None,
    ) -> Added:
        """Add items: all of them, or, if anything is wrong or the process is killed, none.

        Parameters
        ----------
        features : float array (m, D)
            For metric "cosine" and "two_stage", and for "hamming" with `binarize`; kept as float32, or as float16 if the first were so.
        bits : uint8 array (m, ceil(K / 8))
            Packed as by `packing.pack_bits`; for metric "hamming" and "two_stage" without `binarize`.
        ids : sequence of str, optional
            By default the shortened SHA-256 of each row; copies of a row that is there already get "-1", "-2", ...
        labels : int array (m,), optional
        sources : sequence of str, optional
            Where each item came from.
        metadata : sequence of dict, optional
            Anything that JSON holds, one dictionary an item.
        thumbnails : sequence of bytes, optional
            Encoded small pictures, for result sheets.
        copies : "refuse" or "number"
            What is done about given ids that are there already, or come twice: an error, or "-1", "-2", ... at their end.
        class_names : sequence of str, optional
            What the labels mean here: they become the gallery's own labels of these names, and new names are appended to its own.
        embedding : dict, optional
            What made the features; see `check_embedding`.
        stamps : sequence of str, optional
            Size and time of change of each source, by which `sync` knows it again.

        Raises
        ------
        TypeError, ValueError
            For NaN, another width, another number of labels, an id that is there already, ...
        BlockingIOError
            If another process is changing the gallery, and does not end in time.
        """
        batch = (features, bits, ids, labels, sources, metadata, thumbnails, stamps, copies, class_names)
        return self._add_batches([batch], embedding)

    def _add_batches(self, batches: Iterable[tuple], embedding: dict | None) -> Added:
        """Add several batches of the arguments of `add` as one change."""
        all_ids, all_copies = [], {}
        with self._changing() as state:
            self.check_embedding(embedding)
            for features, bits, ids, labels, sources, metadata, thumbnails, stamps, copies, class_names in batches:
                given = (features, bits, labels, sources, metadata, thumbnails, stamps)
                rows = arguments.new_rows(state.settings, state.dim, state.num_bits, *given)
                rows.labels, state.class_names = arguments.renamed(rows.labels, class_names, state.class_names)
                how = "number" if ids is None else copies
                rows.ids, duplicates = arguments.new_ids(self.__contains__, ids or arguments.content_ids(rows), len(rows), how)
                self._append(state, rows)
                all_ids += rows.ids
                all_copies |= duplicates
            self._tend(state)
        if all_copies:
            log.warning("%d of %d items are copies of others; they are kept, under numbered ids", len(all_copies), len(all_ids))
        return Added(all_ids, all_copies)

    def remove(self, ids: Iterable[str]) -> int:
        """Remove items by id; all, or none if one is unknown. Returns how many there were.

        Their tombstones stay, and no longer count, until they outnumber the others: then the gallery is compacted by itself.
        """
        ids = as_list(ids)
        with self._changing() as state:
            rows = {self._row_of(item) for item in ids}
            self._bury(state, rows)
            self._tend(state)
        return len(rows)

    def update(
        self,
        ids: Iterable[str],
        features: np.ndarray | None = None,
        *,
        bits: np.ndarray | None = None,
        labels: np.ndarray | None = None,
        metadata: Sequence[dict] | None = None,
        embedding: dict | None = None,
    ) -> None:
        """Give items new vectors, labels or metadata under their old ids; what is not given stays. All, or none."""
        ids = as_list(ids)
        with self._changing() as state:
            self.check_embedding(embedding)
            rows = [self._row_of(item) for item in ids]
            if len(set(rows)) != len(rows):
                raise ValueError("an id is given twice; give each item to be updated once.")
            if rows:
                old = self._stored_rows(rows)
                features = old.features if features is None else features
                bits = old.bits if bits is None and state.settings.takes_bits else bits
                labels = old.labels if labels is None else labels
                new = arguments.new_rows(
                    state.settings, state.dim, state.num_bits, features, bits, labels, old.sources, metadata, old.thumbnails, old.stamps
                )
                new.ids, new.metadata = old.ids, old.metadata if metadata is None else new.metadata
                self._bury(state, rows)
                self._append(state, new)
                self._tend(state)

    def compact(self) -> None:
        """Write the vectors anew without tombstones; bits and index are learned from all that is left."""
        with self._changing() as state:
            if state.live:
                self._rewrite(state)
            self._tend(state)

    def save(self, folder: str | Path | None = None):
        """Compact this gallery; or write its items, as they are in this snapshot, to another folder. Returns the gallery written.

        Parameters
        ----------
        folder : str or Path, optional
            Another folder, new, empty, or with a gallery that is then replaced, whole or not at all; by default this gallery's own.
        """
        if folder is None or Path(folder).resolve() == self.folder.resolve():
            self.compact()
            return self
        if not (Path(folder) / NAME).is_file():
            type(self).create(folder, self.settings, embedding=self.embedding).close()
        other = type(self)(folder)
        with other._changing() as state:
            other._clear(state)
            state.settings, state.embedding, state.class_names = self.settings, self.embedding, self.class_names
            for start in range(0, len(self), 8192):
                other._append(state, self._stored_rows(self._rows[start : start + 8192].tolist()))
            other._tend(state)
        return other

    def reindex(self, **fields) -> None:
        """Search in another way (fields of `GallerySettings`): bits and index are made again as needed, vectors and ids stay."""
        with self._changing() as state:
            old, new = state.settings, state.settings.replaced(**fields)
            if state.live and new.has_features and "features" not in state.files:
                raise ValueError(f"the gallery holds bits alone, but metric {new.metric!r} needs features; make a new gallery.")
            if state.live and new.takes_bits and not old.takes_bits:
                raise ValueError("the gallery was given no bits; set binarize='sign' or 'itq', or make a new gallery.")
            state.settings, state.factory, state.index = new, None, None
            if (old.has_bits, old.binarize, old.num_bits) != (new.has_bits, new.binarize, new.num_bits):
                state.num_bits, state.binarized = None, False
                state.files.pop("bits", None)
            if not new.has_features:
                state.dim = None
                state.files.pop("features", None)
            self._tend(state)

    def replace_vectors(self, ids: Sequence[str], features, bits, embedding: dict, settings: GallerySettings, drop=()) -> None:
        """Take new vectors of all items, made by another embedding: all at once, under the old ids.

        Parameters
        ----------
        ids : sequence of str
        features, bits : array-likes in the order of `ids`, or None
        embedding : dict
            What made them.
        settings : GallerySettings
            How the gallery is searched from now on.
        drop : collection of str
            Items to be removed, for which there are none.

        Raises
        ------
        KeyError
            If an item of the gallery has no new vector.
        """
        place = {item: i for i, item in enumerate(ids)}
        with self._changing() as state:
            own = dict(self._database.rows("SELECT id, row FROM items WHERE died IS NULL ORDER BY row"))
            self._bury(state, [own.pop(item) for item in drop if item in own])
            where = np.array([place[item] for item in own], dtype=np.int64)
            state.settings, state.embedding = settings, embedding
            self._rewrite(state, {"features": (features, where), "bits": (bits, where)})
            self._tend(state)

    def remember(self, stamps: dict[int, str]) -> None:
        """Keep the stamps of sources, by row of the snapshot."""
        if stamps:
            before = self.generation
            with self._changing():
                if self._state.generation == before:  # else they are found out again the next time
                    self._database.many("UPDATE items SET stamp = ? WHERE row = ?", ((stamp, row) for row, stamp in stamps.items()))

    # ------------------------------------------------------------------------------------------------- inside a change

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
        for line in (
            f"DELETE FROM thumbnails WHERE row IN (SELECT row FROM items WHERE born > {generation})",
            f"DELETE FROM items WHERE born > {generation}",
            f"UPDATE items SET died = NULL WHERE died > {generation}",
            f"DELETE FROM appends WHERE born > {generation}",
        ):
            self._database.rows(line)
        self._living = "died IS NULL"
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
            rows.bits = self._binarizer.bits(rows.features)
        for kind, given in (("features", rows.features), ("bits", rows.bits)):
            if given is not None:
                if kind not in state.files:
                    self._new_file(state, kind, given.dtype, given.shape[1])
                self._write(state, kind, state.rows, [_cast(given, state.files[kind]["dtype"])])
        numbers = range(state.rows, state.rows + len(rows))
        sources = [None if source is None else source.encode("utf-8", "surrogateescape") for source in rows.sources]
        labels = [None if label < 0 else label for label in rows.labels.tolist()]
        born, alive = [state.generation] * len(rows), [None] * len(rows)
        items = zip(numbers, rows.ids, labels, sources, rows.stamps, rows.metadata, born, alive, strict=True)
        self._database.many("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", items)
        pictures = ((row, picture) for row, picture in zip(numbers, rows.thumbnails, strict=True) if picture)
        self._database.many("INSERT INTO thumbnails VALUES (?, ?)", pictures)
        state.rows, state.live = state.rows + len(rows), state.live + len(rows)

    def _bury(self, state: State, rows: Iterable[int]) -> None:
        """Make rows tombstones."""
        rows = list(rows)
        self._database.many("UPDATE items SET died = ? WHERE row = ?", ((state.generation, int(row)) for row in rows))
        state.live -= len(rows)

    def _stored_rows(self, rows: list[int]) -> Rows:
        """Rows of this snapshot with everything that belongs to them."""
        found = self._columns(rows, "id, label, source, stamp, metadata")
        ids, labels, sources, stamps, metadata = zip(*(found[row] for row in rows), strict=True)
        marks = ", ".join(map(str, rows))
        pictures = dict(self._database.rows(f"SELECT row, picture FROM thumbnails WHERE row IN ({marks})"))
        vectors = [self._vectors[kind][rows] if kind in self._vectors else None for kind in ("features", "bits")]
        return Rows(
            np.array([-1 if label is None else label for label in labels], dtype=np.int64),
            *vectors,
            [None if source is None else source.decode("utf-8", "surrogateescape") for source in sources],
            list(stamps),
            list(metadata),
            [pictures.get(row) for row in rows],
            list(ids),
        )

    def _clear(self, state: State) -> None:
        """No items, and nothing learned from them."""
        for table in ("items", "thumbnails", "appends", "arrays"):
            self._database.rows(f"DELETE FROM {table}")
        vars(state).update(vars(state.emptied()))

    def _rewrite(self, state: State, given: dict | None = None) -> None:
        """Compact: vectors, or those `given` as (rows, numbers) by kind, are written anew without tombstones."""
        keep = np.array([row for (row,) in self._database.rows("SELECT row FROM items WHERE died IS NULL ORDER BY row")], dtype=np.int64)
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
        self._database.rows("DELETE FROM thumbnails WHERE row IN (SELECT row FROM items WHERE died IS NOT NULL)")
        self._database.rows("DELETE FROM items WHERE died IS NOT NULL")
        moved = [(new, int(old)) for new, old in enumerate(keep) if new != old]  # each to a place that is free by then
        for table in ("items", "thumbnails"):
            self._database.many(f"UPDATE {table} SET row = ? WHERE row = ?", moved)
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
            alive = np.array([row for (row,) in self._database.rows("SELECT row FROM items WHERE died IS NULL ORDER BY row")])
            picked = np.sort(np.random.default_rng(0).permutation(alive)[:FIT_ROWS])
            binarizer = fit_binarizer(settings.binarize, features[picked], settings.num_bits)
            self._database.rows("DELETE FROM arrays")
            for name, array in (("mean", binarizer.mean), ("rotation", binarizer.rotation)):
                if array is not None:
                    values = (name, json.dumps(array.shape), np.ascontiguousarray(array, "<f4").tobytes())
                    self._database.rows("INSERT INTO arrays VALUES (?, ?, ?)", values)
            state.num_bits, state.binarized = binarizer.num_bits, True
            self._new_file(state, "bits", np.uint8, -(-binarizer.num_bits // 8))
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
        if entry is None or state.rows > 4 * trained:
            index, trained = new_index(state.settings, state.factory, state.dim, state.num_bits), state.rows
            index.build(rows)
        else:
            index = self._searcher().base
            for block in chunks(rows, covered):
                index.add(block)
        self._write_index(state, index, trained)
        self._kept = None

    def _write_index(self, state: State, index: VectorIndex, trained: int) -> None:
        written = index.write(self.folder / f"index_{state.generation:06d}.faiss")
        state.index = {**written, "rows": len(index), "trained": trained}

    def _replace_index(self, index: VectorIndex) -> None:
        entry = self._state.index
        try:  # by another connection: this one is in the middle of a search, whose snapshot must stay
            if self._database.read_only:
                raise PermissionError(f"{self.folder} can only be read")
            with type(self)(self.folder, verify=False, wait=0) as other, other._changing() as state:
                if state.index == entry:
                    other._write_index(state, index, entry["trained"])
        except (OSError, ValueError) as error:
            log.warning("the new index cannot be saved (%s)", error)


def check_free(folder: Path) -> None:
    """Raise FileExistsError unless a folder is new, or empty."""
    if (folder / NAME).is_file():
        raise FileExistsError(f"{folder} holds a gallery already; open it with Gallery(...), or give a new folder.")
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(f".{NAME}.") for path in folder.iterdir())):
        raise FileExistsError(f"{folder} is there already, and not empty; give a new folder.")


def _named(state: State) -> Iterator[dict]:
    yield from state.files.values()
    if state.index is not None:
        yield state.index


def _cast(rows: np.ndarray, dtype: str) -> np.ndarray:
    """Rows as the file keeps them; ValueError for numbers beyond float16 in a gallery of float16."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(rows, dtype=dtype)
    if cast.dtype != rows.dtype and not np.isfinite(cast).all():
        raise ValueError("features are too large for float16, as this gallery keeps them; make a new gallery of float32 features.")
    return cast
