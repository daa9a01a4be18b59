"""Blocks that see visible tokens only, as the encoders of MAE (arXiv:2111.06377) and MAGE (arXiv:2211.09117); hidden ones join later.

B batch, S positions, v of them visible in each image, D width, h head width
"""

from __future__ import annotations

import torch
from torch import Tensor


def take_visible(x: Tensor, rope: Tensor, keys: Tensor | None, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """What the blocks before the joining take.

    Where every image hides the same number of positions, as in training, the visible ones alone; else all of them, and none attends to a
    hidden one.

    Parameters
    ----------
    x : Tensor (B, S, D)
    rope : Tensor (S, h / 2, 2)
    keys : Tensor (B, 1, 1, S) bool, optional
        False at positions that no position attends to.
    hidden : Tensor (B, S) bool

    Returns
    -------
    x : (B, v, D) or (B, S, D)
    rope : (B, 1, v, h / 2, 2) or as it was
    keys : (B, 1, 1, v), (B, 1, 1, S) or None
    index : (B, v) int64, which positions those are; None if all are there
    """
    counts = (~hidden).sum(1)
    count = int(counts.min())
    if count < int(counts.max()):
        seen = ~hidden[:, None, None]
        return x, rope, seen if keys is None else keys & seen, None
    index = hidden.to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    part = x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))
    return part, rope[index][:, None], None if keys is None else keys.gather(3, index[:, None, None]), index


def join_hidden(x: Tensor, start: Tensor, hidden: Tensor, index: Tensor | None) -> Tensor:
    """All positions (B, S, D): visible ones from x, hidden ones as they were at the start (B, S, D), learned vectors that is."""
    if index is None:
        return torch.where(hidden[..., None], start.to(x.dtype), x)
    return start.to(x.dtype).scatter(1, index[..., None].expand(-1, -1, x.shape[2]), x)
