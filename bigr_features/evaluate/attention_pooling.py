"""Attention from learned queries over tokens, then a linear classifier: two heads.

All that is done to tokens before the softmax and after it is linear, so it is applied where it is cheapest: normalisation and keys are
folded into the queries before the tokens are looked at (what they add to all tokens alike, the softmax does not see), and normalisation
and values are computed of what was pooled. The result is the same, for about h / D of the products and without a copy of the tokens.

B batch, N tokens, D width, h queries, C classes
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-6  # of batch normalisation


class AttentionPooling(nn.Module):
    """Tokens (B, N, D) to logits (B, C) by AIM's head (arXiv:2401.08541): one query a head, keys and values of D / h features each."""

    def __init__(self, width: int, num_heads: int, num_classes: int, generator: torch.Generator):
        super().__init__()
        self.num_heads = num_heads
        self.statistics = TokenStatistics(width)
        self.query = nn.Parameter(torch.empty(num_heads, 1, width // num_heads))
        self.key, self.value = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, num_classes)
        _initialize(generator, self.head, self.query, self.key.weight, self.value.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        query = (self.query @ self.key.weight.unflatten(0, (self.num_heads, -1))).squeeze(1)  # (h, D)
        query = query * (tokens.shape[2] // self.num_heads) ** -0.5
        mean, scale = self.statistics(tokens)
        return self.head(pool_by_queries(tokens, mean, scale, query, self.value.weight))


class EfficientPooling(nn.Module):
    """Tokens (B, N, D) to logits (B, C) by efficient probing (Psomas et al., ICLR 2026; `billpsomas/efficient-probing`).

    h queries of the tokens' own width score the tokens without a map of keys; each pools its own D / h features of one map of values;
    batch normalisation without affine and a linear layer follow. h D + D^2 + (D + 1) C parameters. There the tokens come with the
    backbone's final norm; here from within the trunk, so they are batch-normalised first, as in AIM's head.
    """

    def __init__(self, width: int, num_queries: int, num_classes: int, generator: torch.Generator):
        super().__init__()
        self.statistics = TokenStatistics(width)
        self.query = nn.Parameter(torch.empty(num_queries, width))
        self.value = nn.Linear(width, width, bias=False)
        self.norm = nn.BatchNorm1d(width, affine=False, eps=EPS)
        self.head = nn.Linear(width, num_classes)
        _initialize(generator, self.head, self.query, self.value.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        query = self.query * tokens.shape[2] ** -0.5
        mean, scale = self.statistics(tokens)
        return self.head(self.norm(pool_by_queries(tokens, mean, scale, query, self.value.weight)))


class TokenStatistics(nn.Module):
    """Mean and scale (D,) by which a batch normalisation without affine would normalise tokens (B, N, D): each feature's own, over samples
    and tokens; of the batch in training, running ones (momentum 0.1) otherwise."""

    def __init__(self, width: int, momentum: float = 0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = self.mean, self.variance
        if self.training:
            count = tokens.shape[0] * tokens.shape[1]
            variance, mean = torch.var_mean(tokens.flatten(0, 1), 0, correction=0)
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance * (count / max(1, count - 1)), self.momentum)
        return mean, torch.sqrt(variance + EPS)


def pool_by_queries(tokens: Tensor, mean: Tensor, scale: Tensor, query: Tensor, value: Tensor) -> Tensor:
    """Tokens (B, N, D), normalised by mean and scale (D,), pooled by softmax of their products with each query (h, D), through the query's
    D / h rows of `value` (D, D).

    Returns
    -------
    Tensor (B, D)
        Query by query.
    """
    weights = torch.softmax((query / scale) @ tokens.transpose(1, 2), 2)  # (B, h, N)
    pooled = (weights @ tokens - mean) / scale  # (B, h, D)
    return torch.einsum("bhd,hvd->bhv", pooled, value.unflatten(0, (len(query), -1))).flatten(1)


def _initialize(generator: torch.Generator, head: nn.Linear, *matrices: Tensor) -> None:
    for matrix in (*matrices, head.weight):
        nn.init.trunc_normal_(matrix, std=0.02, generator=generator)
    nn.init.zeros_(head.bias)
