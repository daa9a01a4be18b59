"""Masked sampling: all tokens hidden at first, then revealed step by step, the most confident first.

B batch, N tokens, K bits, b images that reveal something in a step, M rows (tokens) of them that the transcoder runs on, J mixed labels.
BiGR, arXiv:2410.14672, Sec. 3.2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from ..functional import masking
from ..functional.inference import evaluating, to_device
from .captions import Captions
from .labels import BatchLabels
from .orders import known_ranks, ranks
from .sampler import Sampler
from .settings import SamplingSettings
from .start import begin


@dataclass
class RevealStep:
    """What `on_step` sees after each step in which tokens were revealed.

    step : 0-based index among all reveal steps.
    guidance_scale : scale used in this step.
    mask : (B, N) bool, tokens hidden when the step began.
    probabilities : (B, N, K) bit probabilities; NaN where the transcoder did not run: on visible tokens, in images that reveal nothing in
        this step, and, with an order known beforehand, on tokens of later steps.
    confidence : (B, N) mean of |2p - 1| over bits, with Gumbel noise if asked for; -inf where the transcoder did not run.
    revealed : (B, N) bool, tokens fixed in this step.
    codes : (B, N, K) after the step.
    """

    step: int
    guidance_scale: float
    mask: Tensor
    probabilities: Tensor
    confidence: Tensor
    revealed: Tensor
    codes: Tensor


@torch.no_grad()
def sample_codes(model: nn.Module, labels: Tensor | None, *, on_step: Callable[[RevealStep], None] | None = None, **options) -> Tensor:
    """Draw the hidden tokens of a batch, most confident (lowest entropy) first unless another order is asked for.

    The transcoder runs on hidden tokens only (with an order known beforehand, on those of the step only), both guidance branches in one
    call. Dropout is off while sampling.

    Parameters
    ----------
    model : BiGR with the Bernoulli transcoder and a masked trunk
    labels : Tensor (B,) or (B, J), int64, or None
        See `start.begin`.
    on_step : callable, optional
        Called with a `RevealStep` after each step that revealed tokens.
    **options
        label_weights, codes and mask, batch_size, generator or seeds, and batch_invariant, as in `start.begin`; and fields of
        `SamplingSettings`, all but top_k and top_p.

    Returns
    -------
    Tensor (B, N, K) of 0.0 and 1.0, on the model's device

    Raises
    ------
    ValueError
        For settings out of range, or shapes that do not fit.
    """
    start = begin(model, labels, **options)
    settings, noise, device = start.settings, start.noise, start.codes.device
    batch = _Batch(start.codes.to(torch.float32), start.mask, start.labels)
    steps = settings.num_reveal_steps
    tokens = model.config.num_tokens
    # what the host has to know is read once, here: the loop below never waits for the device
    hidden = batch.mask.sum(1).tolist()
    classless = batch.labels.classless.tolist()
    plan = [masking.reveal_counts(number, steps, settings.mask_schedule) for number in hidden]  # B lists of `steps` counts
    counts = to_device(torch.tensor(plan), device)  # (B, steps)
    before = counts.cumsum(1) - counts
    rank = None if settings.order == "entropy" else known_ranks(settings.order, batch.mask, noise)
    final = settings.bits == "bernoulli"

    with evaluating(model):
        for step in range(steps):
            acting = [image for image, reveals in enumerate(plan) if reveals[step]]  # b images
            if not acting:
                continue
            progress = (step + 1) / steps
            num_chain = settings.denoise_steps_at(step, model.config.num_denoise_steps)
            scale = settings.guidance_at(progress, 1 / steps)
            count, first = counts[:, step, None], before[:, step, None]  # (B, 1)
            where = batch.mask & (count > 0)
            if rank is not None:
                where = where & (rank >= first) & (rank < first + count)
            rows_of = [plan[image][step] if rank is not None else hidden[image] - sum(plan[image][:step]) for image in acting]
            positions = masking.positions_of(where, sum(rows_of))  # (M,) in (B N), image by image

            gumbels = tokens if settings.gumbel_temperature > 0 else 0
            draws = noise.of(acting).step(rows_of, num_chain, final, model.config.code_dim, gumbels, model.class_embedding.weight)
            ends = [0, *accumulate(rows_of)]
            groups = [(i, i + 1) for i in range(len(acting))] if start.one_by_one else [(0, len(acting))]
            parts = []
            for first_image, end in groups:
                span = slice(ends[first_image], ends[end])
                some = _Part(acting[first_image:end], positions[span], all(classless[image] for image in acting[first_image:end]))
                parts.append(_probabilities(model, batch, some, scale, settings, num_chain, draws.chain(span)))
            rows = torch.cat(parts)  # (M, K)

            confidence = _spread((2 * rows - 1).abs().mean(-1), positions, where.shape, -torch.inf)
            if settings.gumbel_temperature > 0:
                weight = masking.gumbel_temperature_at(progress, settings.gumbel_temperature, settings.gumbel_schedule or "constant")
                confidence[_pick(acting, device)] += weight * draws.gumbel(device)
            revealed = where if rank is not None else (ranks(-confidence) < count) & where
            bits = draws.final(rows) if final else rows > 0.5
            drawn = _spread(bits.to(batch.codes.dtype), positions, batch.codes.shape, 0.0)
            codes = torch.where(revealed[..., None], drawn, batch.codes)
            if on_step is not None:
                probabilities = _spread(rows, positions, codes.shape, torch.nan)
                on_step(RevealStep(step, scale, batch.mask, probabilities, confidence, revealed, codes))
            batch = replace(batch, codes=codes, mask=batch.mask & ~revealed)
    return batch.codes


SAMPLER = Sampler(
    "masked sampling of bits",
    sample_codes,
    frozenset(field.name for field in fields(SamplingSettings)) - {"top_k", "top_p"},
    "leave it out; bits='threshold' makes the final bits the most probable ones",
)


@dataclass(frozen=True)
class _Batch:
    """The state between two steps: codes (B, N, K), mask (B, N), and labels."""

    codes: Tensor
    mask: Tensor
    labels: BatchLabels | Captions


@dataclass(frozen=True)
class _Part:
    """Some images that run together.

    images : their numbers in the batch, ascending.
    positions : (M,), their tokens to draw, in (B N).
    classless : whether all of them have the null class, so that guidance changes nothing.
    """

    images: list[int]
    positions: Tensor
    classless: bool


def _probabilities(
    model: nn.Module, batch: _Batch, part: _Part, scale: float, settings: SamplingSettings, num_chain: int, draw: Callable[[Tensor], Tensor]
) -> Tensor:
    """Bit probabilities (M, K) of some tokens, image by image."""
    device = batch.codes.device
    images = _pick(part.images, device)
    codes, mask, labels = batch.codes[images], batch.mask[images], batch.labels.of(images)
    tokens = codes.shape[1]
    if len(codes) == len(batch.codes):
        rows = part.positions
    else:  # from tokens of the batch to tokens of these images
        place = torch.zeros(len(batch.codes), dtype=torch.int64)
        place[part.images] = torch.arange(len(part.images))
        rows = to_device(place, device)[part.positions // tokens] * tokens + part.positions % tokens
    if scale != 1.0 and not part.classless:
        both = labels.with_null()
        conditions = model.condition(codes.repeat(2, 1, 1), both.labels, mask.repeat(2, 1), label_weights=both.weights)
        cond, uncond = [half.flatten(0, 1)[rows] for half in conditions.chunk(2)]
    else:
        cond, uncond = model.condition(codes, labels.labels, mask, label_weights=labels.weights).flatten(0, 1)[rows], None
    return model.transcoder.sample(
        cond,
        uncond,
        num_denoise_steps=num_chain,
        guidance_scale=scale,
        temperature=settings.temperature,
        posterior=settings.posterior,
        draw=draw,
    )


def _pick(images: list[int], device) -> slice | Tensor:
    """What selects some images of a batch, without a copy where they stand side by side."""
    if images == list(range(images[0], images[-1] + 1)):
        return slice(images[0], images[-1] + 1)
    return to_device(torch.tensor(images), device)


def _spread(rows: Tensor, positions: Tensor, shape: torch.Size, missing: float) -> Tensor:
    """A tensor of `shape` (B, N, ...) that holds `rows` (M, ...) at `positions` (M,) of (B N), and `missing` elsewhere."""
    flat = rows.new_full((shape[0] * shape[1], *rows.shape[1:]), missing)
    return flat.index_copy_(0, positions, rows).view(shape)
