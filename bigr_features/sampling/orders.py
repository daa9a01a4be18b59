"""In which order hidden tokens are revealed.   B batch, N = G * G tokens

"entropy" is decided step by step from the model's own confidence (BiGR, arXiv:2410.14672, Sec. 3.2). The other orders are known
before the first step, so that the transcoder need only run on the tokens that are about to be revealed.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..functional.inference import to_device
from .noise import Noise
from .settings import ORDERS


def known_ranks(order: str, mask: Tensor, noise: Noise) -> Tensor:
    """Turn (B, N) at which each hidden token is revealed: 0, 1, ... within its image; visible tokens come after all hidden ones.

    Parameters
    ----------
    order : "random", "raster" or "halton"
    mask : Tensor (B, N) bool
        True = hidden.
    noise : Noise
        Source of the random order, one an image.
    """
    batch, tokens = mask.shape
    if order == "random":
        position = noise.uniform((batch, tokens), mask.device)
    elif order == "raster":
        position = torch.arange(tokens, device=mask.device).expand(batch, tokens)
    elif order == "halton":
        side = round(tokens**0.5)
        position = to_device(torch.tensor(halton_ranks(side)), mask.device).expand(batch, tokens)
    else:
        raise ValueError(f"order {order!r} is not known before sampling; choose one of {', '.join(ORDERS[1:])}.")
    return ranks(position.to(torch.float32).masked_fill(~mask, torch.inf))


def ranks(position: Tensor) -> Tensor:
    """Rank (B, N) of each entry in its row, smallest first; equal entries keep their order."""
    return position.argsort(dim=1, stable=True).argsort(dim=1)


@lru_cache(maxsize=16)
def halton_ranks(grid_size: int) -> tuple[int, ...]:
    """Turn of each token of a G x G grid, row by row, along the 2-D Halton sequence of bases 2 (rows) and 3 (columns).

    The sequence fills the square evenly at every length, so that tokens revealed together lie far apart (arXiv:2503.17076). A token
    takes its turn when a point first falls into it. Every token is met: 2**a * 3**b consecutive points fall one each into boxes of
    2**-a by 3**-b, and some of these lie within each token once 2**a and 3**b are at least 2 G.
    """
    turns: dict[int, int] = {}
    index = 1
    while len(turns) < grid_size**2:
        token = int(radical_inverse(index, 2) * grid_size) * grid_size + int(radical_inverse(index, 3) * grid_size)
        turns.setdefault(token, len(turns))
        index += 1
    return tuple(turns[token] for token in range(grid_size**2))


def radical_inverse(index: int, base: int) -> float:
    """Digits of `index` mirrored at the point: element `index` of the van der Corput sequence, in [0, 1)."""
    value, weight = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * weight
        weight /= base
    return value
