"""A function of a batch, applied to a few items at a time so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def in_chunks(function: Callable[[Tensor], Tensor], batch: Tensor, size: int) -> Tensor:
    """`function(batch)`, computed from `size` items at a time."""
    if size < 1:
        raise ValueError(f"{size} items at a time were asked for; give 1 or more.")
    return torch.cat([function(part) for part in batch.split(size)])
