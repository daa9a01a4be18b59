"""Which tokens are hidden, and when they are revealed.   B batch, N tokens

Functions of numbers and tensors; they know no model. A mask is True where a token is hidden.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .inference import to_device
from .schedules import GUMBEL_SCHEDULES, MASK_SCHEDULES, gumbel_temperature_at, masked_fraction, reveal_counts

__all__ = [
    "GUMBEL_SCHEDULES", "MASK_SCHEDULES", "draw_mask_count", "gumbel_noise", "gumbel_temperature_at", "lowest", "masked_fraction",
    "positions_of", "reveal_counts", "train_mask_count",
]  # fmt: skip


def train_mask_count(num_tokens: int, step: int, levels: int | None = None) -> int:
    """Number of hidden tokens in training for the uniform draw `step` in 0..levels-1: floor(N cos(pi step / 2 levels)), at least 1.

    There are N levels unless told otherwise. Computed in float32, as the public training code does; at exact boundaries (N=36, step=24)
    that rounding decides.
    """
    progress = torch.tensor([step / (levels or num_tokens)], dtype=torch.float32)
    ratio = torch.cos(torch.tensor(math.pi / 2, dtype=torch.float32) * progress)
    return max(1, int((ratio * num_tokens).tolist()[0]))


def draw_mask_count(num_tokens: int, generator: torch.Generator | None = None, levels: int | None = None) -> int:
    """One draw of the number of hidden tokens for a training batch, cosine-distributed; see `train_mask_count`."""
    device = generator.device if generator is not None else "cpu"
    step = torch.randint(levels or num_tokens, (1,), generator=generator, device=device).tolist()[0]
    return train_mask_count(num_tokens, step, levels)


def lowest(noise: Tensor, count: int) -> Tensor:
    """Mask (B, N) that is True at the `count` smallest entries of each row of noise (B, N)."""
    hidden = noise.topk(count, dim=-1, largest=False).indices  # (B, count)
    return torch.zeros_like(noise, dtype=torch.bool).scatter_(1, hidden, True)


def positions_of(mask: Tensor, count: int | None = None) -> Tensor:
    """Positions (M,) in the flattened mask where it is True, ascending.

    Parameters
    ----------
    count : int, optional
        How many there are, if that is known: the host then need not wait for the device to count them.
    """
    if count is None:
        return mask.flatten().nonzero().squeeze(1)
    return (~mask.flatten()).to(torch.uint8).argsort(stable=True)[:count]


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator | None = None, device=None) -> Tensor:
    """Standard Gumbel draws, float32."""
    uniform = torch.rand(shape, generator=generator, device=generator.device if generator is not None else device)
    tiny = np.finfo(np.float32).tiny
    return to_device(-torch.log(-torch.log(uniform.clamp(min=tiny, max=1 - 2**-24))), device)
