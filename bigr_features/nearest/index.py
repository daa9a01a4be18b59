"""faiss indexes of vectors by cosine and of packed bits by Hamming distance, built, grown, and read back from files with care.

n rows, D features, Q queries, k hits
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..functional.vectors import unit_length
from ..storage.append_file import chunks

log = logging.getLogger(__name__)

FLAT_LIMIT = 100_000  # rows up to which "auto" searches all vectors
FLAT_BITS_LIMIT = 2_000_000
LARGEST_NUMBER = 1 << 20  # in a factory string, of lists, say: faiss takes memory for more before it looks at any row
LIMITS = ("loop_limit", "vector_byte_limit", "lattice_r2_limit")
READING = threading.Lock()  # faiss keeps these limits for the whole process


def chosen_factory(index: str, metric: str, count: int) -> str:
    """The faiss factory string that "auto" and "flat" stand for, by size; any other string is returned as it is.

    Parameters
    ----------
    index : "auto", "flat", or a factory string
        Such as "HNSW32", "IVF1024,SQfp16" or "IVF1024,PQ18" by cosine, "BHNSW16" or "BIVF256" on bits.
    metric : "cosine" or "hamming"
    count : int
        n.
    """
    prefix = "" if metric == "cosine" else "B"
    if index == "flat" or (index == "auto" and count <= (FLAT_LIMIT if metric == "cosine" else FLAT_BITS_LIMIT)):
        return f"{prefix}Flat"
    if index == "auto":
        lists = 2 ** round(np.log2(4 * count**0.5))
        return f"IVF{lists},SQfp16" if metric == "cosine" else f"BIVF{lists}"
    return index


def check_factory(factory: str) -> None:
    """Raise ValueError for a factory string with which faiss would end the whole process, or whose index cannot grow."""
    numbers, degrees = ([int(number) for number in re.findall(pattern, factory)] for pattern in (r"\d{1,30}", r"HNSW(\d{1,30})"))
    if max(numbers, default=0) > LARGEST_NUMBER:
        raise ValueError(f"index {factory!r} has a number above {LARGEST_NUMBER}; take fewer lists, links or bytes.")
    if min(degrees, default=2) < 2:
        raise ValueError(f"index {factory!r} has graphs of {min(degrees)} links a row; take 2 or more, such as HNSW32.")
    for part, reason in {"NSG": "cannot be added to", "IDMap": "keeps ids, which a gallery does by itself"}.items():
        if part in factory:
            raise ValueError(f"index {factory!r} cannot be used, for {part} {reason}; take HNSW32 or 'IVF256,Flat'.")


class VectorIndex:
    """Rows by cosine: a faiss index of inner products of rows of length 1.

    Parameters
    ----------
    dim : int
        D.
    factory : str
        A faiss factory string.
    effort : int, optional
        Lists searched (IVF, by default a 32nd of them and at least 8) or candidates kept (HNSW, by default 128): more finds more, slower.

    Raises
    ------
    ValueError
        If faiss cannot make such an index.
    """

    metric = "cosine"
    dtype = np.dtype(np.float32)

    def __init__(self, dim: int, factory: str, effort: int | None = None):
        check_factory(factory)
        self.dim, self.factory, self.effort = dim, factory, effort
        self._index = self._new()
        self.is_flat = type(self._index).__name__ in ("IndexFlat", "IndexFlatIP", "IndexBinaryFlat")
        self.set_effort(self.effort)

    def __len__(self) -> int:
        return self._index.ntotal

    def _new(self):
        import faiss

        try:
            return faiss.index_factory(self.dim, self.factory, faiss.METRIC_INNER_PRODUCT)
        except (RuntimeError, MemoryError) as error:
            raise ValueError(
                f"faiss makes no index {self.factory!r} of {self.dim} features by inner product ({_reason(error)}); "
                "try Flat, HNSW32, 'IVF256,Flat' or 'IVF256,PQ16'."
            ) from error

    def _prepared(self, rows) -> np.ndarray:
        return unit_length(rows)

    def set_effort(self, effort: int | None) -> None:
        """Search so many lists (IVF) or keep so many candidates (HNSW) from now on; None is the default."""
        self.effort = effort
        for part in _parts(self._index):
            if hasattr(part, "nprobe") and hasattr(part, "nlist"):
                part.nprobe = min(part.nlist, effort or max(8, part.nlist // 32))
            elif hasattr(part, "hnsw"):
                part.hnsw.efSearch = effort or 128

    def build(self, rows, seed: int = 0) -> None:
        """Train on a sample, if this kind learns anything, and add all rows (n, D), some at a time.

        Raises
        ------
        ValueError
            If there are too few rows to learn from.
        """
        if not self._index.is_trained:
            lists = max([part.nlist for part in _parts(self._index) if hasattr(part, "nlist")], default=0)
            if len(rows) < lists:
                raise ValueError(f"index {self.factory!r} has {lists} lists, more than the {len(rows)} rows; take fewer lists, or flat.")
            if len(rows) < 39 * lists:
                log.warning("index %s learns %d lists from %d rows; %d or more are better", self.factory, lists, len(rows), 39 * lists)
            most = max(65536, 64 * lists)
            picked = np.sort(np.random.default_rng(seed).permutation(len(rows))[:most])
            try:
                self._index.train(self._prepared(rows[picked] if len(picked) < len(rows) else rows[:]))
            except RuntimeError as error:
                raise ValueError(f"index {self.factory!r} cannot learn from {len(rows)} rows ({_reason(error)}); take flat.") from error
        for block in chunks(rows):
            self.add(block)

    def add(self, rows: np.ndarray) -> None:
        """Append rows (m, D)."""
        if len(rows):
            self._index.add(self._prepared(rows))

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Scores (Q, k), best first, and row numbers (Q, k), which are -1 where nothing more was found; of rows `allowed`, bool (n,)."""
        queries, k = self._prepared(queries), min(k, len(self))
        if allowed is None or allowed.all():
            return self._index.search(queries, k)
        import faiss

        try:
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
            return self._index.search(queries, k, params=_selecting(self._index, selector))
        except RuntimeError:  # this kind takes no selector: search for more than is needed, and drop what does not count
            most = min(len(self), round(1.2 * k * len(self) / max(1, int(allowed.sum()))) + 10)
            scores, rows = self._index.search(queries, most)
            counts = (rows >= 0) & allowed[rows]
            order = np.argsort(~counts, axis=1, kind="stable")[:, :k]  # what counts first, in its order
            return np.take_along_axis(scores, order, 1), np.take_along_axis(np.where(counts, rows, -1), order, 1)

    def write(self, path: Path) -> dict:
        """Write the index to a file; returns its name, bytes and SHA-256."""
        import faiss

        write = faiss.write_index if self.metric == "cosine" else faiss.write_index_binary
        digest = hashlib.sha256()
        try:
            with path.open("wb") as file:

                def put(content: bytes) -> int:
                    file.write(content)
                    digest.update(content)
                    return len(content)

                write(self._index, faiss.PyCallbackIOWriter(put))
                file.flush()
                os.fsync(file.fileno())
                return {"file": path.name, "bytes": file.tell(), "sha256": digest.hexdigest()}
        except (OSError, RuntimeError) as error:
            number = getattr(error, "errno", None) or errno.EIO
            raise OSError(number, f"the index cannot be written ({_reason(error)}); the gallery stays as it was", str(path)) from error

    def read(self, file: BinaryIO, entry: dict) -> None:
        """Take the content of a file in place of one's own, if it is what a database says; see `reading_limits`.

        Raises
        ------
        ValueError
            If the file is damaged, or holds an index of another kind, width or number of rows.
        """
        import faiss

        read, name, count = faiss.read_index if self.metric == "cosine" else faiss.read_index_binary, entry["file"], entry["rows"]
        file.seek(0)
        digest, size = _digest(file), file.tell()
        if size != entry["bytes"] or digest.hexdigest() != entry["sha256"]:
            raise ValueError(f"{name} is damaged: its size or SHA-256 is not the one in the database")
        file.seek(0)
        try:
            with reading_limits(size):
                found = read(faiss.PyCallbackIOReader(file.read))
        except (RuntimeError, MemoryError, OSError) as error:
            raise ValueError(f"{name} is damaged ({_reason(error)})") from error
        if (type(found), found.d, found.ntotal) != (type(self._index), self._index.d, count):
            raise ValueError(
                f"{name} holds a {type(found).__name__} of {found.ntotal} rows of width {found.d}, "
                f"not a {type(self._index).__name__} of {count} rows of width {self._index.d}"
            )
        self._index = found
        self.set_effort(self.effort)


class BitIndex(VectorIndex):
    """Packed bits (n, bytes) by Hamming distance; as `VectorIndex`, with distances in bits as scores, smallest first."""

    metric = "hamming"
    dtype: np.dtype = np.dtype(np.uint8)

    def _new(self):
        import faiss

        try:
            index = faiss.index_binary_factory(8 * self.dim, self.factory)
            if hasattr(index, "query_batch_size"):
                index.query_batch_size = 256  # queries that share a pass over the rows: a little faster than faiss's 32
            return index
        except (RuntimeError, MemoryError) as error:
            raise ValueError(
                f"faiss makes no binary index {self.factory!r} of {8 * self.dim} bits ({_reason(error)}); try BFlat, BHNSW16 or BIVF256."
            ) from error

    def _prepared(self, rows) -> np.ndarray:
        return np.ascontiguousarray(rows, dtype=np.uint8)


@contextlib.contextmanager
def reading_limits(size: int) -> Iterator[None]:
    """Let faiss refuse, while a file of `size` bytes is read, any array or loop longer than the file could hold.

    faiss has these limits for the whole process only: they are put back afterwards, and one thread at a time reads.
    """
    import faiss

    limits = {"loop_limit": size, "vector_byte_limit": size, "lattice_r2_limit": 1 << 20}
    with READING:
        before = {name: getattr(faiss, f"get_deserialization_{name}")() for name in LIMITS if hasattr(faiss, f"get_deserialization_{name}")}
        try:
            for name in before:
                getattr(faiss, f"set_deserialization_{name}")(limits[name])
            yield
        finally:
            for name, value in before.items():
                getattr(faiss, f"set_deserialization_{name}")(value)


def _selecting(index, selector):
    """Search parameters of a kind of index with a selector of rows; what else they hold is as the index has it."""
    import faiss

    index = faiss.downcast_index(index) if isinstance(index, faiss.Index) else index
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_selecting(index.index, selector))
    if isinstance(index, faiss.IndexRefine):
        return faiss.IndexRefineSearchParameters(base_index_params=_selecting(index.base_index, selector), k_factor=index.k_factor)
    if isinstance(index, faiss.IndexIVF):
        return faiss.SearchParametersIVF(sel=selector, nprobe=index.nprobe)
    if isinstance(index, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(sel=selector, efSearch=index.hnsw.efSearch)
    return faiss.SearchParameters(sel=selector)


def _digest(file: BinaryIO):
    digest = hashlib.sha256()
    while block := file.read(1 << 22):
        digest.update(block)
    return digest


def _parts(index) -> Iterator:
    """An index and those inside it."""
    import faiss

    yield index
    inner = getattr(index, "index", None) or getattr(index, "base_index", None)
    if inner is not None:
        yield from _parts(faiss.downcast_index(inner))


def _reason(error: Exception) -> str:
    """The end of a faiss message, which begins with a C++ signature and a line number."""
    return re.sub(r"\s+", " ", re.sub(r"^.*\.(?:cpp|h):\d+: ", "", str(error), flags=re.DOTALL))[:160]
