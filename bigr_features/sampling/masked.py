"""Masked sampling: all tokens hidden at first, then revealed step by step, the most confident first.

B batch, N tokens, K bits, b images that reveal something in a step, M rows (tokens) of them that the transcoder runs on, J mixed labels.
BiGR, arXiv:2410.14672, Sec. 3.2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..functional import checks, masking
from ..functional.inference import evaluating
from .noise import Noise, make_noise
from .orders import known_ranks, ranks
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
    batch_invariant: bool = True,
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
    batch_invariant : bool
        With seeds: run the network image by image, so that an image is the same to the last bit in any batch. False runs the whole batch
        at once, which is faster on an accelerator; matrix products then round differently by batch size, and now and then a bit whose
        draw lies within rounding of its probability turns over.
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
    one_by_one = noise.per_image and batch_invariant
    steps = settings.num_reveal_steps
    counts = [masking.reveal_counts(hidden, steps, settings.mask_schedule) for hidden in batch.mask.sum(1).tolist()]
    counts = torch.tensor(counts, device=device)  # (B, steps)
    before = counts.cumsum(1) - counts
    rank = None if settings.order == "entropy" else known_ranks(settings.order, batch.mask, noise)

    with evaluating(model):
        for step in range(steps):
            acting = counts[:, step].nonzero().flatten().tolist()  # b images
            if not acting:
                continue
            progress = (step + 1) / steps
            scale = settings.guidance_at(progress)
            count, first = counts[:, step, None], before[:, step, None]  # (B, 1)
            where = batch.mask & (count > 0)
            if rank is not None:
                where = where & (rank >= first) & (rank < first + count)
            groups = [[image] for image in acting] if one_by_one else [acting]
            rows = torch.cat(
                [_probabilities(model, batch, where, images, scale, settings, noise.of(images)) for images in groups]
            )  # (M, K)
            acting_noise = noise.of(acting)
            confidence = torch.full(where.shape, -torch.inf, device=device, dtype=rows.dtype)
            confidence[where] = (2 * rows - 1).abs().mean(-1)
            if settings.gumbel_temperature > 0:
                weight = masking.gumbel_temperature_at(progress, settings.gumbel_temperature, settings.gumbel_schedule)
                confidence[acting] += weight * acting_noise.gumbel((len(acting), where.shape[1]), device)
            revealed = where if rank is not None else (ranks(-confidence) < count) & where
            drawn = torch.zeros_like(batch.codes)
            drawn[where] = _bits(rows, where[acting].sum(1).tolist(), settings, acting_noise).to(drawn.dtype)
            codes = torch.where(revealed[..., None], drawn, batch.codes)
            if on_step is not None:
                probabilities = torch.full(codes.shape, torch.nan, device=device, dtype=rows.dtype)
                probabilities[where] = rows
                on_step(RevealStep(step, scale, batch.mask, probabilities, confidence, revealed, codes))
            batch = replace(batch, codes=codes, mask=batch.mask & ~revealed)
    return batch.codes


@dataclass(frozen=True)
class _Batch:
    """The state between two steps: codes (B, N, K), mask (B, N), labels (B,) or (B, J), and their weights."""

    codes: Tensor
    mask: Tensor
    labels: Tensor
    label_weights: Tensor | None


def _probabilities(
    model: nn.Module, batch: _Batch, where: Tensor, images: list[int], scale: float, settings: SamplingSettings, noise: Noise
) -> Tensor:
    """Bit probabilities (M, K) of the tokens in `where` of some images, image by image."""
    codes, mask, labels, weights = batch.codes[images], batch.mask[images], batch.labels[images], batch.label_weights
    weights = weights[images] if weights is not None and weights.dim() == 2 else weights
    rows = where[images].flatten().nonzero().squeeze(1)  # (M,)
    null = torch.full_like(labels, model.null_class)
    if scale != 1.0 and not bool((labels == null).all()):
        doubled = weights.repeat(2, 1) if weights is not None and weights.dim() == 2 else weights
        both = model.condition(codes.repeat(2, 1, 1), torch.cat([labels, null]), mask.repeat(2, 1), label_weights=doubled)
        cond, uncond = [half.flatten(0, 1)[rows] for half in both.chunk(2)]
    else:
        cond, uncond = model.condition(codes, labels, mask, label_weights=weights).flatten(0, 1)[rows], None
    rows_per_image = where[images].sum(1).tolist()
    return model.transcoder.sample(
        cond,
        uncond,
        num_denoise_steps=settings.num_denoise_steps,
        guidance_scale=scale,
        temperature=settings.temperature,
        posterior=settings.posterior,
        draw=lambda probability: noise.bernoulli(probability, rows_per_image),
    )


def _bits(probabilities: Tensor, rows_per_image: list[int], settings: SamplingSettings, noise: Noise) -> Tensor:
    """Final bits (M, K)."""
    if settings.bits == "threshold":
        return probabilities > 0.5
    return noise.bernoulli(probabilities, rows_per_image)


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
