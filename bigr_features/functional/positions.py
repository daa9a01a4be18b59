"""Learned positions of a token grid.   G old side of the grid, D width"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def resample_positions(positions: Tensor, side: int) -> Tensor:
    """Learned positions (1, G * G, D) resampled bicubically to (1, side * side, D)."""
    old = math.isqrt(positions.shape[1])
    if old == side:
        return positions
    grid = positions.transpose(1, 2).unflatten(2, (old, old)).float()
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return grid.flatten(2).transpose(1, 2).to(positions.dtype).contiguous()
