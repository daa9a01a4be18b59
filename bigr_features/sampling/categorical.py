"""Masked sampling of classes: every hidden token is drawn in each step, and the least probable draws are hidden again.

B batch, N tokens, n of them hidden at first, S sub-codes a token, V classes. MaskGIT (arXiv:2202.04200) as ELM (arXiv:2410.16257) runs it:
the last step keeps all of its draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..functional import masking
from ..functional.filtering import guided
from ..functional.inference import evaluating
from .choice import choose_classes, is_greedy
from .labels import BatchLabels, batch_labels
from .noise import Noise, make_noise
from .orders import ranks
from .sampler import Sampler
from .settings import SamplingSettings


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
def sample_codes(
    model: nn.Module,
    labels: Tensor | None,
    *,
    label_weights: Tensor | None = None,
    codes: Tensor | None = None,
    mask: Tensor | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    seeds: Sequence[int] | Tensor | None = None,
    batch_invariant: bool = True,
    on_step: Callable[[DrawStep], None] | None = None,
    **settings,
) -> Tensor:
    """Draw the hidden tokens of a batch. Dropout is off while sampling.

    In each step every hidden token is drawn; the tokens whose draws have the lowest log-probability, plus Gumbel noise that falls to 0,
    are hidden again. Temperature, top_k and top_p shape the draws; the confidence is that of the distribution without them.

    Parameters
    ----------
    model : BiGR with a masked-language-model head
    labels : Tensor (B,) or (B, J), int64, or None
        Class indices; J of them an image with label_weights. None samples from the null class and needs batch_size.
    label_weights : Tensor (J,) or (B, J), optional
        Weights of the mixed labels, used as they are.
    codes, mask : Tensor (B, N, K) or (B, N), and (B, N) bool, optional
        Known codes, and where to draw new ones (True). Known tokens are never written. Images may hide different numbers.
    batch_size : int, optional
        Number of images when neither labels nor codes tell it.
    generator : torch.Generator, optional
        Source of every draw of the batch.
    seeds : B integers, optional
        One seed an image in place of `generator`: an image then does not depend on the others of its batch.
    batch_invariant : bool
        With seeds: run the network image by image, so that an image is the same to the last bit in any batch.
    on_step : callable, optional
        Called with a `DrawStep` after each step; with seeds and batch_invariant, of each image in turn.
    **settings
        Fields of `SamplingSettings`: num_reveal_steps, mask_schedule, guidance_scale, guidance_schedule, guidance_interval,
        guidance_power, temperature, top_k, top_p, gumbel_temperature, gumbel_schedule.

    Returns
    -------
    Tensor (B, N, K) of 0.0 and 1.0, or (B, N) int64, on the model's device

    Raises
    ------
    ValueError
        For settings out of range, or shapes that do not fit.
    """
    settings = SamplingSettings(**settings)
    form, tokens = model.code_format, model.config.num_tokens
    device = model.class_embedding.weight.device
    if (codes is None) != (mask is None):
        raise ValueError("codes and mask belong together: give the known codes and where to draw new ones, or neither.")
    if labels is None and codes is not None:
        batch_size = len(codes)
    batch = batch_labels(model.config, labels, label_weights, batch_size, device)
    if codes is None:
        codes = form.unknown(len(batch), tokens, device)
        mask = torch.ones(len(batch), tokens, dtype=torch.bool, device=device)
    codes, mask = codes.to(device), mask.to(device)
    form.check(codes, tokens)
    form.check_values(codes)
    if mask.shape != codes.shape[:2] or mask.dtype != torch.bool or len(batch) != len(codes):
        raise ValueError(
            f"codes {tuple(codes.shape)}, mask {tuple(mask.shape)} {mask.dtype} and {len(batch)} labels do not fit together; "
            "expected codes of B images, bool (B, N), and B labels."
        )
    noise = make_noise(len(batch), generator, seeds)
    one_by_one = noise.per_image and batch_invariant
    groups = [[image] for image in range(len(batch))] if one_by_one else [list(range(len(batch)))]
    with evaluating(model):
        drawn = [_draw(model, batch.of(g), codes[g], mask[g], noise.of(g), settings, on_step) for g in groups]
    return torch.cat(drawn)


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


def _draw(
    model: nn.Module,
    batch: BatchLabels,
    codes: Tensor,
    mask: Tensor,
    noise: Noise,
    settings: SamplingSettings,
    on_step: Callable[[DrawStep], None] | None,
) -> Tensor:
    form, steps = model.code_format, settings.num_reveal_steps
    size, asked, hidden_at_first = len(mask), mask, mask.sum(1)
    indices = form.indices(codes)  # (B, N, S)
    schedule = settings.gumbel_schedule or "down"
    for step in range(steps):
        progress = (step + 1) / steps
        scale = settings.guidance_at(progress, 1 / steps)
        given = batch.with_null() if scale != 1.0 and batch.guidable else batch
        times = len(given) // size
        shown = form.codes(indices)
        fed = (shown.repeat(times, *[1] * (shown.dim() - 1)), given.labels, mask.repeat(times, 1))
        condition = model.token_conditions(*fed, label_weights=given.weights)  # (B or 2 B, N, ...)
        logits = model.head.logits(condition[mask.repeat(times, 1)], model.embedding)  # the head runs on hidden tokens only
        logits = guided(*(logits.chunk(2) if times == 2 else (logits, None)), scale)  # (M, S, V)
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
