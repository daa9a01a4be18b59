"""Captions as the condition of a generator: prefix tokens in front of the image tokens, and a vector for adaLN.

A caption is a source of the same two things as a class: the prefix and the vector. The null caption is the null row of the class
embedding, one prefix token; every token of a caption is that row plus a projection of its feature. No cross-attention, so a trunk that was
trained on classes fits.
B captions, J mixed captions an image, T tokens of a caption, E channels of a token feature, D width of the trunk
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.attention import attention
from ..sampling.captions import Captions
from .config import GeneratorConfig
from .text_config import TextConfig
from .text_reading import TextReader, build_reader


class Condition(NamedTuple):
    """What any source of a condition gives to the trunk.

    prefix : (B or 1, c, D), condition tokens.
    vector : (B or 1, 1, D), which drives adaLN.
    visible : (B, c) bool, False at padding, which no token attends to; None where all are visible.
    """

    prefix: Tensor
    vector: Tensor
    visible: Tensor | None = None


class WordBlock(nn.Module):
    """Pre-norm attention among the words of a caption, and a feed-forward."""

    def __init__(self, text: TextConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.num_heads = text.num_heads
        self.attention_norm = nn.LayerNorm(text.width, **dd)
        self.qkv = nn.Linear(text.width, 3 * text.width, **dd)
        self.proj = nn.Linear(text.width, text.width, **dd)
        self.feed_forward_norm = nn.LayerNorm(text.width, **dd)
        self.fc1 = nn.Linear(text.width, 2 * text.width, **dd)
        self.fc2 = nn.Linear(2 * text.width, text.width, **dd)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(self.attention_norm(x)).reshape(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attended = attention(q, k, v, visible[:, None, None])  # (B, H, T, h)
        x = x + self.proj(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.fc2(F.gelu(self.fc1(self.feed_forward_norm(x))))  # (B, T, E)


class WordEncoder(nn.Module):
    """The small word-level encoder: word vectors, learned positions, a block or two.

    Parameters
    ----------
    text : TextConfig
    """

    def __init__(self, text: TextConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.embedding = nn.Embedding(2 + len(text.vocabulary), text.width, **dd)
        self.positions = nn.Parameter(torch.empty(1, text.length, text.width, **dd))
        self.blocks = nn.ModuleList([WordBlock(text, **dd) for _ in range(text.depth)])

    def init_weights(self) -> None:
        """Word vectors N(0, 1), positions N(0, 1): order must weigh as much as meaning in what the normalisation leaves."""
        nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.positions)

    def forward(self, ids: Tensor, visible: Tensor) -> Tensor:
        """Features (B, T, E) of ids (B, T), of which those where `visible` (B, T) count."""
        x = self.embedding(ids) + self.positions[:, : ids.shape[1]]
        for block in self.blocks:
            x = block(x, visible)
        return x


class TextCondition(nn.Module):
    """From captions to the condition of a trunk.

    Parameters
    ----------
    config : GeneratorConfig
        With `text`.

    Attributes
    ----------
    reader : TextReader
        From strings to `Captions`; no part of the weights.
    encoder : WordEncoder, or None with a frozen encoder
    """

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        text = config.text
        assert text is not None
        self.text = text
        self.reader: TextReader = build_reader(text)
        self.encoder = WordEncoder(text, **dd) if text.own else None
        self.norm = nn.RMSNorm(text.width, eps=config.norm_eps, **dd)
        self.fc1 = nn.Linear(text.width, config.width, **dd)
        self.fc2 = nn.Linear(config.width, config.width, **dd)
        self.query = nn.Parameter(torch.empty(config.width, **dd))  # of the attention pooling
        self.pool = nn.Linear(config.width, config.width, **dd)

    def init_weights(self) -> None:
        """Linear maps as in the trunk, but scaled by their inputs; zero at the end if asked for."""
        for layer in (self.fc1, self.fc2, self.pool):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
        nn.init.normal_(self.query)
        if self.encoder is not None:
            self.encoder.init_weights()
        if self.text.zero_init:
            for layer in (self.fc2, self.pool):
                nn.init.zeros_(layer.weight)

    def read(self, text: str | Sequence[str]) -> Captions:
        """Captions of prompts; see `TextReader.read`."""
        return self.reader.read(text)

    def check(self, captions: Captions) -> None:
        """Raise ValueError for captions that another model read."""
        if captions.length > self.text.length:
            raise ValueError(f"the captions have {captions.length} tokens, but the model takes at most {self.text.length}; cut them.")
        tokens = captions.tokens
        if self.text.own and (tokens.dim() != 3 or tokens.is_floating_point()):
            raise ValueError(f"tokens have shape {tuple(tokens.shape)} {tokens.dtype}; this model takes ids of words, (batch, 1, tokens).")
        if not self.text.own and (tokens.dim() != 4 or tokens.shape[3] != self.text.width):
            width = tokens.shape[3] if tokens.dim() == 4 else "no"
            raise ValueError(
                f"the features of the captions have {width} channels, but this model was built for text.width={self.text.width}; encode "
                f"the captions with {self.text.name or self.text.encoder}."
            )

    @torch.jit.unused
    def forward(self, captions: Captions, null: Tensor) -> Condition:
        """The condition of captions, given the null row (D,)."""
        mixed = captions.mask.shape[1]
        mask, absent = captions.mask.flatten(0, 1), captions.null.flatten()  # (B J, T), (B J,)
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        visible = torch.where(absent[:, None], first, mask)  # (B J, T); the null caption has one token
        features = captions.tokens.flatten(0, 1)
        if self.encoder is not None:
            features = self.encoder(features, visible)
        features = features.to(self.fc1.weight.dtype).masked_fill(~visible[..., None], 0.0)
        projected = self.fc2(F.gelu(self.fc1(self.norm(features))))  # (B J, T, D)
        scores = (projected @ self.query / math.sqrt(len(self.query))).masked_fill(~visible, -math.inf)
        pooled = self.pool((scores.softmax(-1)[..., None] * projected).sum(1))  # (B J, D)
        projected = projected.masked_fill((absent[:, None] | ~visible)[..., None], 0.0)
        pooled = pooled.masked_fill(absent[:, None], 0.0)
        if mixed > 1:
            shares = captions.shares.to(projected.dtype)  # (B, J)
            projected = (shares[..., None, None] * projected.unflatten(0, (-1, mixed))).sum(1)
            pooled = (shares[..., None] * pooled.unflatten(0, (-1, mixed))).sum(1)
            visible = (visible.unflatten(0, (-1, mixed)) & (captions.shares != 0)[..., None]).any(1)
        return Condition(null + projected, (null + pooled)[:, None], visible)


def check_source(text: TextConfig | None, labels, captions) -> None:
    """Raise TypeError unless the condition comes from the source that the model knows: classes or captions.

    Parameters
    ----------
    text : TextConfig or None
        Of the model.
    labels, captions
        What was given as `labels` and as `text`; None for nothing.
    """
    if captions is not None and text is None:
        raise TypeError("text was given, but this model is conditioned on classes; give labels, or take a model of captions (*_t2i).")
    if labels is not None and text is not None and not isinstance(labels, Captions):
        raise TypeError("labels were given, but this model is conditioned on captions; give text=[...], one prompt an image.")
    if labels is not None and captions is not None:
        raise TypeError("labels and text were both given; give the one that the model is conditioned on.")
