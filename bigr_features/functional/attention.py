"""Scaled dot-product attention by the kernel that is fast where it runs.   B batch, H heads, S queries, L keys, h head width"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_SCORES = 1 << 27  # 256 MiB in bfloat16
CACHED_SCORES = 1 << 21  # 4 MiB


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    visible: Tensor | None = None,
    causal: bool = False,
    most_scores: int = MOST_SCORES,
    cached_scores: int = CACHED_SCORES,
) -> Tensor:
    """softmax(q k^T / sqrt(h)) v, (B, H, S, h).

    On a CPU in bfloat16, by plain products: the fused CPU kernel took 1.5 to 2 times as long forwards and 3 to 4 times with the backward
    pass, at 65 tokens and at 257 (one core with AVX-512 BF16). Everywhere else, and for a single query, by torch's own choice.

    Parameters
    ----------
    q : Tensor (B, H, S, h)
    k, v : Tensor (B, H, L, h)
    visible : Tensor broadcast to (B, H, S, L), bool, optional
        False where a query does not attend to a key.
    causal : bool
        Query i attends to keys 0..i; without `visible`, and with S = L.
    most_scores : int
        Above so many scores (B H S L), which plain products keep all at once, the fused kernel runs.
    cached_scores : int
        Scores of a piece of the batch, which stay in the processor's cache, where no gradient is wanted.
    """
    plain = q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] > 1
    if not plain or q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] > most_scores:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=causal)
    if causal:
        visible = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    images = max(1, cached_scores // (q.shape[1] * q.shape[2] * k.shape[2]))
    if torch.is_grad_enabled() or images >= len(q):
        return _products(q, k, v, visible)
    found: list[Tensor] = []
    for start in range(0, len(q), images):
        end, own = start + images, visible
        if visible is not None and visible.dim() == 4 and visible.shape[0] > 1:
            own = visible[start:end]
        found.append(_products(q[start:end], k[start:end], v[start:end], own))
    return torch.cat(found)


def _products(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    q, k = (q * q.shape[3] ** -0.5).contiguous(), k.contiguous()  # else the product copies k transposed, number by number
    scores = q @ k.transpose(2, 3)  # (B, H, S, L)
    if visible is not None:
        scores = scores.masked_fill(~visible, -3e38)  # finite, so that a query that sees nothing gives numbers
    return scores.softmax(-1) @ v
