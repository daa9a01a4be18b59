"""Which items make up which batch: functions of seed and step, so that the step counter alone is the position in the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

HELD_OUT = 2_000  # images, at most, that are held out where no number is given


class SampledBatch(NamedTuple):
    """What a batch is made of: its 0-based step, items (B,), and which view of each (B,), or None for the first."""

    step: int
    items: np.ndarray
    views: np.ndarray | None = None


@dataclass(frozen=True)
class BatchSampler:
    """This process's part of every batch of a training.

    items : int64 array (n,), what to train on.
    steps : 0-based steps to give.
    batch_size : items a step, over all processes.
    part : which of them are this process's.
    num_views : how many views an item has; one is drawn for each.
    seed : of order and views.
    paired : give two different views of each item, side by side, and half as many items a step.
    """

    items: np.ndarray
    steps: range
    batch_size: int
    part: slice
    num_views: int
    seed: int
    paired: bool = False

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[SampledBatch]:
        for step in self.steps:
            if self.paired:
                positions = batch_positions(len(self.items), self.batch_size // 2, step, self.seed).repeat(2)
                views = two_choices(self.batch_size // 2, self.num_views, step, self.seed)
            else:
                positions = batch_positions(len(self.items), self.batch_size, step, self.seed)
                views = choices(self.batch_size, self.num_views, step, self.seed)
            yield SampledBatch(step, self.items[positions[self.part]], views[self.part])


def every_class(labels: np.ndarray | None, items: np.ndarray, count: int) -> np.ndarray:
    """So many of `items`, for a picture: of every class as far as they suffice, by class; the first ones where there are no labels."""
    if labels is None or not len(items):
        return items[:count]
    classes = np.unique(labels[items])
    turns = [items[labels[items] == label] for label in classes]
    chosen = [turn[i] for i in range(max(map(len, turns))) for turn in turns if i < len(turn)][:count]
    return np.array(sorted(chosen, key=lambda item: (labels[item], item)), dtype=np.int64)


def hold_out(num_items: int, count: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and `count` held-out indices, both sorted; a random part chosen by `seed`.

    With count None, a tenth is held out, at most 2,000.

    Raises
    ------
    ValueError
        If nothing would be left to train on.
    """
    count = min(num_items // 10, HELD_OUT) if count is None else count
    if not 0 <= count < num_items:
        raise ValueError(
            f"{count} of {num_items} images would be held out for validation, which leaves none to train on; lower `validation`."
        )
    order = np.random.default_rng([seed, 1]).permutation(num_items)
    return np.sort(order[count:]), np.sort(order[:count])


def batch_positions(num_items: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Positions 0..num_items-1 of batch `step`, 0-based: `batch_size` entries of the endless row of one permutation an epoch."""
    first = step * batch_size
    parts = []
    while batch_size > 0:
        epoch, offset = divmod(first, num_items)
        part = _permutation(num_items, seed, epoch)[offset : offset + batch_size]
        parts.append(part)
        first, batch_size = first + len(part), batch_size - len(part)
    return np.concatenate(parts)


@lru_cache(maxsize=2)
def _permutation(num_items: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 2, epoch]).permutation(num_items)


def choices(count: int, num_choices: int, step: int, seed: int) -> np.ndarray:
    """Random integers 0..num_choices-1, one for each of the `count` items of batch `step`: which view, or whether flipped."""
    if num_choices == 1:
        return np.zeros(count, dtype=np.int64)
    return np.random.default_rng([seed, 3, step]).integers(num_choices, size=count)


def two_choices(count: int, num_choices: int, step: int, seed: int) -> np.ndarray:
    """Random integers as `choices` gives them, (2 count,): for each item two different ones, side by side."""
    first = choices(count, num_choices, step, seed)
    second = (first + 1 + np.random.default_rng([seed, 5, step]).integers(num_choices - 1, size=count)) % num_choices
    return np.stack([first, second], 1).ravel()
