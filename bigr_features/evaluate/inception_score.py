"""Inception score: are images clear to a classifier, and of all its classes?   n images, C classes"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .feature_arrays import feature_array


@dataclass(frozen=True)
class InceptionScore:
    """mean, std : over the blocks. interval : 95 %, of the mean. blocks : number of images in each."""

    mean: float
    std: float
    interval: tuple[float, float]
    blocks: tuple[int, ...]


def inception_score(
    logits: np.ndarray,
    *,
    block_size: int = 5000,
    splits: int | None = None,
    shuffle: int | None = None,
    resamples: int = 200,
    seed: int = 0,
) -> InceptionScore:
    """exp(mean KL(p(y | x) || p(y))), in 1..C, mean over blocks of images, each with its own p(y) (arXiv:1606.03498).

    The score depends on the size of the blocks, as p(y) is estimated in each: numbers are compared at equal blocks only.

    Parameters
    ----------
    logits : array (n, C)
        Of a classifier, before the softmax.
    block_size : int
        Consecutive blocks of so many images, the last one of what is left: the rule of ADM's evaluator.
    splits : int, optional
        So many blocks of equal size instead: the rule of the original and of torch-fidelity (10).
    shuffle : int, optional
        Seed to shuffle images first; needed where they are sorted by class. 2020 is torch-fidelity's.
    resamples, seed : int
        Of the bootstrap interval over images. Resamples see fewer different images; so their spread about their own mean is laid around
        the score.

    Raises
    ------
    ValueError
        For a classifier of one class, or fewer images than blocks.
    """
    logits = feature_array(logits, "logits", at_least=1)
    n, classes = logits.shape
    if classes < 2:
        raise ValueError("logits have 1 class; the Inception score needs a classifier of 2 classes or more.")
    if block_size < 1 or (splits is not None and not 1 <= splits <= n):
        raise ValueError(f"block_size={block_size}, splits={splits} for {n} images; give 1 or more, and no more splits than images.")
    if shuffle is not None:
        logits = logits[np.random.RandomState(shuffle).permutation(n)]  # the order of torch-fidelity
    edges = [i * n // splits for i in range(splits + 1)] if splits is not None else [*range(0, n, block_size), n]
    blocks = [_shares(logits[a:b]) for a, b in pairwise(edges)]
    scores = np.array([_score(*block) for block in blocks])
    rng = np.random.default_rng(seed)
    drawn = np.array([np.mean([_score(*block, rng) for block in blocks]) for _ in range(resamples)])
    low, high = np.quantile(drawn, [0.025, 0.975]) - drawn.mean()
    mean = float(scores.mean())
    interval = max(1.0, mean + float(low)), mean + float(high)
    return InceptionScore(mean, float(scores.std()), interval, tuple(len(part) for part, _ in blocks))


def _shares(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """p(y | x) (b, C) of a block, and its negative entropy (b,), nats."""
    logs = logits - logits.max(1, keepdims=True)
    logs -= np.log(np.exp(logs).sum(1, keepdims=True))
    shares = np.exp(logs)
    return shares, np.einsum("ij,ij->i", shares, logs)


def _score(shares: np.ndarray, negative_entropy: np.ndarray, rng: np.random.Generator | None = None) -> float:
    n = len(shares)
    weights = np.full(n, 1 / n) if rng is None else rng.multinomial(n, np.full(n, 1 / n)) / n
    marginal = weights @ shares
    seen = marginal > 0
    return float(np.exp(weights @ negative_entropy - (marginal[seen] * np.log(marginal[seen])).sum()))
