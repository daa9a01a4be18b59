"""A searchable set of images on disk: vectors, bits, ids, labels and an index that always belong together.

n items, m of them new, D features, K bits
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..features.store import identity_of
from . import arguments, files
from .contents import as_list
from .export import to_lance, to_parquet
from .queries import Queries
from .segments import Rows
from .settings import GallerySettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Added:
    """Ids of the items that were added, in order; and for each copy of an image, its id and the id of the first one."""

    ids: list[str]
    duplicates: dict[str, str]


class Gallery(Queries):
    """A gallery, opened. `Gallery.create` makes a new one.

    Parameters
    ----------
    folder : str or Path
    verify : bool, optional
        Compare the SHA-256 of every file now; by default if they are below 1 GiB together. Sizes are always compared.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no gallery, or a file is missing, cut short or damaged. A missing or damaged index is made again instead.
    """

    @classmethod
    def create(
        cls,
        folder: str | Path,
        settings: GallerySettings | None = None,
        *,
        embedding: dict | None = None,
        class_names: Sequence[str] | None = None,
        **fields,
    ) -> Gallery:
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
        _check_free(folder)
        settings = GallerySettings().replaced(**fields) if settings is None else settings.replaced(**fields)
        empty = dict.fromkeys(("dim", "num_bits", "removed", "binarizer", "index_file", "factory"))
        names = None if class_names is None else list(class_names)
        about = {"settings": settings.as_json(), "embedding": embedding, "class_names": names}
        with files.Writer(folder, None) as writer:
            writer.commit({**about, **empty, "num_rows": 0, "num_removed": 0, "segments": []})
        return cls(folder)

    @classmethod
    def from_store(cls, folder: str | Path, store, feature: str | None = None, bits: str = "bits", **fields) -> Gallery:
        """A new gallery of everything in a feature store, whose vectors pass through memory once.

        Parameters
        ----------
        folder : str or Path
            New or empty.
        store : FeatureStore
        feature : str, optional
            Which of its features, such as "block5_mean"; not needed if bits are compared alone.
        bits : str
            Which of its features holds bits, for metric "hamming" or "two_stage" without `binarize`.
        **fields
            Of `GallerySettings`.
        """
        settings = GallerySettings().replaced(**fields)
        if settings.has_features and feature is None:
            raise ValueError(f"metric {settings.metric!r} compares features; give one of {', '.join(store.names)} as `feature`.")
        vectors = store.features(feature) if settings.has_features else None
        packed = store.features(bits, packed=True) if settings.takes_bits else None
        embedding = embedding_of(store.manifest, feature if settings.has_features else bits)
        _check_free(Path(folder))
        gallery = cls.create(folder, settings, embedding=embedding, class_names=store.class_names)
        gallery.add(vectors, bits=packed, ids=list(store.ids), labels=store.labels, sources=list(store.sources))
        return gallery

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
    ) -> Added:
        """Add items: all of them, or, if anything is wrong or the process is killed, none.

        Parameters
        ----------
        features : float array (m, D)
            For metric "cosine" and "two_stage", and for "hamming" with `binarize`.
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

        Raises
        ------
        TypeError, ValueError
            For NaN, another width, another number of labels, an id that is there already, ...
        BlockingIOError
            If another process is changing the gallery.
        """
        self.check_embedding(embedding)
        rows = arguments.new_rows(self.settings, self.dim, self.num_bits, features, bits, labels, sources, metadata, thumbnails)
        rows.labels, names = arguments.renamed(rows.labels, class_names, self.class_names)
        if ids is None:
            ids, copies = arguments.content_ids(rows), "number"
        ids, duplicates = arguments.new_ids(self, ids, len(rows), copies)
        if duplicates:
            log.warning("%d of %d items are copies of others; they are kept, under numbered ids", len(duplicates), len(ids))
        if len(rows):
            rows.ids = np.array([item.encode() for item in ids], dtype="S")
            self._set(self._collection.changed(rows, class_names=names))
        return Added(ids, duplicates)

    def remove(self, ids: Iterable[str]) -> int:
        """Remove items by id; all, or none if one is unknown. Returns how many there were.

        Removed rows stay in the files and the index, where they no longer count, until they outnumber the others.
        """
        rows = np.unique(np.array([self._row_of(item) for item in as_list(ids)], dtype=np.int64))
        if len(rows):
            self._set(self._collection.changed(remove=rows))
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
        self.check_embedding(embedding)
        rows = np.array([self._row_of(item) for item in as_list(ids)], dtype=np.int64)
        if len(np.unique(rows)) != len(rows):
            raise ValueError("an id is given twice; give each item to be updated once.")
        if not len(rows):
            return
        old, places = self._collection, [self._collection.place(row) for row in rows]
        pictures = [segment.thumbnails[row] if segment.thumbnails is not None else b"" for segment, row in places]
        if features is None and old.features is not None:
            features = old.features[rows]
        if bits is None and self.settings.takes_bits:
            bits = old.bits[rows]
        new: Rows = arguments.new_rows(
            self.settings,
            self.dim,
            self.num_bits,
            features,
            bits,
            old.labels[rows] if labels is None else labels,
            [segment.items[row].get("source") for segment, row in places],
            [segment.items[row].get("metadata") for segment, row in places] if metadata is None else metadata,
            pictures if any(pictures) else None,
        )
        new.ids = old.ids[rows]
        self._set(old.changed(new, rows))

    def save(self, folder: str | Path | None = None) -> Gallery:
        """Write everything anew, without removed rows, bits and index learned from all that is left; returns the gallery written.

        Parameters
        ----------
        folder : str or Path, optional
            Another folder, new, empty, or with a gallery that is then replaced; by default this gallery's own.
        """
        if folder is None or Path(folder).resolve() == self.folder.resolve():
            self._set(self._collection.changed(rewrite=True))
            return self
        other = Path(folder)
        there = (other / files.MANIFEST).is_file()
        if not there:
            _check_free(other)
        with files.Writer(other, files.read_gallery_manifest(other)["generation"] if there else None) as writer:
            writer.commit(self._collection.rewritten(writer)[0])
        return Gallery(other)

    def reindex(self, **fields) -> None:
        """Search in another way (fields of `GallerySettings`): bits and index are made again, vectors and ids stay."""
        settings, old = self.settings.replaced(**fields), self._collection
        if len(self) and settings.has_features and old.features is None:
            raise ValueError(f"the gallery holds bits alone, but metric {settings.metric!r} needs features; make a new gallery.")
        if len(self) and settings.takes_bits and not self.settings.takes_bits:
            raise ValueError("the gallery was given no bits; set binarize='sign' or 'itq', or make a new gallery.")
        self._set(old.changed(rewrite=True, settings=settings))

    def to_parquet(self, path: str | Path) -> None:
        """Write ids, labels, sources, metadata, features and bits as one Parquet file; see `export.to_parquet`."""
        to_parquet(self, path)

    def to_lance(self, uri: str | Path, table: str = "gallery"):
        """Write the items as a table of LanceDB, for collections beyond memory; see `export.to_lance`."""
        return to_lance(self, uri, table)


def embedding_of(manifest: dict, feature: str) -> dict:
    """What makes a feature of a store: the fields that must agree between a gallery and its queries, and where the weights came from."""
    return {"feature": feature, "weights": manifest.get("weights"), **identity_of(manifest)}


def _check_free(folder: Path) -> None:
    if (folder / files.MANIFEST).is_file():
        raise FileExistsError(f"{folder} holds a gallery already; open it with Gallery(...), or give a new folder.")
    ours = (".lock", f".{files.MANIFEST}.")  # of a gallery that was killed before it was one
    if folder.exists() and not (folder.is_dir() and all(path.name.startswith(ours) for path in folder.iterdir())):
        raise FileExistsError(f"{folder} is there already, and not empty; give a new folder.")
