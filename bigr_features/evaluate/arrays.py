"""Features and labels as evaluators read them: checked, and row block by row block, so that a memory-mapped store need not fit in memory.

n samples, D features, m rows of a block
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_consistent_length, column_or_1d, validate_data
from torch import Tensor

from .devices import CPU, has_float64

log = logging.getLogger(__name__)
BLOCK_BYTES = 2**25  # of one block of rows: two fit in the cache of most machines, and one is enough to keep all cores busy
FLOATS = (np.float32, np.float64)


def check_features(estimator, X, reset: bool = False):
    """X (n, D) as an estimator may read it: an array in memory, or rows on disk as they are.

    Memory maps and other array-likes that are read by slices (the columns of a feature store) are passed through unread; everything else
    becomes a float32 or float64 array, as scikit-learn's own estimators do. Values are checked where they are first read.

    Raises
    ------
    ValueError
        If X is not a matrix of one sample or more, or has another number of features than the estimator was fitted on.
    """
    if not is_on_disk(X):
        return validate_data(estimator, X, dtype=list(FLOATS), reset=reset, ensure_all_finite=False)
    if len(X.shape) != 2 or 0 in X.shape:
        raise ValueError(f"features have shape {tuple(X.shape)}; expected (samples, features), at least one of each.")
    if np.dtype(X.dtype).kind not in "fiub":
        raise ValueError(f"features have dtype {X.dtype}; expected numbers.")
    _check_feature_names(estimator, X, reset=reset)
    _check_n_features(estimator, X, reset=reset)
    return X


def check_features_and_labels(estimator, X, y):
    """X as check_features gives it, and the classes and class indices of y.

    Returns
    -------
    X, classes (C,), indices int64 (n,)

    Raises
    ------
    ValueError
        If y is missing, has another length, is multilabel or continuous, or names fewer than two classes.
    """
    X = check_features(estimator, X, reset=True)
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None.")
    if type_of_target(y, input_name="y").startswith("multilabel"):
        raise ValueError(
            f"y is multilabel, shape {np.shape(y)}; {type(estimator).__name__} predicts one class for each sample. "
            "Give one label for each, or evaluate one class at a time."
        )
    y = column_or_1d(y, warn=True)
    check_consistent_length(X, y)
    check_classification_targets(y)
    classes, indices = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has one class only, {classes[0]!r}; a classifier needs at least 2 classes.")
    return X, classes, indices.astype(np.int64)


def is_on_disk(X) -> bool:
    """Whether X is to be read by slices: a memory map, or an array-like that is no array, list, table or sparse matrix."""
    if isinstance(X, np.memmap):
        return True
    return (
        not isinstance(X, (np.ndarray, Tensor, list, tuple))
        and type(X).__module__.split(".")[0]
        not in (
            "pandas",
            "polars",
            "pyarrow",
            "scipy",
            "sklearn",
        )
        and hasattr(X, "__getitem__")
        and hasattr(X, "dtype")
        and len(getattr(X, "shape", ())) > 0
    )


def read_blocks(X, rows: np.ndarray | None = None, dtype=np.float32, block_rows: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of X, or of the given rows of X in their order, as (positions, array (m, D)) with values checked.

    Raises
    ------
    ValueError
        If values are NaN or infinite, naming the rows.
    """
    n = X.shape[0] if rows is None else len(rows)
    step = block_rows or rows_per_block(X.shape[1], dtype)
    for start in range(0, n, step):
        place = slice(start, min(start + step, n))
        block = np.asarray(X[place] if rows is None else X[rows[place]]).astype(dtype, copy=False)
        check_finite(block, np.arange(place.start, place.stop) if rows is None else rows[place])
        yield place, block


def rows_per_block(num_features: int, dtype=np.float32) -> int:
    return max(64, BLOCK_BYTES // (num_features * np.dtype(dtype).itemsize))


def check_finite(block: np.ndarray, rows: np.ndarray | None = None) -> None:
    """Refuse NaN and infinite features.

    Raises
    ------
    ValueError
        Naming the first rows at fault.
    """
    with np.errstate(over="ignore"):
        if np.isfinite(block.sum()):  # a sum that overflows is looked at more closely
            return
    wrong = np.flatnonzero(~np.isfinite(block).all(axis=tuple(range(1, block.ndim))))
    if not len(wrong):
        return
    kind = "NaN" if np.isnan(block[wrong]).any() else "inf"
    rows = wrong if rows is None else rows[wrong]
    raise ValueError(
        f"features of items {', '.join(map(str, rows[:8]))}{' and more' if len(rows) > 8 else ''} hold {kind}; "
        "expected finite numbers. Leave these items out, or extract them again."
    )


class SelectedRows:
    """Some rows of X in their order, read when sliced: what `X[rows]` is, without a copy of it."""

    def __init__(self, X, rows: np.ndarray):
        self._X, self._rows, self.dtype = X, np.asarray(rows), X.dtype
        self.shape = (len(self._rows), *X.shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key):
        return self._X[self._rows[key]]


class SideBySide:
    """Columns of several arrays of the same rows, read when sliced: what `numpy.hstack` gives, without a copy of it.

    Raises
    ------
    ValueError
        If the arrays differ in length.
    """

    def __init__(self, parts):
        lengths = {part.shape[0] for part in parts}
        if len(lengths) != 1:
            raise ValueError(f"arrays of {', '.join(map(str, sorted(lengths)))} rows cannot stand side by side; give the same items.")
        self._parts = list(parts)
        self.dtype = np.result_type(np.float16, *(part.dtype for part in parts))
        self.shape = (lengths.pop(), sum(part.shape[1] for part in parts))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        return np.concatenate([np.asarray(part[rows]) for part in self._parts], axis=-1).astype(self.dtype, copy=False)


def in_memory_if_small(X, max_bytes: int, what: str = "features"):
    """X in memory, if it lies on disk and takes at most max_bytes; else X as it is, and a log line says that it is read in every pass."""
    size = int(np.prod(X.shape)) * np.dtype(X.dtype).itemsize
    if not is_on_disk(X):
        return X
    if size > max_bytes:
        tell_of_passes(what, size, max_bytes)
        return X
    loaded = np.empty(X.shape, X.dtype)
    step = max(1, BLOCK_BYTES * len(loaded) // max(1, size))
    for start in range(0, len(loaded), step):
        loaded[start : start + step] = X[start : start + step]
    return loaded


def tell_of_passes(what: str, size: int, max_bytes: int) -> None:
    """Log that something is too large to be kept in memory."""
    log.info(
        "the %s take %s in memory, more than the %s allowed (max_bytes): they are read from disk again in every pass, which is slower.",
        what,
        in_gib(size),
        in_gib(max_bytes),
    )


def in_gib(size: int) -> str:
    """A number of bytes for a message."""
    return f"{size / 2**30:.3g} GiB"


class StandardizedRows:
    """Rows of X with mean 0 and variance 1 in each feature, by block: from one copy in memory if that is small enough, else from X again.

    Parameters
    ----------
    X : array-like (n, D)
    rows : int array, optional
        The rows that count, ascending; default all. Mean and scale are theirs.
    max_bytes : int
        Largest copy to keep in memory. Rows that take more are read again in every pass, and a log line says so.
    device : torch.device
        Where the rows are given, and the copy is kept.
    widest : int
        Columns of the widest result that is made of a block; blocks have fewer rows if it is wider than X.

    Attributes
    ----------
    dtype : numpy dtype
        That of X if it is float64 and the device has that, else float32.
    mean, scale : float64 (D,)
        Scale is 1 where a feature is constant, as in scikit-learn's StandardScaler.
    constant : bool (D,)
    """

    def __init__(
        self,
        X,
        rows: np.ndarray | None = None,
        max_bytes: int = 2**32,
        device: torch.device = CPU,
        widest: int = 0,
    ):
        self.X, self.rows, self.device = X, rows, device
        self.dtype = np.float64 if X.dtype == np.float64 and has_float64(device) else np.float32
        self.shape = (X.shape[0] if rows is None else len(rows), X.shape[1])
        self.mean, self.scale, self.constant = _moments(X, rows, self.shape[0])
        self._step = rows_per_block(max(self.shape[1], widest), self.dtype)
        size = self.shape[0] * self.shape[1] * np.dtype(self.dtype).itemsize
        self.in_memory = size <= max_bytes
        if not self.in_memory and is_on_disk(X):
            tell_of_passes("standardised features", size, max_bytes)
        self._copies: dict[torch.dtype, Tensor] = {}
        if self.in_memory:
            full = torch.empty(self.shape, dtype=_torch_dtype(self.dtype), device=device)
            for place, block in self._read():
                full[place] = block
            self._copies[full.dtype] = full

    def blocks(self, dtype: torch.dtype | None = None) -> Iterator[tuple[slice, Tensor]]:
        """(positions, standardised rows (m, D)) in the given dtype; default that of X, float32 at least."""
        dtype = dtype or _torch_dtype(self.dtype)
        if not self.in_memory:
            for place, block in self._read():
                yield place, block.to(dtype)
            return
        if dtype not in self._copies:
            self._copies[dtype] = self._copies[_torch_dtype(self.dtype)].to(dtype)
        for start in range(0, self.shape[0], self._step):
            place = slice(start, min(start + self._step, self.shape[0]))
            yield place, self._copies[dtype][place]

    def _read(self) -> Iterator[tuple[slice, Tensor]]:
        for place, block in read_blocks(self.X, self.rows, self.dtype, self._step):
            yield place, standardized(block, self.mean, self.scale, self.device)


def standardized(block: np.ndarray, mean: np.ndarray, scale: np.ndarray, device: torch.device) -> Tensor:
    """(block - mean) / scale on a device, in the precision of the block; the block is not changed."""
    x = torch.from_numpy(np.array(block)).to(device)
    mean, scale = (torch.from_numpy(values.astype(block.dtype)).to(device) for values in (mean, scale))
    # a mean that is large beside the scale would lose digits if it were subtracted after a product with weights
    return x.sub_(mean).div_(scale)


def _moments(X, rows: np.ndarray | None, n: int, dtype=None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, scale and constancy; relative to the mean of the first block, so that large means cost no digits.

    Differences are taken in the precision of X, and summed in float64; all in float64 where float32 overflows.
    """
    precision = np.dtype(dtype or (X.dtype if X.dtype in FLOATS else np.float64))
    shift, total, squares = None, np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for _, block in read_blocks(X, rows, precision):
        ones = np.ones(len(block))
        shift = ones.astype(precision) @ block / precision.type(len(block)) if shift is None else shift
        block = block - shift
        total += ones @ block.astype(np.float64)
        with np.errstate(over="ignore"):
            squares += ones @ np.square(block, out=block).astype(np.float64)
    if precision == np.float32 and not np.isfinite(squares).all():
        return _moments(X, rows, n, np.float64)
    assert shift is not None  # n is 1 or more
    first = shift.astype(np.float64)
    scale = np.sqrt(np.maximum(squares - total**2 / n, 0) / n)
    mean = first + total / n
    constant = scale <= 10 * np.finfo(X.dtype if np.dtype(X.dtype).kind == "f" else np.float64).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, scale), constant


def _torch_dtype(dtype) -> torch.dtype:
    return {np.float32: torch.float32, np.float64: torch.float64}[dtype]
