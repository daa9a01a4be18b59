"""Masked sampling: all tokens hidden at first, the most confident revealed step by step.

B batch, N tokens, K bits, M tokens still hidden in the whole batch, J mixed labels.  BiGR, arXiv:2410.14672, Sec. 3.2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .. import bernoulli, checks, masking
from ..models.modes import evaluating

GUIDANCE_SCHEDULES = ("constant", "linear")


@dataclass
class RevealStep:
    """What `on_step` sees after each step in which tokens were revealed.

    step : 0-based index among all reveal steps.
    guidance_scale : scale used in this step.
    mask : (B, N) bool, tokens hidden when the step began.
    probabilities : (B, N, K) bit probabilities; NaN where nothing was hidden.
    confidence : (B, N) score that decides the order; -inf where nothing was hidden.
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
    num_reveal_steps: int = 20,
    num_denoise_steps: int | None = None,
    guidance_scale: float = 2.5,
    guidance_schedule: str = "constant",
    temperature: float = 1.0,
    gumbel_temperature: float = 0.0,
    gumbel_schedule: str = "constant",
    mask_schedule: str = "cosine",
    posterior: str = "official",
    label_weights: Tensor | None = None,
    codes: Tensor | None = None,
    mask: Tensor | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | None = None,
    on_step: Callable[[RevealStep], None] | None = None,
) -> Tensor:
    """Draw the hidden tokens of a batch, most confident (lowest entropy) first.

    The transcoder runs on the tokens that are still hidden only, both guidance branches in one call. Dropout is off while sampling.

    Parameters
    ----------
    model : BiGR
    labels : Tensor (B,) or (B, J), int64, or None
        Class indices; J of them an image with label_weights. None samples from the null class and needs batch_size.
    num_reveal_steps : int
        Steps of the outer loop, 1 or more.
    num_denoise_steps : int, optional
        Reverse steps of the transcoder's chain, 1..T; the configuration's number by default.
    guidance_scale : float
        uncond + s * (cond - uncond) on logits, 1 or more. 1.0 is no guidance and costs one pass.
    guidance_schedule : "constant" or "linear"
        "linear" rises from near 1 to guidance_scale: 1 + (s - 1) r after the fraction r of steps.
    temperature : float
        Divides logits.
    gumbel_temperature, gumbel_schedule : float, "constant", "down" or "up"
        Weight of Gumbel noise added to the confidence.
    mask_schedule : "cosine" or "linear"
        How the hidden fraction falls.
    posterior : "official" or "exact"
        Reverse step, see `bernoulli.posterior`.
    label_weights : Tensor (J,) or (B, J), optional
        Weights of the mixed labels.
    codes, mask : Tensor (B, N, K) and (B, N) bool, optional
        Known codes, and where to draw new ones (True). Known tokens are never written. Images may hide different numbers.
    batch_size : int, optional
        Number of images when neither labels nor codes tell it.
    generator : torch.Generator, optional
        Source of every draw.
    on_step : callable, optional
        Called with a `RevealStep` after each step that revealed tokens.

    Returns
    -------
    Tensor (B, N, K) of 0.0 and 1.0, on the model's device

    Raises
    ------
    ValueError
        For settings out of range, or shapes that do not fit.
    """
    config = model.config
    _check_settings(guidance_scale, guidance_schedule, temperature, gumbel_temperature, posterior)
    device = model.class_embedding.weight.device
    codes, mask, labels = _start(config, labels, label_weights, codes, mask, batch_size, device)
    null = torch.full_like(labels, model.null_class)
    guided = guidance_scale != 1.0 and not bool((labels == null).all())
    counts = [masking.reveal_counts(hidden, num_reveal_steps, mask_schedule) for hidden in mask.sum(1).tolist()]

    with evaluating(model):
        for step in range(num_reveal_steps):
            count = torch.tensor([image[step] for image in counts], device=device)
            if not any(image[step] for image in counts):
                continue
            progress = (step + 1) / num_reveal_steps
            scale = guidance_scale if guidance_schedule == "constant" else 1 + (guidance_scale - 1) * progress
            rows = mask.flatten().nonzero().squeeze(1)  # (M,)
            if guided:
                both = model.condition(
                    codes.repeat(2, 1, 1), torch.cat([labels, null]), mask.repeat(2, 1), label_weights=_twice(label_weights)
                )
                cond, uncond = [half.flatten(0, 1)[rows] for half in both.chunk(2)]
            else:
                cond, uncond = model.condition(codes, labels, mask, label_weights=label_weights).flatten(0, 1)[rows], None
            probability = model.transcoder.sample(
                cond,
                uncond,
                num_denoise_steps=num_denoise_steps,
                guidance_scale=scale,
                temperature=temperature,
                posterior=posterior,
                generator=generator,
            )  # (M, K)
            confidence = torch.full(mask.shape, -torch.inf, device=device, dtype=probability.dtype)
            confidence[mask] = (2 * probability - 1).abs().mean(-1)
            noise_weight = masking.gumbel_temperature_at(progress, gumbel_temperature, gumbel_schedule)
            if gumbel_temperature > 0:
                confidence = confidence + noise_weight * masking.gumbel_noise(tuple(mask.shape), generator, device)
            rank = confidence.argsort(dim=1, descending=True).argsort(dim=1)
            revealed = (rank < count[:, None]) & mask
            drawn = torch.zeros_like(codes)
            drawn[mask] = bernoulli.draw(probability, generator).to(codes.dtype)
            codes = torch.where(revealed[..., None], drawn, codes)
            if on_step is not None:
                probabilities = torch.full(codes.shape, torch.nan, device=device, dtype=probability.dtype)
                probabilities[mask] = probability
                on_step(RevealStep(step, scale, mask, probabilities, confidence, revealed, codes))
            mask = mask & ~revealed
    return codes


def _start(config, labels, label_weights, codes, mask, batch_size, device) -> tuple[Tensor, Tensor, Tensor]:
    """Checked codes (zeros where unknown), mask and labels of the batch."""
    shape = (config.num_tokens, config.code_dim)
    if (codes is None) != (mask is None):
        raise ValueError("codes and mask belong together: give the known codes and where to draw new ones, or neither.")
    if labels is None:
        batch_size = len(codes) if codes is not None else batch_size
        if batch_size is None:
            raise ValueError("labels is None, so the number of images is unknown; give batch_size.")
        labels = torch.full((batch_size,), config.null_class, device=device)
    labels = torch.as_tensor(labels, device=device)
    checks.check_labels(labels, config.null_class)
    if labels.dim() != (1 if label_weights is None else 2):
        raise ValueError(f"labels have shape {tuple(labels.shape)}; expected (batch,), or (batch, mixed labels) with label_weights.")
    if label_weights is not None and tuple(label_weights.shape) not in ((labels.shape[1],), tuple(labels.shape)):
        raise ValueError(f"label_weights have shape {tuple(label_weights.shape)}; expected ({labels.shape[1]},) or {tuple(labels.shape)}.")
    if batch_size not in (None, len(labels)):
        raise ValueError(f"batch_size={batch_size} but there are labels for {len(labels)} images.")
    if codes is None:
        return torch.zeros(len(labels), *shape, device=device), torch.ones(len(labels), shape[0], dtype=torch.bool, device=device), labels
    codes, mask = codes.to(device), mask.to(device)
    checks.check_codes(codes, *shape)
    checks.check_bits(codes)
    if mask.shape != codes.shape[:2] or mask.dtype != torch.bool or len(labels) != len(codes):
        raise ValueError(
            f"codes {tuple(codes.shape)}, mask {tuple(mask.shape)} {mask.dtype} and {len(labels)} labels do not fit together; "
            "expected (B, N, K), bool (B, N), and B labels."
        )
    return codes.to(torch.float32), mask, labels


def _check_settings(guidance_scale: float, guidance_schedule: str, temperature: float, gumbel_temperature: float, posterior: str) -> None:
    if not guidance_scale >= 1:
        raise ValueError(f"guidance_scale={guidance_scale}; expected 1.0 (no guidance) or more.")
    if guidance_schedule not in GUIDANCE_SCHEDULES:
        raise ValueError(f"guidance_schedule={guidance_schedule!r}; choose one of {', '.join(GUIDANCE_SCHEDULES)}.")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}; expected a positive number.")
    if not gumbel_temperature >= 0:
        raise ValueError(f"gumbel_temperature={gumbel_temperature}; expected 0 or more.")
    if posterior not in bernoulli.POSTERIORS:
        raise ValueError(f"posterior {posterior!r} is unknown; choose one of {', '.join(bernoulli.POSTERIORS)}.")


def _twice(label_weights: Tensor | None) -> Tensor | None:
    if label_weights is None or label_weights.dim() == 1:
        return label_weights
    return label_weights.repeat(2, 1)
