"""Lengths of vectors.   n rows, D columns"""

from __future__ import annotations

import numpy as np

from .checks import some

BLOCK = 1024  # rows at a time, few enough to stay in cache


def unit_length(rows: np.ndarray, zero: str = "keep", out: np.ndarray | None = None) -> np.ndarray:
    """Rows scaled to length 1, float32, without overflow or underflow of their squares.

    Parameters
    ----------
    rows : array (n, D)
        Numbers of any real dtype. It is not changed.
    zero : "keep" or "refuse"
        A row of zeros has no direction: it stays zero (cosine 0 with everything), or is an error.
    out : float32 array (n, D), optional
        Where to write the result; may be `rows`.

    Raises
    ------
    ValueError
        If zero="refuse" and rows are all zero, naming the first of them; for an unknown `zero`.
    """
    if zero not in ("keep", "refuse"):
        raise ValueError(f"zero={zero!r}; choose keep or refuse.")
    rows = np.asarray(rows)
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float32)
    unit = np.empty(rows.shape, np.float32) if out is None else out
    empty: list[int] = []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
        if not ((lengths > 1e-15) & (lengths < 1e15)).all():  # squares of very small or large features leave the range of floats
            largest = np.abs(block).max(1, keepdims=True)
            block = block / np.where(largest > 0, largest, 1)
            lengths = np.sqrt(np.einsum("nd,nd->n", block, block))
            empty += (start + np.flatnonzero(lengths == 0)).tolist()
            lengths[lengths == 0] = 1
        np.divide(block, lengths[:, None], out=unit[start : start + BLOCK], casting="same_kind")
    if empty and zero == "refuse":
        which = "1 row is all zero and has" if len(empty) == 1 else f"{len(empty)} rows are all zero and have"
        raise ValueError(f"{which} no direction to compare by cosine ({some(empty, 8)}); leave out such items, or use another metric.")
    return unit
