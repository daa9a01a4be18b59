"""Masked sampling: all tokens hidden at first, then revealed step by step, the most confident first.

B batch, N tokens, K bits, b images that reveal something in a step, M rows (tokens) of them that the transcoder runs on, J mixed labels.
BiGR, arXiv:2410.14672, Sec. 3.2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from ..functional import checks, masking
from ..functional.inference import evaluating, to_device
from .noise import make_noise
from .orders import known_ranks, ranks
from .sampler import Sampler
from .settings import SamplingSettings


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
    batch_invariant: bool | None = None,
    on_step: Callable[[RevealStep], None] | None = None,
    **settings,
) -> Tensor:
    """Draw the hidden tokens of a batch, most confident (lowest entropy) first unless another order is asked for.

    The transcoder runs on hidden tokens only (with an order known beforehand, on those of the step only), both guidance branches in one
    call. Dropout is off while sampling.

    Parameters
    ----------
    model : BiGR
    labels : Tensor (B,) or (B, J), int64, or None
        Class indices; J of them an image with label_weights. None samples from the null class and needs batch_size.
    label_weights : Tensor (J,) or (B, J), optional
        Weights of the mixed labels, used as they are.
    codes, mask : Tensor (B, N, K) and (B, N) bool, optional
        Known codes, and where to draw new ones (True). Known tokens are never written. Images may hide different numbers.
    batch_size : int, optional
        Number of images when neither labels nor codes tell it.
    generator : torch.Generator, optional
        Source of every draw of the batch.
    seeds : B integers, optional
        One seed an image in place of `generator`: an image then does not depend on the others of its batch.
    batch_invariant : bool, optional
        With seeds: True runs the network image by image, so that an image is the same to the last bit in any batch. False runs the whole
        batch at once, which is faster on an accelerator; matrix products then round differently by batch size, and now and then a bit
        whose draw lies within rounding of its probability turns over. By default True on a CPU and False on an accelerator. The numbers
        drawn are the same everywhere.
    on_step : callable, optional
        Called with a `RevealStep` after each step that revealed tokens.
    **settings
        Fields of `SamplingSettings`: num_reveal_steps, num_denoise_steps, order, guidance_scale, guidance_schedule, guidance_interval,
        temperature, gumbel_temperature, gumbel_schedule, mask_schedule, posterior, bits.

    Returns
    -------
    Tensor (B, N, K) of 0.0 and 1.0, on the model's device

    Raises
    ------
    ValueError
        For settings out of range, or shapes that do not fit.
    """
    settings = SamplingSettings(**settings)
    device = model.class_embedding.weight.device
    batch = _start(model.config, labels, label_weights, codes, mask, batch_size, device)
    noise = make_noise(len(batch.labels), generator, seeds)
    one_by_one = noise.per_image and runs_one_by_one(batch_invariant, device)
    steps = settings.num_reveal_steps
    tokens = model.config.num_tokens
    # what the host has to know is read once, here: the loop below never waits for the device
    hidden = batch.mask.sum(1).tolist()
    classless = (batch.labels.reshape(len(hidden), -1) == model.null_class).all(1).tolist()
    plan = [masking.reveal_counts(number, steps, settings.mask_schedule) for number in hidden]  # B lists of `steps` counts
    counts = to_device(torch.tensor(plan), device)  # (B, steps)
    before = counts.cumsum(1) - counts
    rank = None if settings.order == "entropy" else known_ranks(settings.order, batch.mask, noise)
    num_chain = settings.num_denoise_steps or model.config.num_denoise_steps
    final = settings.bits == "bernoulli"

    with evaluating(model):
        for step in range(steps):
            acting = [image for image, reveals in enumerate(plan) if reveals[step]]  # b images
            if not acting:
                continue
            progress = (step + 1) / steps
            scale = settings.guidance_at(progress, 1 / steps)
            count, first = counts[:, step, None], before[:, step, None]  # (B, 1)
            where = batch.mask & (count > 0)
            if rank is not None:
                where = where & (rank >= first) & (rank < first + count)
            known = [sum(reveals[:step]) for reveals in plan] if rank is None else None
            rows_of = [plan[image][step] if rank is not None else hidden[image] - known[image] for image in acting]
            positions = masking.positions_of(where, sum(rows_of))  # (M,) in (B N), image by image

            gumbels = tokens if settings.gumbel_temperature > 0 else 0
            draws = noise.of(acting).step(rows_of, num_chain, final, model.config.code_dim, gumbels, model.class_embedding.weight)
            starts = [0, *accumulate(rows_of)]
            groups = [(i, i + 1) for i in range(len(acting))] if one_by_one else [(0, len(acting))]
            parts = []
            for start, end in groups:
                span = slice(starts[start], starts[end])
                some = _Part(acting[start:end], positions[span], all(classless[image] for image in acting[start:end]))
                parts.append(_probabilities(model, batch, some, scale, settings, draws.chain(span)))
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
    """The state between two steps: codes (B, N, K), mask (B, N), labels (B,) or (B, J), and their weights."""

    codes: Tensor
    mask: Tensor
    labels: Tensor
    label_weights: Tensor | None


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
    model: nn.Module, batch: _Batch, part: _Part, scale: float, settings: SamplingSettings, draw: Callable[[Tensor], Tensor]
) -> Tensor:
    """Bit probabilities (M, K) of some tokens, image by image."""
    device = batch.codes.device
    images = _pick(part.images, device)
    codes, mask, labels, weights = batch.codes[images], batch.mask[images], batch.labels[images], batch.label_weights
    weights = weights[images] if weights is not None and weights.dim() == 2 else weights
    tokens = codes.shape[1]
    if len(codes) == len(batch.codes):
        rows = part.positions
    else:  # from tokens of the batch to tokens of these images
        place = torch.zeros(len(batch.codes), dtype=torch.int64)
        place[part.images] = torch.arange(len(part.images))
        rows = to_device(place, device)[part.positions // tokens] * tokens + part.positions % tokens
    null = torch.full_like(labels, model.null_class)
    if scale != 1.0 and not part.classless:
        doubled = weights.repeat(2, 1) if weights is not None and weights.dim() == 2 else weights
        both = model.condition(codes.repeat(2, 1, 1), torch.cat([labels, null]), mask.repeat(2, 1), label_weights=doubled)
        cond, uncond = [half.flatten(0, 1)[rows] for half in both.chunk(2)]
    else:
        cond, uncond = model.condition(codes, labels, mask, label_weights=weights).flatten(0, 1)[rows], None
    return model.transcoder.sample(
        cond,
        uncond,
        num_denoise_steps=settings.num_denoise_steps,
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


def runs_one_by_one(batch_invariant: bool | None, device: torch.device) -> bool:
    """Whether seeded images run through a network one at a time: as asked for, or on a CPU."""
    return device.type == "cpu" if batch_invariant is None else batch_invariant


def _start(config, labels, label_weights, codes, mask, batch_size, device) -> _Batch:
    """The checked batch; codes are zeros where unknown."""
    shape = (config.num_tokens, config.code_dim)
    if (codes is None) != (mask is None):
        raise ValueError("codes and mask belong together: give the known codes and where to draw new ones, or neither.")
    if labels is None:
        batch_size = len(codes) if codes is not None else batch_size
        if batch_size is None:
            raise ValueError("labels is None, so the number of images is unknown; give batch_size.")
        labels = torch.full((batch_size,), config.null_class, device=device)
    labels = torch.as_tensor(labels, device=device)
    checks.check_labels(labels, config.null_class, config.unconditional)
    if labels.dim() != (1 if label_weights is None else 2):
        raise ValueError(f"labels have shape {tuple(labels.shape)}; expected (batch,), or (batch, mixed labels) with label_weights.")
    if len(labels) == 0:
        raise ValueError("there are no labels, so there is nothing to draw; give at least one.")
    if label_weights is not None and tuple(label_weights.shape) not in ((labels.shape[1],), tuple(labels.shape)):
        raise ValueError(f"label_weights have shape {tuple(label_weights.shape)}; expected ({labels.shape[1]},) or {tuple(labels.shape)}.")
    if batch_size not in (None, len(labels)):
        raise ValueError(f"batch_size={batch_size} but there are labels for {len(labels)} images.")
    if label_weights is not None:
        label_weights = label_weights.to(device)
    if codes is None:
        unknown = torch.zeros(len(labels), *shape, device=device)
        return _Batch(unknown, torch.ones(unknown.shape[:2], dtype=torch.bool, device=device), labels, label_weights)
    codes, mask = codes.to(device), mask.to(device)
    checks.check_codes(codes, *shape)
    checks.check_bits(codes)
    if mask.shape != codes.shape[:2] or mask.dtype != torch.bool or len(labels) != len(codes):
        raise ValueError(
            f"codes {tuple(codes.shape)}, mask {tuple(mask.shape)} {mask.dtype} and {len(labels)} labels do not fit together; "
            "expected (B, N, K), bool (B, N), and B labels."
        )
    return _Batch(codes.to(torch.float32), mask, labels, label_weights)
