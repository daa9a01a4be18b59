"""Checks of vectors where they enter: shapes and values, once.   m rows, Q queries, D features, K bits"""

from __future__ import annotations

import numpy as np

from ..functional.vectors import unit_length


def check_features(features, dim: int | None, what: str = "features") -> np.ndarray:
    """float16 or float32 (m, D), finite, none all zero, for which cosine is not defined.

    Raises
    ------
    TypeError, ValueError
    """
    features = np.asarray(features)
    if features.dtype.kind != "f":
        raise TypeError(f"{what} have dtype {features.dtype}; expected floats.")
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{what} have shape {features.shape}; expected (number, {'width' if dim is None else dim}).")
    if dim is not None and features.shape[1] != dim:
        raise ValueError(
            f"{what} have {features.shape[1]} columns, but the gallery holds vectors of {dim}; take the same model, layer and pooling."
        )
    if features.dtype not in (np.float16, np.float32):
        with np.errstate(over="ignore"):
            features = features.astype(np.float32)
    if not np.isfinite(features).all():
        where = np.flatnonzero(~np.isfinite(features).all(1))
        raise ValueError(f"{what} hold NaN or infinite values, first in row {where[0]} ({len(where)} of {len(features)} rows).")
    zero = np.flatnonzero(~features.any(1))
    if len(zero):
        raise ValueError(f"{what} are all zero in row {zero[0]} ({len(zero)} of {len(features)} rows), which has no direction to compare.")
    return features


def check_bits(bits, num_bits: int | None, what: str = "bits") -> np.ndarray:
    """Packed bits (m, ceil(K / 8)); TypeError or ValueError otherwise."""
    bits = np.asarray(bits)
    if bits.dtype != np.uint8:
        raise TypeError(f"{what} have dtype {bits.dtype}; expected uint8, eight bits a byte, as packing.pack_bits gives.")
    expected = "bytes" if num_bits is None else -(-num_bits // 8)
    if bits.ndim != 2 or bits.shape[1] == 0 or (num_bits is not None and bits.shape[1] != expected):
        raise ValueError(f"{what} have shape {bits.shape}; expected (number, {expected}), packed by packing.pack_bits.")
    return bits


def combined(
    features: np.ndarray | None, bits: np.ndarray | None, weights: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Several queries as one: the mean of their directions (1, D), and the bits (1, bytes) that more than half of them have.

    With `weights` (Q,), some of which may be negative, their weighted sum, and the bits that the weighted votes are for.
    """
    if weights is None:
        features = None if features is None else unit_length(features).mean(0, keepdims=True)
        votes = None if bits is None else np.unpackbits(bits, axis=1).mean(0, keepdims=True) - 0.5
    else:
        features = None if features is None else weights[None] @ unit_length(features)
        votes = None if bits is None else weights[None] @ (np.unpackbits(bits, axis=1).astype(np.float32) - 0.5)
    if features is not None and not features.any():
        raise ValueError("the queries cancel out: the mean of their directions is zero; search by each of them.")
    return features, None if votes is None else np.packbits(votes > 0, axis=1)
