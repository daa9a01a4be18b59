"""Masked sampling of classes: every hidden token is drawn in each step, and the least probable draws are hidden again.

B batch, N tokens, n of them hidden at first, S sub-codes a token, V classes. MaskGIT (arXiv:2202.04200) as ELM (arXiv:2410.16257) runs it:
the last step keeps all of its draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..functional import masking
from ..functional.filtering import guided
from ..functional.inference import evaluating
from .choice import choose_classes, is_greedy
from .orders import ranks
from .sampler import Sampler
from .start import Start, begin


@dataclass
class DrawStep:
    """What `on_step` sees after each step.

    step : 0-based index.
    guidance_scale : scale used in this step.
    mask : (B, N) bool, tokens hidden when the step began.
    logits : (B, N, S, V) after guidance; NaN on known tokens, where the head did not run.
    confidence : (B, N) mean log-probability of the drawn sub-codes, with Gumbel noise if asked for; inf on known tokens.
    probabilities : (B, N, S) of the drawn sub-codes, before temperature and filters; 1 on known tokens.
    revealed : (B, N) bool, tokens that stay; in the last step all that were hidden.
    codes : (B, N, K) or (B, N), every token with its draw of this step, hidden again or not.
    """

    step: int
    guidance_scale: float
    mask: Tensor
    logits: Tensor
    confidence: Tensor
    probabilities: Tensor
    revealed: Tensor
    codes: Tensor


@torch.no_grad()
def sample_codes(model: nn.Module, labels: Tensor | None, *, on_step: Callable[[DrawStep], None] | None = None, **options) -> Tensor:
    """Draw the hidden tokens of a batch. Dropout is off while sampling.

    In each step every hidden token is drawn; the tokens whose draws have the lowest log-probability, plus Gumbel noise that falls to 0,
    are hidden again. Temperature, top_k and top_p shape the draws; the confidence is that of the distribution without them.

    Parameters
    ----------
    model : BiGR with a masked-language-model head
    labels : Tensor (B,) or (B, J), int64, or None
        See `start.begin`.
    on_step : callable, optional
        Called with a `DrawStep` after each step; where images run one by one, of each in turn.
    **options
        label_weights, codes and mask, batch_size, generator or seeds, and batch_invariant, as in `start.begin`; and of `SamplingSettings`
        num_reveal_steps, mask_schedule, guidance_scale, guidance_schedule, guidance_interval, guidance_power, temperature, top_k, top_p,
        gumbel_temperature and gumbel_schedule.

    Returns
    -------
    Tensor (B, N, K) of 0.0 and 1.0, or (B, N) int64, on the model's device

    Raises
    ------
    ValueError
        For settings out of range, or shapes that do not fit.
    """
    start = begin(model, labels, **options)
    with evaluating(model):
        return torch.cat([_draw(model, start, images, on_step) for images in start.groups])


SAMPLER = Sampler(
    "masked sampling of classes, which draws whole tokens, the most probable first",
    sample_codes,
    frozenset(
        {
            "num_reveal_steps",
            "mask_schedule",
            "guidance_scale",
            "guidance_schedule",
            "guidance_interval",
            "guidance_power",
            "temperature",
            "top_k",
            "top_p",
            "gumbel_temperature",
            "gumbel_schedule",
        }
    ),
    "leave it out",
)


def _draw(model: nn.Module, start: Start, images: list[int], on_step: Callable[[DrawStep], None] | None) -> Tensor:
    """Codes of some images of the batch."""
    codes, mask, batch, noise = start.codes[images], start.mask[images], start.labels.of(images), start.noise.of(images)
    form, settings, steps = model.code_format, start.settings, start.settings.num_reveal_steps
    size, asked, hidden_at_first = len(mask), mask, mask.sum(1)
    guidable = batch.guidable
    indices = form.indices(codes)  # (B, N, S)
    schedule = settings.gumbel_schedule or "down"
    for step in range(steps):
        progress = (step + 1) / steps
        scale = settings.guidance_at(progress, 1 / steps)
        given = batch.with_null() if scale != 1.0 and guidable else batch
        times = len(given) // size
        shown = form.codes(indices)
        fed = (shown.repeat(times, *[1] * (shown.dim() - 1)), given.labels, mask.repeat(times, 1))
        condition = model.token_conditions(*fed, label_weights=given.weights)  # (B or 2 B, N, ...)
        logits = model.head.logits(condition[mask.repeat(times, 1)], model.embedding)  # the head runs on hidden tokens only
        cond, uncond = logits.chunk(2) if times == 2 else (logits, None)
        logits = guided(cond, uncond, scale)  # (M, S, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        wide = (size, indices[0].numel())  # noise is drawn for all tokens, so that it does not depend on which are hidden
        uniform = None if is_greedy(settings) else noise.uniform(wide, logits.device).reshape(indices.shape)[mask]
        drawn, _ = choose_classes(logits, settings, uniform)
        score = logits.log_softmax(-1).gather(-1, drawn[..., None])[..., 0]  # (M, S)
        probability = score.exp()
        if settings.gumbel_temperature > 0:
            weight = masking.gumbel_temperature_at(progress, settings.gumbel_temperature, schedule)
            score = score + weight * noise.gumbel(wide, score.device).reshape(indices.shape)[mask]
        confidence = torch.full(mask.shape, math.inf, device=mask.device, dtype=score.dtype)
        confidence[mask] = score.mean(-1)
        indices = indices.masked_scatter(mask[..., None], drawn)
        left = _left(hidden_at_first, mask.sum(1), masking.masked_fraction(progress, settings.mask_schedule))
        again = (ranks(confidence) < left[:, None]) & mask
        last = step + 1 == steps
        if on_step is not None:
            probabilities = torch.ones(indices.shape, device=mask.device, dtype=score.dtype).masked_scatter(mask[..., None], probability)
            whole = torch.full((*indices.shape, form.vocab_size), math.nan, device=mask.device, dtype=logits.dtype)
            whole[mask] = logits
            revealed = mask if last else mask & ~again
            on_step(DrawStep(step, scale, mask, whole, confidence, probabilities, revealed, form.codes(indices)))
        mask = again
    return torch.where(_wide(asked, codes), form.codes(indices).to(codes.dtype), codes)


def _left(hidden_at_first: Tensor, hidden: Tensor, fraction: float) -> Tensor:
    """Tokens (B,) hidden again after a step: at least one less than before, but one until the last step where any was hidden."""
    planned = (hidden_at_first.double() * fraction).floor().long()
    return torch.minimum(planned, hidden - 1).clamp(min=1).minimum(hidden)


def _wide(mask: Tensor, codes: Tensor) -> Tensor:
    return mask[..., None] if codes.dim() == 3 else mask
