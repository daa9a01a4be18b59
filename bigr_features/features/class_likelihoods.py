"""How probable a generator finds an image under each class: its tokens given the others, no probe and no training.

A generator conditioned on classes is a classifier by Bayes' rule (diffusion classifiers, arXiv:2303.16203). BiGR's likelihood of hidden
tokens needs no sampling: the bits are independent given the condition vector, so one pass of the trunk under a fixed mask scores them all.
n images, C classes, N tokens, h of them hidden, K bits, L noise levels
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from ..functional.inference import autocast, evaluating
from ..functional.progress import progress as counter
from ..models.generator import BiGR

MASK_RATIO, NUM_MASKS = 0.9, 8


@dataclass(frozen=True)
class LikelihoodSettings:
    """What is scored, the same for every class and image.

    mask_ratio : share of tokens that are hidden and scored, in (0, 1]; None in a causal generator, which scores every token.
    num_masks : masks whose scores are added; None in a causal generator.
    timesteps : noise levels 1..T whose scores are added, for the Bernoulli transcoder; None otherwise.
    seed : of masks and noise.
    """

    mask_ratio: float | None
    num_masks: int | None
    timesteps: tuple[int, ...] | None
    seed: int = 0

    @classmethod
    def of(
        cls,
        generator: BiGR,
        mask_ratio: float | None = None,
        num_masks: int | None = None,
        timesteps: Sequence[int] | None = None,
        seed: int = 0,
    ) -> LikelihoodSettings:
        """Settings with the defaults of a generator: masks 0.9, 8 of them; the noise level half way.

        Raises
        ------
        ValueError
            For settings out of range, or that this generator has no use for.
        """
        config = generator.config
        if config.causal:
            if mask_ratio is not None or num_masks is not None:
                raise ValueError("mask_ratio and num_masks are for masked generators; this one is causal and scores every token once.")
        else:
            mask_ratio = MASK_RATIO if mask_ratio is None else mask_ratio
            num_masks = NUM_MASKS if num_masks is None else num_masks
            if not 0 < mask_ratio <= 1:
                raise ValueError(f"mask_ratio={mask_ratio}; expected a number in (0, 1]: the share of tokens that are scored.")
            if num_masks < 1:
                raise ValueError(f"num_masks={num_masks}; expected 1 or more.")
        if config.categorical:
            if timesteps is not None:
                raise ValueError(f"timesteps are noise levels of the Bernoulli transcoder; head={config.head!r} has none, leave them out.")
        else:
            timesteps = (config.num_timesteps // 2,) if timesteps is None else tuple(timesteps)
            wrong = [t for t in timesteps if not 1 <= t <= config.num_timesteps]
            if wrong or not timesteps:
                given = f"timestep {wrong[0]} is" if wrong else "timesteps are"
                raise ValueError(f"{given} {'out of range' if wrong else 'empty'}; give noise levels in 1..{config.num_timesteps}.")
        return cls(mask_ratio, num_masks, timesteps, seed)

    def as_dict(self) -> dict:
        """For results."""
        return asdict(self)


def check_classes(generator: BiGR, labels: np.ndarray | None = None) -> None:
    """Raise ValueError if a generator can tell no classes apart, or if labels name classes that it never saw."""
    config = generator.config
    if config.unconditional or config.num_classes < 2:
        raise ValueError(
            "this generator was trained without labels, so no class is more probable to it than another; take one that was trained with "
            "classes, or probe its features."
        )
    if labels is not None:
        unknown = np.setdiff1d(labels, np.arange(config.num_classes))
        if unknown.size:
            raise ValueError(
                f"label {unknown[0]} is no class of this generator, trained with {config.num_classes} (0..{config.num_classes - 1})."
            )


@torch.no_grad()
def class_log_likelihoods(
    generator: BiGR,
    codes: Tensor,
    *,
    classes: Sequence[int] | None = None,
    mask_ratio: float | None = None,
    num_masks: int | None = None,
    timesteps: Sequence[int] | None = None,
    seed: int = 0,
    dtype: str = "fp32",
    batch_size: int = 256,
    progress: bool = True,
) -> np.ndarray:
    """Mean log-likelihood of an image's hidden tokens under every class and noise level.

    Masks and noise are the same for every class, so that only the class makes a difference, and for every image; they do not depend on
    the batch. The cost is num_masks x C passes of the trunk an image (1 x C in a causal generator), and L of the head for each of them.

    Parameters
    ----------
    generator : BiGR
    codes : Tensor (n, N, K) of 0 and 1, or (n, N) of indices
        As its tokenizer encodes images.
    classes : sequence of int, optional
        C classes to compare; all of the generator by default.
    mask_ratio, num_masks, timesteps, seed : see `LikelihoodSettings`
    dtype : "fp32" or "bf16"
    batch_size : int
        Images a pass.
    progress : bool
        Show a progress bar.

    Returns
    -------
    float64 array (n, C, L), nats a token; L is 1 for heads without noise

    Raises
    ------
    ValueError
        For a generator trained without labels, unknown classes, or settings that it has no use for.
    """
    settings = LikelihoodSettings.of(generator, mask_ratio, num_masks, timesteps, seed)
    check_classes(generator, None if classes is None else np.asarray(classes))
    generator.code_format.check(codes, generator.config.num_tokens)
    generator.code_format.check_values(codes)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected 1 or more.")
    classes = list(range(generator.config.num_classes)) if classes is None else list(classes)
    weight = next(generator.parameters())
    plan = _plan(generator, settings)
    result = np.zeros((len(codes), len(classes), len(settings.timesteps or (0,))))
    with evaluating(generator), counter(total=len(codes) * len(plan), unit="reading", desc="likelihoods", shown=progress) as bar:
        for start in range(0, len(codes), batch_size):
            rows = slice(start, start + batch_size)
            batch = codes[rows].to(weight.device)
            for hidden, flips in plan:
                with autocast(weight.device, dtype):
                    scores = [_scores(generator, batch, label, hidden, flips, settings.timesteps) for label in classes]
                result[rows] += torch.stack(scores, 1).double().cpu().numpy()
                bar.update(len(batch))
    return result / len(plan)


def _plan(generator: BiGR, settings: LikelihoodSettings) -> list[tuple[Tensor | None, Tensor | None]]:
    """For each mask the indices (h,) of hidden tokens, None for all of a causal generator, and which bits noise turns over (L, h, K)."""
    config = generator.config
    draws = torch.Generator().manual_seed(settings.seed)
    count = config.num_tokens if settings.mask_ratio is None else max(1, math.floor(settings.mask_ratio * config.num_tokens + 0.5))
    plan = []
    for _ in range(settings.num_masks or 1):
        hidden = None if settings.mask_ratio is None else torch.randperm(config.num_tokens, generator=draws)[:count].sort().values
        flips = None
        if settings.timesteps is not None:
            keep = generator.head.alpha_bar.table[list(settings.timesteps)].float().cpu()[:, None, None]
            flips = torch.rand(len(settings.timesteps), count, config.code_dim, generator=draws) < (1 - keep) / 2
        plan.append((hidden, flips))
    return plan


def _scores(
    generator: BiGR, codes: Tensor, label: int, hidden: Tensor | None, flips: Tensor | None, timesteps: tuple[int, ...] | None
) -> Tensor:
    """Mean over hidden tokens of their log-likelihood under one class, (b, L)."""
    batch, tokens = codes.shape[:2]
    labels = torch.full((batch,), label, device=codes.device)
    mask = None
    if hidden is not None:
        hidden = hidden.to(codes.device)
        mask = torch.zeros(batch, tokens, dtype=torch.bool, device=codes.device).index_fill_(1, hidden, True)
    condition = generator.token_conditions(codes, labels, mask)  # (b, N, P D)
    if hidden is not None:
        condition, codes = condition[:, hidden], codes[:, hidden]
    count = codes.shape[1]
    condition = condition.flatten(0, 1)
    if timesteps is None:
        indices = generator.code_format.indices(codes).flatten(0, 1)
        return generator.head.log_likelihood(condition, indices, generator.embedding).view(batch, count).mean(1, keepdim=True)
    assert flips is not None
    levels = []
    for t, flipped in zip(timesteps, flips.to(codes.device, codes.dtype), strict=True):
        noisy = (codes - flipped).abs().flatten(0, 1)
        level = torch.full((len(noisy),), t, device=codes.device)
        levels.append(generator.head.log_likelihood(condition, codes.flatten(0, 1), level, noisy).view(batch, count).mean(1))
    return torch.stack(levels, 1)
