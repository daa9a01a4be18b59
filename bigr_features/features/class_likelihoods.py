"""How probable a generator finds an image under each class: its tokens given the others, no probe and no training.

A generator conditioned on classes is a classifier by Bayes' rule (diffusion classifiers, arXiv:2303.16203). BiGR's likelihood of hidden
tokens needs no sampling: the bits are independent given the condition vector, so one pass of the trunk under a fixed mask scores them all.
By the chain rule the hidden tokens can be scored group by group, each given those before, as they would be drawn.
n images, C classes, N tokens, h of them scored in a pass, K bits, L noise levels
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
from ..functional.schedules import reveal_counts
from ..models.generator import BiGR

MASK_RATIO, NUM_MASKS = 0.9, 8


@dataclass(frozen=True)
class LikelihoodSettings:
    """What is scored, the same for every class and image.

    mask_ratio : share of tokens that are hidden and scored, in (0, 1]; None in a causal generator, which scores every token.
    num_masks : masks whose scores are added; None in a causal generator.
    num_groups : groups in which the hidden tokens of a mask are scored, each given the ones before it, at random places, few tokens first
        (cosine); 1 scores all of them at once. None in a causal generator.
    timesteps : noise levels 1..T whose scores are added, for the Bernoulli transcoder; None otherwise.
    seed : of masks and noise.
    """

    mask_ratio: float | None
    num_masks: int | None
    timesteps: tuple[int, ...] | None
    seed: int = 0
    num_groups: int | None = None

    @classmethod
    def of(
        cls,
        generator: BiGR,
        mask_ratio: float | None = None,
        num_masks: int | None = None,
        timesteps: Sequence[int] | None = None,
        seed: int = 0,
        num_groups: int | None = None,
    ) -> LikelihoodSettings:
        """Settings with the defaults of a generator: masks 0.9, 8 of them, scored at once; the noise level half way.

        Raises
        ------
        ValueError
            For settings out of range, or that this generator has no use for.
        """
        config = generator.config
        if config.causal:
            if mask_ratio is not None or num_masks is not None or num_groups is not None:
                raise ValueError(
                    "mask_ratio, num_masks and num_groups are for masked generators; this one is causal and scores every token once."
                )
        else:
            mask_ratio = MASK_RATIO if mask_ratio is None else mask_ratio
            num_masks = NUM_MASKS if num_masks is None else num_masks
            if not 0 < mask_ratio <= 1:
                raise ValueError(f"mask_ratio={mask_ratio}; expected a number in (0, 1]: the share of tokens that are scored.")
            if num_masks < 1:
                raise ValueError(f"num_masks={num_masks}; expected 1 or more.")
            num_groups = 1 if num_groups is None else num_groups
            if not 1 <= num_groups <= hidden_tokens(config.num_tokens, mask_ratio):
                raise ValueError(
                    f"num_groups={num_groups}; expected 1 to {hidden_tokens(config.num_tokens, mask_ratio)}, the tokens that mask_ratio="
                    f"{mask_ratio} hides."
                )
        if config.categorical:
            if timesteps is not None:
                raise ValueError(f"timesteps are noise levels of the Bernoulli transcoder; head={config.head!r} has none, leave them out.")
        else:
            timesteps = (config.num_timesteps // 2,) if timesteps is None else tuple(timesteps)
            wrong = [t for t in timesteps if not 1 <= t <= config.num_timesteps]
            if wrong or not timesteps:
                given = f"timestep {wrong[0]} is" if wrong else "timesteps are"
                raise ValueError(f"{given} {'out of range' if wrong else 'empty'}; give noise levels in 1..{config.num_timesteps}.")
        return cls(mask_ratio, num_masks, timesteps, seed, num_groups)

    @property
    def passes(self) -> int:
        """Passes of the trunk for an image and a class."""
        return (self.num_masks or 1) * (self.num_groups or 1)

    def as_dict(self) -> dict:
        """For results."""
        return asdict(self)


def hidden_tokens(num_tokens: int, mask_ratio: float) -> int:
    """Tokens that a mask hides: at least one."""
    return max(1, math.floor(mask_ratio * num_tokens + 0.5))


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
    num_groups: int | None = None,
    timesteps: Sequence[int] | None = None,
    seed: int = 0,
    dtype: str = "fp32",
    batch_size: int = 256,
    progress: bool = True,
) -> np.ndarray:
    """Mean log-likelihood of an image's hidden tokens under every class and noise level.

    Masks and noise are the same for every class, so that only the class makes a difference, and for every image; they do not depend on
    the batch. The cost is num_masks x num_groups x C passes of the trunk an image (1 x C in a causal generator), and L of the head for
    each of them.

    Parameters
    ----------
    generator : BiGR
    codes : Tensor (n, N, K) of 0 and 1, or (n, N) of indices
        As its tokenizer encodes images.
    classes : sequence of int, optional
        C classes to compare; all of the generator by default.
    mask_ratio, num_masks, num_groups, timesteps, seed : see `LikelihoodSettings`
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
    settings = LikelihoodSettings.of(generator, mask_ratio, num_masks, timesteps, seed, num_groups)
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
            for reading in plan:
                with autocast(weight.device, dtype):
                    scores = [_scores(generator, batch, label, reading, settings.timesteps) for label in classes]
                result[rows] += torch.stack(scores, 1).double().cpu().numpy()
                bar.update(len(batch))
    return result / sum(reading.count for reading in plan)


@dataclass(frozen=True)
class _Reading:
    """What one pass hides and scores.

    hidden : indices of hidden tokens; None in a causal generator.
    scored : indices (h,) of those of them that are scored; None for all.
    count : h.
    flips : (L, h, K), which of their bits noise turns over; None for heads without noise.
    """

    hidden: Tensor | None
    scored: Tensor | None
    count: int
    flips: Tensor | None


def _plan(generator: BiGR, settings: LikelihoodSettings) -> list[_Reading]:
    """The passes, the same for every image and class."""
    config = generator.config
    draws = torch.Generator().manual_seed(settings.seed)
    if settings.mask_ratio is None or settings.num_masks is None or settings.num_groups is None:
        return [_Reading(None, None, config.num_tokens, _flips(generator, settings, config.num_tokens, draws))]
    count, plan = hidden_tokens(config.num_tokens, settings.mask_ratio), []
    for _ in range(settings.num_masks):
        hidden = torch.randperm(config.num_tokens, generator=draws)[:count]
        for size in reveal_counts(count, settings.num_groups):
            if size:
                plan.append(_Reading(hidden, hidden[:size], size, _flips(generator, settings, size, draws)))
                hidden = hidden[size:]
    return plan


def _flips(generator: BiGR, settings: LikelihoodSettings, count: int, draws: torch.Generator) -> Tensor | None:
    if settings.timesteps is None:
        return None
    keep = generator.head.alpha_bar.table[list(settings.timesteps)].float().cpu()[:, None, None]
    return torch.rand(len(settings.timesteps), count, generator.config.code_dim, generator=draws) < (1 - keep) / 2


def _scores(generator: BiGR, codes: Tensor, label: int, reading: _Reading, timesteps: tuple[int, ...] | None) -> Tensor:
    """Sum over scored tokens of their log-likelihood under one class, (b, L)."""
    batch, tokens = codes.shape[:2]
    labels = torch.full((batch,), label, device=codes.device)
    mask = None
    if reading.hidden is not None:
        mask = torch.zeros(batch, tokens, dtype=torch.bool, device=codes.device).index_fill_(1, reading.hidden.to(codes.device), True)
    condition = generator.token_conditions(codes, labels, mask)  # (b, N, P D)
    if reading.scored is not None:
        scored = reading.scored.to(codes.device)
        condition, codes = condition[:, scored], codes[:, scored]
    condition = condition.flatten(0, 1)
    if timesteps is None:
        indices = generator.code_format.indices(codes).flatten(0, 1)
        return generator.head.log_likelihood(condition, indices, generator.embedding).view(batch, -1).sum(1, keepdim=True)
    assert reading.flips is not None
    levels = []
    for t, flipped in zip(timesteps, reading.flips.to(codes.device, codes.dtype), strict=True):
        noisy = (codes - flipped).abs().flatten(0, 1)
        level = torch.full((len(noisy),), t, device=codes.device)
        levels.append(generator.head.log_likelihood(condition, codes.flatten(0, 1), level, noisy).view(batch, -1).sum(1))
    return torch.stack(levels, 1)
