"""LARS as MAE and MoCo v3 use it for linear probes, and their learning rate over the epochs.

The update scales the gradient of a matrix by trust x |weights| / |gradient| and adds it to a momentum buffer; vectors (biases) take the
plain gradient. timm.optim.Lars does the same only if matrices are in a group with always_adapt=True and vectors in one without, because
without weight decay it adapts nothing by default.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def lars_update(parameter: Tensor, gradient: Tensor, momentum_buffer: Tensor, rates: Tensor, momentum: float = 0.9, trust: float = 0.001):
    """One step in place, for many heads at once.

    Parameters
    ----------
    parameter, gradient, momentum_buffer : Tensor (L, ...)
        The same parameter of L heads, each with a norm of its own. More than one dimension after the first: trust scaling applies.
    rates : Tensor (L,)
        Learning rate of each head.
    """
    if parameter.dim() > 2:
        dims = tuple(range(1, parameter.dim()))
        length, slope = (torch.linalg.vector_norm(x, dim=dims, keepdim=True) for x in (parameter, gradient))
        ratio = torch.where((length > 0) & (slope > 0), trust * length / slope, torch.ones_like(length))
        gradient = gradient * ratio
    momentum_buffer.mul_(momentum).add_(gradient)
    parameter.sub_(momentum_buffer * rates.view(-1, *[1] * (parameter.dim() - 1)))


def warmup_cosine(epoch: float, epochs: int, warmup_epochs: int) -> float:
    """Factor of the learning rate at a point in training, in epochs: linear from 0 to 1, then half a cosine to 0."""
    if epoch < warmup_epochs:
        return epoch / warmup_epochs
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup_epochs) / (epochs - warmup_epochs)))
