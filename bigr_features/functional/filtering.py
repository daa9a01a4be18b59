"""From logits to one class: guidance, top-k, top-p and the draw.   V classes

Functions of tensors; they know no model. The order is LlamaGen's: guidance, temperature, top-k, top-p, softmax, draw (arXiv:2406.06525).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def guided(cond: Tensor, uncond: Tensor | None, scale: float) -> Tensor:
    """uncond + s * (cond - uncond), or cond without an unconditional branch."""
    return cond if uncond is None else uncond + scale * (cond - uncond)


def filtered(logits: Tensor, top_k: int | None = None, top_p: float = 1.0) -> Tensor:
    """Logits (..., V) with -inf where a class may not be drawn, float32 or better.

    Parameters
    ----------
    top_k : int, optional
        Keep the k largest; all that equal the k-th are kept.
    top_p : float in (0, 1]
        Of what top_k left, drop a class if those before it, most probable first, hold more than p: the class that crosses p is kept.

    Raises
    ------
    ValueError
        If top_k lies outside 1..V, or top_p outside (0, 1].
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    classes = logits.shape[-1]
    if top_k is not None and not 1 <= top_k <= classes:
        raise ValueError(f"top_k={top_k}, but there are {classes} classes to choose from; give 1..{classes}, or None to keep all.")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}; expected a share in (0, 1], where 1 keeps all.")
    if top_k is not None and top_k < classes:
        smallest = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -math.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        probability = ordered.softmax(-1)
        dropped = probability.cumsum(-1) - probability > top_p
        dropped[..., 0] = False
        logits = logits.masked_fill(torch.zeros_like(dropped).scatter(-1, order, dropped), -math.inf)
    return logits


def draw_index(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """First class whose cumulative probability is above the number given: indices (...) from (..., V) and numbers (...) in [0, 1).

    A class of probability 0 is never drawn, even where rounding leaves the total below 1.
    """
    cumulative = probabilities.cumsum(-1)
    total = cumulative[..., -1:]
    below = torch.nextafter(total, torch.zeros_like(total))
    return (cumulative <= torch.minimum(uniform[..., None].to(total.dtype), below)).sum(-1)
