"""Rows of an array that lies in several files, read when sliced.   n rows, D columns, N tokens, K bits"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..functional.packing import unpack_bits


class ShardedRows:
    """Rows (n, D) that lie in several files, read when sliced: `rows[5]`, `rows[10:20]`, `rows[indices]`, `rows[mask]`.

    A slice within one shard is a view of the file; everything else is a copy in memory. `numpy.asarray(rows)` reads all.

    Parameters
    ----------
    shards : list of array (n_i, D)
    bits : (N, K), optional
        The shards hold packed bits; rows are given unpacked, D = N K.
    """

    ndim = 2

    def __init__(self, shards: list[np.ndarray], bits: tuple[int, int] | None = None):
        self._shards, self._bits = shards, bits
        self._starts = np.cumsum([0, *map(len, shards)])
        self.dtype = shards[0].dtype
        self.shape = (int(self._starts[-1]), shards[0].shape[1] if bits is None else bits[0] * bits[1])

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __repr__(self) -> str:
        return f"ShardedRows(shape={self.shape}, dtype={self.dtype}, {len(self._shards)} shards)"

    def __iter__(self) -> Iterator[np.ndarray]:
        for shard in self._shards:
            yield from self._unpacked(shard)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError("the rows lie in files, so an array of them is always a copy; leave out copy=False.")
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, key):
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if not isinstance(columns, int | np.integer | slice):
            raise IndexError(f"columns are chosen by a number or a slice, not by {type(columns).__name__}; read the rows first.")
        if isinstance(rows, int | np.integer):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"row {rows} is out of range; there are {len(self)} rows.")
            return self._take(np.array([rows % len(self)]))[0][columns]
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            found = self._between(start, stop) if step == 1 else self._take(np.arange(start, stop, step))
        else:
            found = self._take(self._as_indices(np.asarray(rows)))
        return found[:, columns]

    def _as_indices(self, rows: np.ndarray) -> np.ndarray:
        if rows.dtype == bool:
            if rows.shape != (len(self),):
                raise IndexError(f"the mask has shape {rows.shape}; expected ({len(self)},).")
            return np.flatnonzero(rows)
        if rows.size == 0:
            return rows.astype(np.int64)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise IndexError(f"rows are chosen by integers or a mask, not by an array of {rows.dtype} and shape {rows.shape}.")
        if rows.min() < -len(self) or rows.max() >= len(self):
            raise IndexError(f"row {rows.max() if rows.max() >= len(self) else rows.min()} is out of range; there are {len(self)} rows.")
        return rows.astype(np.int64) % len(self)

    def _unpacked(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._bits is None else unpack_bits(rows, *self._bits).reshape(len(rows), self.shape[1])

    def _between(self, start: int, stop: int) -> np.ndarray:
        parts = [
            shard[max(start - first, 0) : stop - first]
            for first, shard in zip(self._starts[:-1], self._shards, strict=True)
            if first < stop and first + len(shard) > start
        ]
        if not parts:
            return np.empty((0, self.shape[1]), self.dtype)
        return self._unpacked(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def _take(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self._shards[0].shape[1]), self.dtype)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        for shard in np.unique(shard_of):
            here = np.flatnonzero(shard_of == shard)
            found[here] = self._shards[shard][rows[here] - self._starts[shard]]
        return self._unpacked(found)
