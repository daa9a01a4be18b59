"""Two-dimensional rotary position embedding.   N tokens on a G x G grid, c condition tokens, P positions a token, H heads, h head width"""

from __future__ import annotations

import torch
from torch import Tensor


def rope_table(grid_size: int, head_dim: int, num_cond_tokens: int = 1, base: float = 10000.0, positions_per_token: int = 1) -> Tensor:
    """Cosines and sines of the rotation of every position, condition tokens first.

    The first half of a position's angles turns with the grid row, the second half with the column. The rows of the
    condition tokens are ALL ZERO, cosine included, so that their queries and keys become zero vectors: released
    BiGR, LlamaGen and ELM weights were trained so. With several positions a token each row stands so many times, side by side.

    Returns
    -------
    Tensor (P (c + N), h / 2, 2), float64, on the CPU
        (cos, sin) in the last dimension.

    Raises
    ------
    ValueError
        If head_dim is not a multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"head_dim={head_dim}, but 2-D rotary positions need a multiple of 4; change width or num_heads.")
    half = head_dim // 2
    frequency = base ** -(torch.arange(0, half, 2, dtype=torch.float64, device="cpu") / half)  # (h / 4,)
    angle = torch.outer(torch.arange(grid_size, dtype=torch.float64, device="cpu"), frequency)  # (G, h / 4)
    rows = angle[:, None].expand(grid_size, grid_size, -1)
    columns = angle[None].expand(grid_size, grid_size, -1)
    angles = torch.cat([rows, columns], dim=-1).flatten(0, 1)  # (N, h / 2)
    table = torch.stack([angles.cos(), angles.sin()], dim=-1)  # (N, h / 2, 2)
    return torch.cat([table.new_zeros(num_cond_tokens, half, 2), table]).repeat_interleave(positions_per_token, dim=0)


def apply_rope(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring pairs of x (..., S, h) by table (S, h / 2, 2), at least in float32; the dtype of x is kept."""
    pairs = x.to(table.dtype).unflatten(-1, (-1, 2))  # (..., S, h / 2, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    cos, sin = table[..., 0], table[..., 1]
    rotated = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return rotated.flatten(-2).to(x.dtype)
