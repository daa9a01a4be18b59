"""Changes of a gallery: each one is a transaction, whole or not at all.   n items, m of them new, D features, K bits"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.labels import renamed
from ..nearest.settings import GallerySettings
from ..storage.database import Database
from ..storage.item_table import content_ids, new_ids
from . import arguments
from .arguments import as_list
from .state import INSERT, LAYOUT, State
from .writing import Writing

NAME = LAYOUT.name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Added:
    """Ids of the items that were added, in order; and for each copy of an image, its id and the id of the first one."""

    ids: list[str]
    duplicates: dict[str, str]


class Changes(Writing):
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
        state = State(settings, embedding, None if class_names is None else list(class_names))
        Database.create(folder, LAYOUT, INSERT, (state.generation, time.time(), state.to_json()))
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
        all_ids: list[str] = []
        all_copies: dict[str, str] = {}
        with self._changing() as state:
            self.check_embedding(embedding)
            for features, bits, ids, labels, sources, metadata, thumbnails, stamps, copies, class_names in batches:
                given = (features, bits, labels, sources, metadata, thumbnails, stamps)
                rows = arguments.new_rows(state.settings, state.dim, state.num_bits, *given)
                rows.labels, state.class_names = renamed(rows.labels, class_names, state.class_names)
                how, stored = "number" if ids is None else copies, rows.bits if rows.features is None else rows.features
                assert stored is not None
                rows.ids, duplicates = new_ids(self.__contains__, ids or content_ids(stored), len(rows), how)
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
            rows = {self._items.row_of(item) for item in ids}
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
            rows = [self._items.row_of(item) for item in ids]
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
            own = self._items.rows()
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
                    self._items.set_stamps(stamps)


def check_free(folder: Path) -> None:
    """Raise FileExistsError unless a folder is new, or empty."""
    if (folder / NAME).is_file():
        raise FileExistsError(f"{folder} holds a gallery already; open it with Gallery(...), or give a new folder.")
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(f".{NAME}.") for path in folder.iterdir())):
        raise FileExistsError(f"{folder} is there already, and not empty; give a new folder.")
