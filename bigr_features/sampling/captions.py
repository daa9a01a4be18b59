"""Captions of a batch as tensors: what a text condition takes, with what sampling asks of any condition.

B images, J mixed captions an image (1 in training), T tokens of a caption, E channels of a token feature
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

TENSORS = ("tokens", "mask", "null", "shares")


@dataclass(frozen=True)
class Captions:
    """Captions, ready for the model that they were read by.

    tokens : (B, J, T) int64 ids of words, or (B, J, T, E) features of a text encoder.
    mask : (B, J, T) bool, True at a token, False at padding.
    null : (B, J) bool, True where there is no caption: the null caption stands for it.
    shares : (B, J), weights of mixed captions.
    negative : Captions of B images, or None; what guidance leads away from, in place of the null caption.
    """

    tokens: Tensor
    mask: Tensor
    null: Tensor
    shares: Tensor
    negative: Captions | None = None

    @classmethod
    def of_tokens(cls, tokens: Tensor, mask: Tensor) -> Captions:
        """One caption an image, from ids (B, T) or features (B, T, E) and their mask (B, T); a row without a token is the null caption.

        Raises
        ------
        ValueError
            For a mask that does not fit.
        """
        if tokens.dim() not in (2, 3) or mask.shape != tokens.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f"tokens have shape {tuple(tokens.shape)} and the mask {tuple(mask.shape)} {mask.dtype}; expected ids (batch, tokens) or "
                "features (batch, tokens, channels), and a bool mask (batch, tokens), True at a token."
            )
        mask = mask[:, None]
        null = ~mask.any(-1)
        return cls(tokens[:, None], mask, null, torch.ones(null.shape, device=mask.device))

    @property
    def length(self) -> int:
        """T."""
        return self.mask.shape[2]

    @property
    def labels(self) -> Captions:
        """What a model takes as condition: these, without what they are led away from."""
        return self if self.negative is None else replace(self, negative=None)

    weights = None  # mixtures are part of the captions

    @property
    def classless(self) -> Tensor:
        """Images (B,) bool for which guidance changes nothing."""
        null = (self.null | (self.shares == 0)).all(1)
        return null if self.negative is None else null & self.negative.classless

    @property
    def guidable(self) -> bool:
        """Whether guidance changes anything."""
        return not bool(self.classless.all())

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, images: list[int] | slice | Tensor) -> Captions:
        negative = None if self.negative is None else self.negative[images]
        return Captions(self.tokens[images], self.mask[images], self.null[images], self.shares[images], negative)

    of = __getitem__

    def to(self, device, non_blocking: bool = False) -> Captions:
        """The captions on a device."""
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in TENSORS}
        return Captions(**moved, negative=None if self.negative is None else self.negative.to(device))

    def pin_memory(self) -> Captions:
        """The captions in memory from which copies to CUDA need no waiting."""
        return Captions(**{name: getattr(self, name).pin_memory() for name in TENSORS})

    def repeated(self, count: int) -> Captions:
        """One caption for each of `count` images."""
        return self[torch.zeros(count, dtype=torch.int64, device=self.mask.device)]

    def dropped(self, images: Tensor) -> Captions:
        """These with the null caption in place of some: images (B,) bool."""
        return replace(self, null=self.null | images[:, None])

    def with_null(self) -> Captions:
        """These, then as many null captions, or those to lead away from: both branches of guidance in one batch."""
        away = self.dropped(torch.ones(len(self), dtype=torch.bool, device=self.null.device)) if self.negative is None else self.negative
        return joined([self.labels, away.labels])

    def mixed(self, shares: Tensor) -> Captions:
        """Images (n,), each a mixture of all of these captions with the weights `shares` (n, B)."""
        count, size = shares.shape
        if size != len(self) or self.mask.shape[1] != 1:
            raise ValueError(f"weights have shape {tuple(shares.shape)}; expected one for each of {len(self)} captions.")
        tokens, mask, null = (part[:, 0][None].expand(count, *part[:, 0].shape) for part in (self.tokens, self.mask, self.null))
        return Captions(tokens, mask, null, shares.to(self.shares))


def joined(parts: Sequence[Captions]) -> Captions:
    """Several batches as one, padded to the longest; of mixtures of different numbers, captions without weight are added."""
    length, mixed = max(part.length for part in parts), max(part.mask.shape[1] for part in parts)
    padded = [_padded(part, mixed - part.mask.shape[1], length - part.length) for part in parts]
    return Captions(**{name: torch.cat([getattr(part, name) for part in padded]) for name in TENSORS})


def _padded(captions: Captions, more: int, longer: int) -> Captions:
    if not more and not longer:
        return captions
    wide = (0, 0) if captions.tokens.dim() == 4 else ()
    tokens = F.pad(captions.tokens, (*wide, 0, longer, 0, more))
    mask = F.pad(captions.mask, (0, longer, 0, more))
    return Captions(tokens, mask, F.pad(captions.null, (0, more), value=True), F.pad(captions.shares, (0, more)))
