"""The galleries and feature stores of a page, by name; they are read, never changed.   n items, D features"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..data.pixels import thumbnail_of
from ..data.reopened import image_of, opened
from ..features.embedder import Embedder
from ..features.store import STORE, FeatureStore
from ..gallery import Gallery
from ..gallery.sheets import item_image
from .answers import Refused

THUMBNAIL = 128


class GalleryOnShelf:
    """A gallery that other processes may change, or take away.

    Parameters
    ----------
    name : str
    folder : Path
    embedder_of : callable
        Makes the model of a gallery when it is first needed.
    """

    kind = "gallery"

    def __init__(self, name: str, folder: Path, embedder_of: Callable[[Gallery], Embedder] | None = None):
        self.name, self.folder, self._embedder_of = name, folder, embedder_of
        self._lock = threading.RLock()
        self._gallery = Gallery(folder)
        self._stamp = _stamp(folder)

    @contextlib.contextmanager
    def read(self) -> Iterator[Gallery]:
        """The gallery as it is now, for one thread at a time."""
        with self._lock:
            self._follow()
            yield self._gallery

    def _follow(self) -> None:
        """See what another process has written; a folder that was made anew is opened anew."""
        try:
            stamp = _stamp(self.folder)
        except OSError:
            raise Refused(
                410, f"the gallery {self.folder} is not there any more; bring it back, or start the server with another."
            ) from None
        if stamp == self._stamp:
            return
        try:
            if stamp[0] != self._stamp[0]:
                embedder, old = self._gallery._embedder, self._gallery
                self._gallery = Gallery(self.folder)
                old.close()
                if embedder is not None:
                    with contextlib.suppress(ValueError):  # it was made by another model; that one is loaded when it is needed
                        self._gallery.embedder = embedder
            else:
                self._gallery.refresh()
        except (OSError, ValueError) as error:
            raise Refused(410, str(error)) from error
        self._stamp = stamp

    def with_embedder(self, gallery: Gallery) -> Gallery:
        """The gallery, able to read pictures; ValueError saying why it is not."""
        if gallery._embedder is None and self._embedder_of is not None:
            gallery.embedder = self._embedder_of(gallery)
        return gallery

    def thumbnail(self, item: str) -> bytes:
        """Small picture of an item; FileNotFoundError if there is none."""
        with self.read() as gallery:
            if item not in gallery:
                raise Refused(404, f"there is no item {item[:80]!r} in the gallery {self.name}.")
            return gallery.thumbnail(item) or thumbnail_of(item_image(gallery, item), THUMBNAIL)

    def image(self, item: str):
        """The picture of an item, upright, in RGB."""
        with self.read() as gallery:
            if item not in gallery:
                raise Refused(404, f"there is no item {item[:80]!r} in the gallery {self.name}.")
            return item_image(gallery, item)

    def layers(self) -> list[str]:
        """Names of what can be arranged in the plane."""
        with self.read() as gallery:
            return ["features" if gallery.settings.has_features else "bits"]

    def table(self) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
        """ids (n,), labels (n,), class names."""
        with self.read() as gallery:
            return gallery.ids, gallery.labels, gallery.class_names

    def vectors(self, layer: str, rows: np.ndarray) -> np.ndarray:
        """Rows (m, D) of a layer: floats, or bool for bits."""
        with self.read() as gallery:
            kept = gallery.bits if layer == "bits" else gallery.features
            assert kept is not None, f"the gallery has no {layer}"  # its layers are those that it has
            return np.unpackbits(kept[rows], axis=1).astype(bool) if layer == "bits" else kept[rows].astype(np.float32)

    def identity(self) -> str:
        """What tells one state of it from another."""
        with self.read() as gallery:
            return f"{gallery.embedding} {gallery.generation}"

    def label_of(self, item: str) -> str:
        """File name of an item."""
        with self.read() as gallery:
            return gallery.item(item)["source"] or ""


class StoreOnShelf:
    """A feature store: clusters alone, at several layers."""

    kind = "store"

    def __init__(self, name: str, folder: Path):
        self.name, self.folder = name, folder
        self._store = FeatureStore(folder)
        self._tables: dict = {}
        self._lock = threading.Lock()
        self._rows = {item: row for row, item in enumerate(self._store.ids.tolist())}

    def layers(self) -> list[str]:
        """Names of the features: one pooling through the depth if there are several layers, else all."""
        found = self._store.layer_names()
        return [name for _, name in found] or list(self._store.names)

    def table(self) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
        """ids (n,), labels (n,), class names."""
        labels = self._store.labels
        names = self._store.class_names
        labels = np.full(len(self._store), -1) if labels is None else np.asarray(labels)
        return self._store.ids, labels, None if names is None else list(names)

    def vectors(self, layer: str, rows: np.ndarray) -> np.ndarray:
        """Rows (m, D) of a layer."""
        found = np.asarray(self._store.features(layer)[rows])
        return found.astype(bool) if layer == "bits" else found.astype(np.float32)

    def identity(self) -> str:
        """What tells one store from another."""
        return self._store.fingerprint

    def image(self, item: str):
        """The picture of an item, from its source."""
        if item not in self._rows:
            raise Refused(404, f"there is no item {item[:80]!r} in the store {self.name}.")
        with self._lock:
            try:
                return opened(image_of(str(self._store.sources[self._rows[item]]), self._tables, item))
            except Exception as error:  # decoders raise almost anything on damaged files
                raise FileNotFoundError(f"the picture of {item} cannot be read from its source ({error}).") from error

    def thumbnail(self, item: str) -> bytes:
        """Small picture of an item."""
        return thumbnail_of(self.image(item), THUMBNAIL)

    def label_of(self, item: str) -> str:
        """File name of an item."""
        return str(self._store.sources[self._rows[item]])


class Shelf:
    """Galleries and stores by name; the names are those of their folders, numbered where two are alike."""

    def __init__(self, folders: Sequence[Path], embedder_of: Callable[[Gallery], Embedder] | None = None):
        self._kept: dict[str, GalleryOnShelf | StoreOnShelf] = {}
        for folder in folders:
            stem = name = Path(folder).resolve().name or "gallery"
            number = 1
            while name in self._kept:
                number += 1
                name = f"{stem}-{number}"
            self._kept[name] = StoreOnShelf(name, Path(folder)) if is_store(folder) else GalleryOnShelf(name, Path(folder), embedder_of)

    def __iter__(self) -> Iterator[GalleryOnShelf | StoreOnShelf]:
        return iter(self._kept.values())

    def __getitem__(self, name: str) -> GalleryOnShelf | StoreOnShelf:
        if name not in self._kept:
            raise Refused(404, f"there is no gallery {name[:80]!r} here; there is {', '.join(self._kept) or 'none'}.")
        return self._kept[name]

    def gallery(self, name: str) -> GalleryOnShelf:
        """A gallery by name; a store is refused."""
        found = self[name]
        if not isinstance(found, GalleryOnShelf):
            raise Refused(400, f"{name} is a feature store, which shows clusters only; make a gallery with `bigr index --store`.")
        return found


def is_store(folder: str | Path) -> bool:
    """Whether a folder is a feature store."""
    try:
        return json.loads((Path(folder) / "manifest.json").read_bytes())["kind"] == STORE.kind
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stamp(folder: Path) -> tuple:
    """The folder itself, and names, sizes and times of its files; reading changes those in memory (-shm) only."""
    files = [entry for entry in os.scandir(folder) if entry.is_file() and not entry.name.endswith("-shm")]
    entries = sorted((entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in files)
    return os.stat(folder).st_ino, tuple(entries)
