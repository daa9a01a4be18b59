"""Vectors on disk: one file for each kind, to which rows are only ever appended.   n rows, D columns

The database records each append with its checksum. A file that is longer than the database knows ends in an append that was killed,
which the next write trims.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from .atomic import sync_folder

CHUNK_BYTES = 64 << 20


class AppendFile:
    """A file of rows, of which the first n count.

    Parameters
    ----------
    path : Path
    dtype : str
    width : int
        D.
    """

    def __init__(self, path: Path, dtype: str, width: int):
        self.path, self.dtype, self.width = path, np.dtype(dtype), width
        self.row_bytes = self.dtype.itemsize * width

    def rows_there(self) -> int:
        """Whole rows in the file; FileNotFoundError if it is missing."""
        try:
            return self.path.stat().st_size // self.row_bytes
        except FileNotFoundError as error:
            message = f"{self.path} is missing from the gallery; copy the whole folder again, or index again."
            raise FileNotFoundError(message) from error

    def read(self, count: int) -> np.ndarray:
        """The first rows (count, D), memory-mapped; ValueError if the file is too short."""
        there = self.rows_there()
        if there < count:
            raise ValueError(f"{self.path} is truncated: it has {there} rows, not {count}. Copy it again, or index again.")
        if count == 0:
            return np.empty((0, self.width), self.dtype)
        return np.memmap(self.path, self.dtype, "r", shape=(count, self.width))

    def cast(self, rows: np.ndarray) -> np.ndarray:
        """Rows in the file's own dtype; ValueError for numbers beyond it."""
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(rows, dtype=self.dtype)
        if cast.dtype != rows.dtype and not np.isfinite(cast).all():
            raise ValueError(f"features are too large for {self.dtype.name}, as {self.path.name} keeps them; begin anew with float32 ones.")
        return cast

    def append(self, start: int, blocks: Iterable[np.ndarray]) -> tuple[int, str]:
        """Write rows after the first `start`, over whatever a killed append left there; returns their number and SHA-256.

        Raises
        ------
        OSError
            Naming the file, if the disk is full; the file then ends where it ended.
        """
        digest, count, is_new = hashlib.sha256(), 0, not self.path.exists()
        try:
            with self.path.open("xb" if is_new else "r+b", buffering=0) as file:  # a buffer would be written behind an error
                file.truncate(start * self.row_bytes)
                file.seek(start * self.row_bytes)
                try:
                    for block in blocks:
                        content = np.ascontiguousarray(block, dtype=self.dtype).data.cast("B")
                        written = 0
                        while written < len(content):
                            written += file.write(content[written:])
                        digest.update(content)
                        count += len(block)
                except BaseException:
                    file.truncate(start * self.row_bytes)
                    raise
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self.path.parent)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror or error}; the gallery stays as it was", str(self.path)) from error
        return count, digest.hexdigest()

    def check(self, rows: np.ndarray, appends: Iterable[tuple[int, int, str]]) -> int | None:
        """Compare rows, as `read` gave them, with the start, number and SHA-256 of each append; the first row of which none is known.

        Raises
        ------
        ValueError
            If a checksum differs.
        """
        done = 0
        for start, count, sha256 in appends:
            if start != done:
                return done
            if start < len(rows):
                digest = hashlib.sha256()
                for block in chunks(rows[: start + count], start):
                    digest.update(np.ascontiguousarray(block).data.cast("B"))
                if digest.hexdigest() != sha256:
                    where = f"rows {start} to {start + count}"
                    raise ValueError(f"{self.path} is damaged: {where} have another SHA-256 than recorded. Copy it again, or index again.")
            done = start + count
        return done if done < len(rows) else None


def chunks(rows, start: int = 0, made: Callable = lambda block: block, where: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Rows from `start` on, or those numbered `where`, some at a time, each block passed through `made`."""
    step = max(1, CHUNK_BYTES // max(1, rows.dtype.itemsize * rows.shape[1]))
    count = len(rows) if where is None else len(where)
    for first in range(start, count, step):
        part = slice(first, min(first + step, count))
        yield made(rows[part] if where is None else rows[where[part]])
