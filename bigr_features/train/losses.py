"""Terms of the tokenizer's loss.   B images, C channels, H x W pixels, N tokens, K bits"""

from __future__ import annotations

from torch import Tensor

from .metrics import binary_entropy


def reconstruction_loss(images: Tensor, reconstructions: Tensor, l1_weight: float, l2_weight: float) -> Tensor:
    """Weighted sum of mean absolute and mean squared error."""
    error = reconstructions - images
    return l1_weight * error.abs().mean() + l2_weight * error.square().mean()


def usage_loss(probabilities: Tensor) -> Tensor:
    """1 minus the entropy, in bits, of each bit's mean probability (B, N, K) over the batch: 0 when every bit is 1 half of the time."""
    return 1 - binary_entropy(probabilities.flatten(0, -2).mean(0)).mean()


def indecision_loss(probabilities: Tensor) -> Tensor:
    """Mean variance p (1 - p) of the bits: 0 when no bit is left to chance."""
    return (probabilities * (1 - probabilities)).mean()
