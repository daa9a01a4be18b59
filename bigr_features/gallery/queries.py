"""Queries of a gallery: by vectors, by its own items, by classes.   Q queries, D features, K bits, k hits"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from ..features.store import with_preprocessing
from ..functional.checks import differences, some
from ..nearest.checks import check_bits, check_features, combined
from ..nearest.index import VectorIndex
from ..nearest.search import Searcher
from ..nearest.settings import kind_of, new_index
from . import arguments
from .arguments import as_list
from .contents import Contents
from .hits import Hits

log = logging.getLogger(__name__)

NOT_COMPARED = ("weights", "precision")  # of an embedding: where weights lay, and why its `dtype` was taken


class Queries(Contents):
    """A gallery that can be searched; see `Gallery`."""

    def check_embedding(self, other: dict | None) -> None:
        """Raise ValueError naming each field in which another description of what makes features differs; None is not compared."""
        if self.embedding is None or other is None:
            return
        sides = (with_preprocessing(side) for side in (other, self.embedding))
        ours, theirs = ({key: value for key, value in sorted(side.items()) if key not in NOT_COMPARED} for side in sides)
        differing = differences(ours, theirs)
        if differing:
            raise ValueError(f"the gallery {self.folder} was made in another way: {'; '.join(differing)}. Query it with what made it.")

    def binarize(self, features: np.ndarray) -> np.ndarray:
        """Packed bits (Q, ceil(K / 8)) of features, as the gallery makes them; ValueError if it does not."""
        if self._binarizer is None:
            raise ValueError(
                f"the gallery {self.folder} makes no bits of features; create it with binarize='sign' or 'itq', and add images."
            )
        return self._binarizer.bits(check_features(features, self.dim))

    def search(
        self,
        features: np.ndarray | None = None,
        *,
        bits: np.ndarray | None = None,
        k: int = 10,
        label: int | str | Sequence[int | str] | None = None,
        exclude: Iterable[str] = (),
        combine: bool = False,
        embedding: dict | None = None,
    ) -> Hits:
        """The k nearest items of each query.

        Parameters
        ----------
        features, bits : arrays (Q, D) and (Q, ceil(K / 8))
            As for `add`.
        k : int
            At most the number of items to choose from.
        label : int, str or a sequence of them, optional
            Search items of these classes only, by label or name.
        exclude : iterable of str
            Ids that no query may find.
        combine : bool
            Search by all queries as one: the mean of their directions, and of bits the majority.
        embedding : dict, optional
            What made the queries; see `check_embedding`.

        Raises
        ------
        TypeError, ValueError
            For an empty gallery, k beyond the number of items, NaN, another width, an unknown label or id.
        """
        self.check_embedding(embedding)
        arguments.check_given(self.settings, features, bits)
        self._check_not_empty()
        features = None if features is None else check_features(features, self.dim, "queries").astype(np.float32)
        bits = None if bits is None else check_bits(bits, self.num_bits, "queries")
        rows = np.array([self._items.row_of(item) for item in as_list(exclude)], dtype=np.int64)
        given = bits if features is None else features
        assert given is not None
        return self._search(features, bits, k, label, [rows] * len(given), combine)

    def search_ids(self, ids: Iterable[str], *, k: int = 10, label=None, exclude: Iterable[str] = (), combine: bool = False) -> Hits:
        """As `search`, with items of the gallery as queries, which do not find themselves."""
        self._check_not_empty()
        rows, others = (np.array([self._items.row_of(item) for item in as_list(given)], dtype=np.int64) for given in (ids, exclude))
        own = [np.append(rows, others)] * len(rows) if combine else [np.append(rows[i : i + 1], others) for i in range(len(rows))]
        return self._search(*self._stored(rows), k, label, own, combine)

    def search_class(self, label: int | str, *, k: int = 10, among: int | str | Sequence[int | str] | None = None) -> Hits:
        """As `search`, by the mean of a class; one row of hits, which may be items of that class. `among` filters by label."""
        self._check_not_empty()
        rows = np.intersect1d(np.flatnonzero(self._allowed(label)), self._rows)
        return self._search(*self._stored(rows), k, among, [np.empty(0, np.int64)], True)

    def _stored(self, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        features = self._vectors["features"][rows].astype(np.float32) if self.settings.has_features else None
        return features, self._vectors["bits"][rows] if self.settings.takes_bits else None

    def _search(self, features, bits, k: int, label, excluded: list[np.ndarray], combine: bool, searcher: Searcher | None = None) -> Hits:
        if combine:
            features, bits = combined(features, bits)
            excluded = [np.unique(np.concatenate(excluded))]
        if self._binarizer is not None:
            bits = self._binarizer.bits(features)
        allowed = None
        if label is not None or len(self._dead):
            allowed = np.ones(self._state.rows, dtype=bool) if label is None else self._allowed(label)
            allowed[self._dead] = False
        left = self._state.rows if allowed is None else int(allowed.sum())
        most = left - max((len(rows) if allowed is None else int(allowed[rows].sum()) for rows in excluded), default=0)
        if not isinstance(k, int | np.integer) or not 1 <= k <= most:
            what = "items to find" if label is None else f"items with label {label!r} to find"
            raise ValueError(f"k={k!r}, but there are {most} {what}; give k of 1..{most}." if most > 0 else f"there are no {what}.")
        searcher = self._searcher() if searcher is None else searcher
        scores, rows = searcher.search(features, bits, int(k), allowed, excluded)
        if searcher.metric == "hamming":
            scores = 1 - scores / np.float32(self.num_bits)
        found = self._items.columns(np.unique(rows), "id, label")
        ids = np.array([[found[row][0] for row in line] for line in rows.tolist()], dtype=str).reshape(rows.shape)
        labels = np.array([[-1 if found[row][1] is None else found[row][1] for row in line] for line in rows.tolist()], dtype=np.int64)
        return Hits(ids, scores.astype(np.float32), labels.reshape(rows.shape), self)

    def _searcher(self) -> Searcher:
        """The index with the rows, both kept from one generation to the next as far as they are the same."""
        state, old = self._state, self.__dict__.get("_kept")
        key = (state.settings, state.factory, state.files, state.index and state.index["file"])
        features, bits = (self._vectors.get(kind) for kind in ("features", "bits"))
        if old is not None and old[0] == key:
            old[1].take(features, bits)
            return old[1]
        searcher = Searcher(state.settings.metric, features, bits, self._base(), state.settings.shortlist)
        self._kept = key, searcher
        return searcher

    def _base(self) -> VectorIndex | None:
        """The approximate index, read from its file, or made from the vectors if that is missing or damaged; None for a flat one."""
        state, entry = self._state, self._state.index
        if entry is None:
            return None
        assert state.factory is not None
        index = new_index(state.settings, state.factory, state.dim, state.num_bits)
        try:
            if self._index_file is None:
                raise ValueError(f"{entry['file']} is missing")
            index.read(self._index_file, entry)
        except (ValueError, OSError) as error:
            log.warning("%s; the index is made again from the vectors", error)
            index.build(self._vectors[kind_of(state.settings)][: entry["rows"]])
            self._replace_index(index)
        return index

    def _replace_index(self, index: VectorIndex) -> None:
        """What is done about an index that was made again: a gallery that can be changed writes it."""

    def _check_not_empty(self) -> None:
        if not len(self):
            raise ValueError(f"the gallery {self.folder} is empty; add images first.")

    def _allowed(self, label) -> np.ndarray:
        """Rows of these classes."""
        names = self.class_names or []
        wanted = []
        for one in [label] if isinstance(label, int | np.integer | str) else label:
            if isinstance(one, str) and one not in names:
                known = f"choose one of {some(names, 10)}" if names else "the classes of this gallery have no names"
                raise ValueError(f"there is no class {one!r}; {known}.")
            wanted.append(names.index(one) if isinstance(one, str) else int(one))
            if not (self._labels == wanted[-1]).any():
                raise ValueError(f"no item of the gallery has the label {one!r}.")
        return np.isin(self._labels, wanted)
