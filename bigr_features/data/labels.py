"""Class indices out of a column of a table: integers, floats that are whole, or names; and rows without one.   n rows"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..functional.checks import short
from ..functional.printing import one_line

log = logging.getLogger(__name__)

MISSING = -1


def class_indices(values: Sequence, names: Sequence[str] | None, where: str) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Labels of rows, and names by label.

    Parameters
    ----------
    values : sequence (n,)
        Integers, whole floats, bools or strings; None, NaN, "" and -1 for a missing label.
    names : sequence of str, optional
        What the table calls the classes of its integers. Strings become classes in alphabetical order, as folders do.
    where : str
        The column, for messages.

    Returns
    -------
    labels : int64 array (n,), -1 where the label is missing; None if all are
    class_names : names by label, or None

    Raises
    ------
    ValueError
        For values that are no class indices, or negative ones whose meaning is not clear.
    """
    missing = np.array([value is None or value == "" or value != value for value in values], dtype=bool)
    known = [value for value, gone in zip(values, missing, strict=True) if not gone]
    if known and all(isinstance(value, str) for value in known):
        names = sorted(set(known))
        numbers = {name: i for i, name in enumerate(names)}
        indices = np.array([numbers[value] for value in known], dtype=np.int64)
    else:
        indices = _integers(known, where)
    if names is None and set(np.unique(indices).tolist()) == {-1, 1}:
        raise ValueError(f"{where} holds -1 and 1: is -1 a class, or a missing label? Write 0 and 1, or null for what is missing.")
    labels = np.full(len(missing), MISSING, dtype=np.int64)
    labels[~missing] = indices
    negative = np.flatnonzero(labels < MISSING)
    if len(negative):
        raise ValueError(
            f"{where} holds {len(negative)} negative labels, such as {labels[negative[0]]} in row {negative[0]}; "
            "class indices are 0 or more, and -1 or null marks a missing one."
        )
    count = int((labels == MISSING).sum())
    if count == len(labels):
        log.warning("all %d labels of %s are missing (-1 or null): the images are taken without labels", count, where)
        return None, None
    if count:
        log.warning("%d of %d labels of %s are missing (-1 or null)", count, len(labels), where)
    return labels, None if names is None else tuple(names)


def _integers(known: list, where: str) -> np.ndarray:
    try:
        numbers = np.asarray(known) if known else np.empty(0, np.int64)
    except ValueError:  # lists of different lengths
        numbers = np.empty((len(known), 0))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iubf" or (numbers.dtype.kind == "f" and (numbers % 1 != 0).any()):
        odd = next((value for value in known if isinstance(value, bool | str | list | dict) or value % 1 != 0), known[0])
        raise ValueError(f"{where} holds no class indices but, for one, {one_line(short(odd))}; one integer or name an image is expected.")
    return numbers.astype(np.int64)


def renamed(labels: np.ndarray, names: Sequence[str] | None, known: Sequence[str] | None) -> tuple[np.ndarray, list[str] | None]:
    """Labels that mean `names` as labels of a gallery that knows the classes `known`, and all its classes then.

    Raises
    ------
    ValueError
        If a label has no name.
    """
    if names is None:
        return labels, None if known is None else list(known)
    if labels.size and labels.max() >= len(names):
        raise ValueError(f"label {labels.max()} has no name; there are {len(names)} class_names.")
    known = list(known or [])
    known += [name for name in dict.fromkeys(names) if name not in known]
    numbers = np.array([*(known.index(name) for name in names), -1])  # the last is that of no label
    return numbers[labels], known


def check_labels(labels, count: int) -> np.ndarray:
    """Labels as int64 (count,), -1 for none; TypeError or ValueError for others."""
    if labels is None:
        return np.full(count, -1, dtype=np.int64)
    labels = np.asarray(labels)
    if labels.ndim != 1 or (labels.dtype.kind not in "iu" and labels.size):
        raise TypeError(f"labels have dtype {labels.dtype} and shape {labels.shape}; expected one integer an item, -1 for none.")
    if labels.size and labels.min() < -1:
        raise ValueError(f"label {labels.min()} is negative; expected class indices, or -1 for none.")
    return labels.astype(np.int64)
