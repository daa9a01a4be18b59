"""A gallery on disk: numbered files that are written once, and one manifest that names those that count.

Every change writes new files under the next generation number, then replaces `manifest.json`; that replacement is the change. A
process killed before it leaves the old gallery and some files nobody names, which the next change deletes; killed after it, the new
one. Vectors, ids and index are therefore always of one generation.   n items, D features
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ..storage.atomic import file_sha256, write_atomically
from ..storage.manifests import MANIFEST, read_manifest

log = logging.getLogger(__name__)

KIND = "bigr_features gallery"
FORMAT = 1
CHUNK_BYTES = 64 << 20
NAME = re.compile(r"[a-z_]+_(\d{6})\.(npy|jsonl|bin|faiss)")


class Writer:
    """Files of one new generation, and the manifest that makes them count.

    Parameters
    ----------
    folder : Path
    expected : int or None
        Generation of the gallery that the change was made from; None if there is none yet.

    Raises
    ------
    BlockingIOError
        If another process is changing the gallery.
    ValueError
        If it was changed since it was opened.
    """

    def __init__(self, folder: Path, expected: int | None):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(folder)
        try:
            found = read_gallery_manifest(folder)["generation"] if (folder / MANIFEST).is_file() else None
            if found != expected:
                raise ValueError(f"the gallery {folder} was changed by another process since it was opened here; open it again.")
        except BaseException:
            self.close()
            raise
        numbers = [int(match[1]) for path in folder.iterdir() if (match := NAME.fullmatch(path.name))]
        self.generation = max([0, found or 0, *numbers]) + 1

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Let others change the gallery."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def path(self, part: str, suffix: str) -> Path:
        """Where a file of this generation is written."""
        return self.folder / f"{part}_{self.generation:06d}.{suffix}"

    def array(self, part: str, rows, dtype: np.dtype | str | None = None) -> dict:
        """Write rows, which may lie on disk, as a .npy file, some at a time; returns its entry for the manifest."""
        dtype = np.dtype(rows.dtype if dtype is None else dtype)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(rows.shape)}

        def content() -> Iterator[bytes]:
            step = max(1, CHUNK_BYTES // max(1, dtype.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))))
            for start in range(0, len(rows), step):
                yield np.ascontiguousarray(rows[start : start + step], dtype=dtype).tobytes()

        return self._write(self.path(part, "npy"), content(), header)

    def lines(self, part: str, items: Iterable[dict]) -> dict:
        """Write one JSON object a line."""
        return self._write(self.path(part, "jsonl"), ((json.dumps(item, allow_nan=False) + "\n").encode() for item in items))

    def blobs(self, part: str, blobs: Iterable[bytes]) -> dict:
        """Write bytes one after the other."""
        return self._write(self.path(part, "bin"), blobs)

    def _write(self, path: Path, content: Iterable[bytes], header: dict | None = None) -> dict:
        digest = hashlib.sha256()
        with path.open("wb") as file:
            if header is not None:
                np.lib.format.write_array_header_1_0(file, header)
                file.flush()
                digest.update(path.read_bytes())
            for block in content:
                file.write(block)
                digest.update(block)
            file.flush()
            os.fsync(file.fileno())
            return {"file": path.name, "bytes": file.tell(), "sha256": digest.hexdigest()}

    def existing(self, path: Path) -> dict:
        """The entry of a file that something else wrote."""
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}

    def commit(self, manifest: dict) -> dict:
        """Replace the manifest: from now on the new files count. Then delete those that no longer do."""
        manifest = {"kind": KIND, "format": FORMAT, **manifest, "generation": self.generation}
        write_atomically(self.folder / MANIFEST, (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode())
        named = {entry["file"] for entry in entries(manifest)}
        for path in self.folder.iterdir():
            if (NAME.fullmatch(path.name) and path.name not in named) or path.name.startswith(f".{MANIFEST}."):
                with contextlib.suppress(OSError):  # Windows keeps files that are mapped
                    path.unlink()
        return manifest


def _lock(folder: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows: one writer at a time is then up to the user
        return None
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise BlockingIOError(f"another process is changing the gallery {folder}; wait until it is done.") from error
    return handle


def read_gallery_manifest(folder: Path) -> dict:
    """The manifest of a gallery.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is none, it is damaged, of another format, or names files outside the gallery.
    """
    remedy = "the vectors are still in the .npy files beside it; index again"
    manifest = read_manifest(folder, "gallery", kind=KIND, format=FORMAT, command="bigr index", remedy=remedy)
    try:
        _check_structure(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST} is damaged ({type(error).__name__}: {error}); index again.") from error
    return manifest


def _check_structure(manifest: dict) -> None:
    for key in ("generation", "num_rows", "num_removed"):
        if type(manifest[key]) is not int or manifest[key] < 0:
            raise TypeError(f"{key} is {manifest[key]!r}")
    if sum(segment["count"] for segment in manifest["segments"]) != manifest["num_rows"]:
        raise TypeError("the segments do not add up to num_rows")
    for entry in entries(manifest):
        if not NAME.fullmatch(entry["file"]) or type(entry["bytes"]) is not int or not re.fullmatch("[0-9a-f]{64}", entry["sha256"]):
            raise TypeError(f"{entry['file']!r} is no file of a gallery")


def entries(manifest: dict) -> Iterator[dict]:
    """Entries of all files that a manifest names."""
    for segment in manifest["segments"]:
        yield from segment["files"].values()
    yield from manifest["binarizer"].values() if manifest["binarizer"] else ()
    for part in ("removed", "index_file"):
        if manifest[part]:
            yield manifest[part]


def check_files(folder: Path, manifest: dict, contents: bool) -> None:
    """Raise FileNotFoundError or ValueError if a file other than the index is missing, cut short or (`contents`) changed."""
    for entry in entries(manifest):
        path = folder / entry["file"]
        if entry is manifest["index_file"]:
            continue
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing from the gallery; copy the whole folder again, or index again.")
        size = path.stat().st_size
        if size != entry["bytes"]:
            changed = f"it has {size} bytes, not {entry['bytes']}"
            raise ValueError(f"{path} is truncated or was changed: {changed}. Copy it again, or index again.")
        if contents and file_sha256(path) != entry["sha256"]:
            raise ValueError(f"{path} is damaged: its SHA-256 is not the one in {MANIFEST}. Copy it again, or index again.")


def load_array(folder: Path, entry: dict, shape: tuple[int, ...], kinds: str) -> np.ndarray:
    """An array of a gallery, memory-mapped; ValueError unless it has this shape and a dtype of these kinds."""
    path = folder / entry["file"]
    try:
        array = np.load(path, mmap_mode="r" if 0 not in shape else None, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again, or index again.") from error
    if array.shape != shape or array.dtype.kind not in kinds:
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}, but {shape} is expected; index again.")
    return array
