"""Which tokens are hidden, and when they are revealed.   B batch, N tokens

Functions of numbers and tensors; they know no model. A mask is True where a token is hidden.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from .inference import to_device
from .schedules import GUMBEL_SCHEDULES, MASK_SCHEDULES, gumbel_temperature_at, masked_fraction, reveal_counts

__all__ = [
    "GUMBEL_SCHEDULES", "MASK_DISTRIBUTIONS", "MASK_SCHEDULES", "check_mask_distribution", "draw_mask_count", "gumbel_noise",
    "gumbel_temperature_at", "lowest", "masked_fraction", "positions_of", "reveal_counts", "train_mask_count",
]  # fmt: skip

MASK_DISTRIBUTIONS = ("cosine", "truncated_normal")
MODE, SPREAD, LEAST = 0.55, 0.25, 0.5  # of MAGE's mask ratio: a normal distribution, cut to [0.5, 1]


def train_mask_count(num_tokens: int, step: int, levels: int | None = None) -> int:
    """Number of hidden tokens in training for the uniform draw `step` in 0..levels-1: floor(N cos(pi step / 2 levels)), at least 1.

    There are N levels unless told otherwise. Computed in float32, as the public training code does; at exact boundaries (N=36, step=24)
    that rounding decides.
    """
    progress = torch.tensor([step / (levels or num_tokens)], dtype=torch.float32)
    ratio = torch.cos(torch.tensor(math.pi / 2, dtype=torch.float32) * progress)
    return max(1, int((ratio * num_tokens).tolist()[0]))


def draw_mask_count(
    num_tokens: int, generator: torch.Generator | None = None, levels: int | None = None, distribution: str = "cosine"
) -> int:
    """One draw of the number of hidden tokens for a training batch.

    Parameters
    ----------
    levels : int, optional
        Of the cosine distribution; see `train_mask_count`.
    distribution : "cosine" or "truncated_normal"
        The latter is MAGE's (arXiv:2211.09117): the share is N(0.55, 0.25) cut to [0.5, 1], rounded up to whole tokens.

    Raises
    ------
    ValueError
        For another distribution.
    """
    check_mask_distribution(distribution)
    device = generator.device if generator is not None else "cpu"
    if distribution == "truncated_normal":
        law = NormalDist(MODE, SPREAD)
        low, high = law.cdf(LEAST), law.cdf(1.0)
        share = law.inv_cdf(low + torch.rand(1, generator=generator, device=device).tolist()[0] * (high - low))
        return min(num_tokens, math.ceil(num_tokens * share))
    step = torch.randint(levels or num_tokens, (1,), generator=generator, device=device).tolist()[0]
    return train_mask_count(num_tokens, step, levels)


def check_mask_distribution(name: str) -> None:
    """Raise ValueError for a distribution of mask ratios that there is not."""
    if name not in MASK_DISTRIBUTIONS:
        raise ValueError(f"there is no mask distribution {name!r}; choose one of {', '.join(MASK_DISTRIBUTIONS)}.")


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
