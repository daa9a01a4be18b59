"""Queries of a gallery: by vectors, by its own items, by classes.   Q queries, D features, K bits, k hits"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..features.store import with_preprocessing
from ..functional.checks import differences, some
from . import arguments
from .contents import Contents, as_list


@dataclass(frozen=True)
class Hits:
    """What was found, best first.

    ids : array of str (Q, k).
    scores : float32 (Q, k): cosine; by Hamming distance, the share of equal bits.
    labels : int64 (Q, k), -1 for none.
    """

    ids: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class Queries(Contents):
    """A gallery that can be searched; see `Gallery`."""

    def check_embedding(self, other: dict | None) -> None:
        """Raise ValueError naming each field in which another description of what makes features differs; None is not compared."""
        if self.embedding is None or other is None:
            return
        sides = (with_preprocessing(side) for side in (other, self.embedding))
        ours, theirs = ({key: value for key, value in sorted(side.items()) if key != "weights"} for side in sides)
        differing = differences(ours, theirs)
        if differing:
            raise ValueError(f"the gallery {self.folder} was made in another way: {'; '.join(differing)}. Query it with what made it.")

    def binarize(self, features: np.ndarray) -> np.ndarray:
        """Packed bits (Q, ceil(K / 8)) of features, as the gallery makes them; ValueError if it does not."""
        if self._collection.binarizer is None:
            raise ValueError(
                f"the gallery {self.folder} makes no bits of features; create it with binarize='sign' or 'itq', and add images."
            )
        return self._collection.binarizer.bits(arguments.check_features(features, self.dim))

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
        features = None if features is None else arguments.check_features(features, self.dim, "queries").astype(np.float32)
        bits = None if bits is None else arguments.check_bits(bits, self.num_bits, "queries")
        rows = np.array([self._row_of(item) for item in as_list(exclude)], dtype=np.int64)
        queries = len(bits if features is None else features)
        return self._search(features, bits, k, label, [rows] * queries, combine)

    def search_ids(self, ids: Iterable[str], *, k: int = 10, label=None, combine: bool = False) -> Hits:
        """As `search`, with items of the gallery as queries, which do not find themselves."""
        self._check_not_empty()
        rows = np.array([self._row_of(item) for item in as_list(ids)], dtype=np.int64)
        own = [rows] * len(rows) if combine else [rows[i : i + 1] for i in range(len(rows))]
        return self._search(*self._stored(rows), k, label, own, combine)

    def search_class(self, label: int | str, *, k: int = 10, among: int | str | Sequence[int | str] | None = None) -> Hits:
        """As `search`, by the mean of a class; one row of hits, which may be items of that class. `among` filters by label."""
        self._check_not_empty()
        rows = np.flatnonzero(self._allowed(label) & ~self._collection.removed)
        return self._search(*self._stored(rows), k, among, [np.empty(0, np.int64)], True)

    def _stored(self, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        features = self._collection.features[rows].astype(np.float32) if self.settings.has_features else None
        return features, self._collection.bits[rows] if self.settings.takes_bits else None

    def _search(self, features, bits, k: int, label, excluded: list[np.ndarray], combine: bool) -> Hits:
        if combine:
            features, bits = arguments.combined(features, bits)
            excluded = [np.unique(np.concatenate(excluded))]
        if self._collection.binarizer is not None:
            bits = self._collection.binarizer.bits(features)
        removed = self._collection.removed
        allowed = None if label is None and not removed.any() else ~removed
        if label is not None:
            allowed &= self._allowed(label)
        left = len(removed) if allowed is None else int(allowed.sum())
        most = left - max((len(rows) if allowed is None else int(allowed[rows].sum()) for rows in excluded), default=0)
        if not isinstance(k, int | np.integer) or not 1 <= k <= most:
            what = "items to find" if label is None else f"items with label {label!r} to find"
            raise ValueError(f"k={k}, but there are {most} {what}; give k of 1..{most}." if most > 0 else f"there are no {what}.")
        scores, rows = self._collection.searcher.search(features, bits, k, allowed, excluded)
        if self.settings.metric == "hamming":
            scores = 1 - scores / np.float32(self.num_bits)
        return Hits(np.char.decode(self._collection.ids[rows], "utf-8"), scores.astype(np.float32), self._collection.labels[rows])

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
            if not (self._collection.labels == wanted[-1]).any():
                raise ValueError(f"no item of the gallery has the label {one!r}.")
        return np.isin(self._collection.labels, wanted)
