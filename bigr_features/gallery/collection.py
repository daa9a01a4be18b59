"""What a gallery holds, and how it changes: segments on disk, rows that were removed, a binarizer, and an index that is only a cache.

n rows, removed ones too, D features, K bits
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

import numpy as np

from . import files
from .binarize import Binarizer, fit_binarizer
from .index import BitIndex, VectorIndex, chosen_factory
from .search import Searcher
from .segments import Rows, Segment, joined, write_segment
from .settings import GallerySettings

log = logging.getLogger(__name__)

FIT_ROWS = 50_000
REMOVED_LIMIT = 1000  # up to so many removed rows are carried along however few others there are


class Collection:
    """The rows of a gallery in one state, that of a manifest.

    Parameters
    ----------
    folder : Path
    manifest : dict

    Attributes
    ----------
    segments : list of Segment
    features, bits : arrays (n, D) and (n, ceil(K / 8)), on disk, or None
    ids : array of bytes (n,)
    labels : int64 (n,)
    removed : bool (n,)
    binarizer : Binarizer or None
    """

    def __init__(self, folder: Path, manifest: dict):
        self.folder, self.manifest = folder, manifest
        self.settings = GallerySettings.from_json(manifest["settings"])
        dim, num_bits, count = manifest["dim"], manifest["num_bits"], manifest["num_rows"]
        num_bytes = None if num_bits is None else -(-num_bits // 8)
        self.segments = [Segment(folder, entry, dim, num_bytes) for entry in manifest["segments"]]
        self.features = joined([segment.features for segment in self.segments])
        self.bits = joined([segment.bits for segment in self.segments])
        self.ids = np.concatenate([np.empty(0, "S1"), *(segment.ids for segment in self.segments)])
        self.labels = np.concatenate([np.empty(0, np.int64), *(segment.labels for segment in self.segments)])
        self.removed = np.zeros(count, dtype=bool)
        if manifest["removed"]:
            packed = files.load_array(folder, manifest["removed"], (-(-count // 8),), "u")
            self.removed = np.unpackbits(packed, count=count).astype(bool)
        self.binarizer = None
        if manifest["binarizer"]:
            shapes = {"mean": (dim,), "rotation": (dim, num_bits)}
            parts = {name: files.load_array(folder, entry, shapes[name], "f") for name, entry in manifest["binarizer"].items()}
            self.binarizer = Binarizer(**parts)

    @cached_property
    def rows(self) -> np.ndarray:
        """Numbers of the rows that were not removed."""
        return np.flatnonzero(~self.removed)

    def place(self, row: int) -> tuple[Segment, int]:
        """The segment of a row, and its number in it."""
        for segment in self.segments:
            if row < len(segment):
                return segment, row
            row -= len(segment)
        raise IndexError("a row beyond the gallery")

    @cached_property
    def searcher(self) -> Searcher:
        """The index, read from its file, or made from the vectors if there is none or it is damaged."""
        index, entry = self._new_index(self.manifest["factory"]), self.manifest["index_file"]
        path = None if entry is None else self.folder / entry["file"]
        if path is not None:
            try:
                if path.stat().st_size != entry["bytes"] or files.file_sha256(path) != entry["sha256"]:
                    raise ValueError(f"{path} is damaged: its size or SHA-256 is not the one in the manifest")
                index.read(path, len(self.ids))
            except (ValueError, OSError) as error:
                log.warning("%s; the index is made again from the vectors", error)
                path = None
        if path is None:
            index.build(self.bits if index.metric == "hamming" else self.features)
            if entry is not None:
                self._repair(index)
        return self._searcher(index)

    def _repair(self, index: VectorIndex) -> None:
        """Write an index in place of a damaged one; a gallery that cannot be written to stays as it is."""
        try:
            with files.Writer(self.folder, self.manifest["generation"]) as writer:
                self.manifest = writer.commit({**self.manifest, "index_file": _written(writer, index)})
        except (OSError, ValueError) as error:
            log.warning("the new index cannot be saved (%s)", error)

    def _searcher(self, index: VectorIndex) -> Searcher:
        return Searcher(self.settings.metric, index, self.features, self.bits, self.settings.shortlist)

    def _new_index(self, factory: str) -> VectorIndex:
        return new_index(self.settings, factory, self.manifest["dim"], self.manifest["num_bits"])

    # -------------------------------------------------------------------------------------------------------------- changes

    def changed(
        self,
        add: Rows | None = None,
        remove=(),
        *,
        rewrite: bool = False,
        settings: GallerySettings | None = None,
        class_names: list[str] | None = None,
    ) -> Collection:
        """The collection after a change, which is on disk then, whole; an error or a kill leaves this one."""
        removed = self.removed.copy()
        removed[np.asarray(remove, dtype=np.int64)] = True
        left = len(removed) - int(removed.sum()) + (0 if add is None else len(add))
        rewrite = rewrite or not self.segments or left == 0 or self._outgrown(left)
        with files.Writer(self.folder, self.manifest["generation"]) as writer:
            try:
                if rewrite:
                    manifest, index = self.rewritten(writer, removed, add, settings)
                elif removed.sum() > max(REMOVED_LIMIT, left):
                    manifest, index = self._tidied(writer, removed, add)
                else:
                    manifest, index = self._grown(writer, removed, add)
                if class_names is not None:
                    manifest["class_names"] = class_names
                manifest = writer.commit(manifest)
            except BaseException:
                self.__dict__.pop("searcher", None)  # its index may hold rows that were not saved
                raise
        new = Collection(self.folder, manifest)
        if index is not None:
            new.searcher = new._searcher(index)
        return new

    def _grown(self, writer: files.Writer, removed: np.ndarray, add: Rows | None) -> tuple[dict, VectorIndex | None]:
        """With more rows, or more of them removed; rows keep their numbers, and the index keeps what it has learned."""
        manifest = dict(self.manifest)
        index = self.searcher.index if "searcher" in self.__dict__ else None
        if add is not None:
            if self.binarizer is not None:
                add.bits = self.binarizer.bits(add.features)
            kept, last = list(self.segments), [add]
            while kept and len(kept[-1]) <= sum(map(len, last)):
                last.insert(0, kept.pop())
            manifest["segments"] = [segment.entry for segment in kept] + [write_segment(writer, last)]
            removed = np.concatenate([removed, np.zeros(len(add), dtype=bool)])
            if index is not None or manifest["index_file"] is not None:
                index = self.searcher.index
                index.add(add.bits if index.metric == "hamming" else add.features)
                manifest["index_file"] = _written(writer, index)
        manifest |= {"num_rows": len(removed), "num_removed": int(removed.sum())}
        manifest["removed"] = writer.array("removed", np.packbits(removed)) if removed.any() else None
        return manifest, index

    def _outgrown(self, count: int) -> bool:
        """Whether so many rows are too many for the flat index that "auto" chose."""
        chosen = chosen_factory(self.settings.index, self.settings.index_metric, count)
        flat = chosen_factory("flat", self.settings.index_metric, count)
        return self.manifest["factory"] == flat and chosen != flat

    def _tidied(self, writer: files.Writer, removed: np.ndarray, add: Rows | None) -> tuple[dict, VectorIndex | None]:
        """Written anew, unless what is left is too little for this kind of index to learn from."""
        try:
            return self.rewritten(writer, removed, add)
        except ValueError as error:
            log.warning("the rows that were removed stay in the files: %s", error)
            return self._grown(writer, removed, add)

    def rewritten(
        self,
        writer: files.Writer,
        removed: np.ndarray | None = None,
        add: Rows | None = None,
        settings: GallerySettings | None = None,
    ) -> tuple[dict, VectorIndex | None]:
        """Everything written anew, without removed rows; bits and index are learned from all that is left."""
        settings = self.settings if settings is None else settings
        removed = self.removed if removed is None else removed
        parts = [*self.segments, *([] if add is None else [add])]
        keep = np.flatnonzero(~np.concatenate([removed, np.zeros(sum(map(len, parts)) - len(removed), dtype=bool)]))
        manifest = {**self.manifest, "settings": settings.as_json(), "num_rows": len(keep), "num_removed": 0}
        manifest |= {"segments": [], "removed": None, "binarizer": None, "index_file": None}
        manifest |= {"dim": None, "num_bits": None, "factory": None}
        if not len(keep):
            return manifest, None
        features, bits, binarizer = joined([part.features for part in parts]), joined([part.bits for part in parts]), None
        if settings.binarize is not None:
            picked = np.sort(np.random.default_rng(0).permutation(keep)[:FIT_ROWS])
            binarizer = fit_binarizer(settings.binarize, features[picked], settings.num_bits)
            learned = {"mean": binarizer.mean, "rotation": binarizer.rotation}
            manifest["binarizer"] = {name: writer.array(name, array) for name, array in learned.items() if array is not None}
        manifest["dim"] = None if features is None else features.shape[1]
        manifest["num_bits"] = binarizer.num_bits if binarizer else 8 * bits.shape[1] if settings.has_bits else None
        manifest["segments"] = [write_segment(writer, parts, keep, bits=settings.has_bits, binarizer=binarizer)]
        manifest["factory"] = chosen_factory(settings.index, settings.index_metric, len(keep))
        index = new_index(settings, manifest["factory"], manifest["dim"], manifest["num_bits"])
        segment = Segment(writer.folder, manifest["segments"][0], manifest["dim"], -(-(manifest["num_bits"] or 0) // 8))
        if not index.is_flat:
            index.build(segment.bits if index.metric == "hamming" else segment.features)
            manifest["index_file"] = _written(writer, index)
        return manifest, None if index.is_flat else index


def new_index(settings: GallerySettings, factory: str, dim: int | None, num_bits: int | None) -> VectorIndex:
    """An empty index of the kind that a factory string names; ValueError if there is none."""
    if settings.index_metric == "cosine":
        return VectorIndex(dim, factory, settings.effort)
    return BitIndex(-(-num_bits // 8), factory, settings.effort)


def _written(writer: files.Writer, index: VectorIndex) -> dict | None:
    """The entry of an index's file; a flat index needs none, for it is the vectors themselves."""
    if index.is_flat:
        return None
    path = writer.path("index", "faiss")
    index.write(path)
    return writer.existing(path)
