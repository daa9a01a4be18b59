"""Two-dimensional rotary position embedding.   N tokens on a G x G grid, c condition tokens, P positions a token, H heads, h head width"""

from __future__ import annotations

import torch
from torch import Tensor


def rope_table(
    grid_size: int,
    head_dim: int,
    num_cond_tokens: int = 1,
    base: float = 10000.0,
    positions_per_token: int = 1,
    cond_rotation: str = "zero",
) -> Tensor:
    """Cosines and sines of the rotation of every position, condition tokens first.

    The first half of a position's angles turns with the grid row, the second half with the column. The rows of the
    condition tokens are ALL ZERO, cosine included, so that their queries and keys become zero vectors: released
    BiGR, LlamaGen and ELM weights were trained so. Of captions that would leave attention no way to tell one word from another, so
    cond_rotation="identity" gives their rows cosine 1 and sine 0, no rotation. With several positions a token each row stands so many
    times, side by side.

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
    cond = table.new_zeros(num_cond_tokens, half, 2)
    if cond_rotation == "identity":
        cond[..., 0] = 1
    return torch.cat([cond, table]).repeat_interleave(positions_per_token, dim=0)


def apply_rope(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring pairs of x (..., S, h) by table (S, h / 2, 2), at least in float32; the dtype of x is kept.

    A pair is the complex number even + i odd, and its rotation one product: a single pass over memory, also backwards. Compilers, which
    fuse real products but no complex ones, get the four of them.
    """
    if torch.compiler.is_compiling():
        even, odd = x.to(table.dtype).unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = table.unbind(-1)
        return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2).to(x.dtype)
    pairs = torch.view_as_complex(x.to(table.dtype).unflatten(-1, (-1, 2)))  # (..., S, h / 2)
    return torch.view_as_real(pairs * torch.view_as_complex(table)).flatten(-2).to(x.dtype)
