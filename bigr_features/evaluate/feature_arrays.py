"""Feature arrays as the metrics of generation take them.   n samples, D features"""

from __future__ import annotations

import numpy as np

BLOCK_BYTES = 2**26  # of what is computed at a time


def feature_array(features, name: str = "features", at_least: int = 2) -> np.ndarray:
    """Features as a float64 array (n, D), checked; a float64 array is not copied.

    Raises
    ------
    ValueError
        For another shape, fewer than `at_least` samples, or values that are not finite.
    """
    array = np.asarray(features)
    if array.ndim != 2 or len(array) < at_least or array.shape[1] < 1:
        raise ValueError(f"{name} have shape {array.shape}; expected (n, D) with n of {at_least} or more.")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} have dtype {array.dtype}; expected real numbers.")
    array = array.astype(np.float64, copy=False)
    for start in range(0, len(array), rows_per_block(array.shape[1])):
        block = array[start : start + rows_per_block(array.shape[1])]
        if not np.isfinite(block).all():
            row = start + int(np.flatnonzero(~np.isfinite(block).all(1))[0])
            raise ValueError(f"{name} hold NaN or infinite values, the first in row {row}; check the network and its input.")
    return array


def feature_pair(features, reference, at_least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Two float64 arrays (n, D) and (m, D) of the same D.

    Raises
    ------
    ValueError
        If they cannot come from the same network.
    """
    features, reference = feature_array(features, "features", at_least), feature_array(reference, "reference features", at_least)
    if features.shape[1] != reference.shape[1]:
        raise ValueError(
            f"features have {features.shape[1]} dimensions and the reference {reference.shape[1]}; "
            "give features of the same layer of the same network."
        )
    return features, reference


def rows_per_block(columns: int) -> int:
    """Rows of float64 numbers that fit into a block."""
    return max(16, BLOCK_BYTES // (8 * columns))
