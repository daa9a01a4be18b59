"""Bernoulli diffusion on bits: schedule, kernels, reverse step and weighted loss.   M tokens, K bits, T noise levels

Functions of tensors; they know no model. The forward process keeps a bit with some probability and otherwise replaces it
by a fair coin. Level 0 is clean, level T is pure noise (Binary Latent Diffusion, arXiv:2304.04820; BiGR, arXiv:2410.14672).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .inference import to_device
from .schedules import NOISE_SCHEDULES, POSTERIORS


def keep_probabilities(num_timesteps: int, schedule: str = "linear") -> Tensor:
    """Probability k_t (alpha-bar) that a bit is still its clean self at noise level t = 0..T.

    linear: 1 - t/T.  cosine: (1 + cos(pi t/T)) / 2.  sigmoid: logistic from 3 to -3 with temperature 0.8 in t/T, scaled to 1 at 0
    as the public code does, that is (s(3/0.8) - s(3t/(0.8 T))) / (s(3/0.8) - s(0)).

    Returns
    -------
    Tensor (T + 1,), float64, on the CPU
        k_0 = 1 and k_T = 0. The marginal is q(z_t = 1) = k_t z_0 + (1 - k_t) / 2, and the step from t' to t keeps a bit with
        probability k_t / k_t' (the closed form of the product of single steps).
    """
    progress = torch.arange(num_timesteps + 1, dtype=torch.float64, device="cpu") / num_timesteps  # some devices have no float64
    if schedule == "linear":
        return 1 - progress
    if schedule == "cosine":
        keep = torch.cos(math.pi / 2 * progress) ** 2
        keep[-1] = 0.0
        return keep
    if schedule == "sigmoid":
        top = torch.sigmoid(torch.tensor(3 / 0.8, dtype=torch.float64, device="cpu"))
        return (top - torch.sigmoid(3 * progress / 0.8)) / (top - 0.5)
    raise ValueError(f"noise schedule {schedule!r} is unknown; choose one of {', '.join(NOISE_SCHEDULES)}.")


def transition(bit: Tensor, keep: Tensor | float) -> Tensor:
    """Probability that a bit is 1 after it was kept with probability `keep` and otherwise replaced by a fair coin.

    `bit` may be a probability. With keep = k_t this is the marginal from clean bits, with k_t / k_(t-1) one forward step,
    with k_t / k_t' several steps at once.
    """
    return keep * bit + (1 - keep) / 2


def flip_to_clean(noisy: Tensor, flip: Tensor) -> Tensor:
    """Probability that the clean bit is 1, from the noisy bit and the probability `flip` that the two differ."""
    return noisy * (1 - flip) + (1 - noisy) * flip


def posterior(
    noisy: Tensor, clean: Tensor, keep_earlier: Tensor | float, keep_step: Tensor | float, form: str = "official", eps: float = 0.0
) -> Tensor:
    """Probability that the bit at the earlier level t' is 1, given the noisy bit at t and the predicted clean probability.

    Parameters
    ----------
    noisy : Tensor (M, K)
        Bits z_t.
    clean : Tensor (M, K)
        P(z_0 = 1).
    keep_earlier, keep_step : float or broadcastable Tensor
        k_t' and k_t / k_t'.
    form : "official" or "exact"
        "official" mixes over the clean bit before it normalises, as released weights were sampled; "exact" averages the two
        normalised posteriors, the true marginal. They differ strongly at small t.
    eps : float
        Added to the denominator; the auxiliary training loss uses 1e-6.
    """
    if form == "official":
        return _bayes(transition(clean, keep_earlier), transition(noisy, keep_step), eps)
    if form == "exact":
        evidence = transition(noisy, keep_step)
        one = _bayes(transition(torch.ones_like(clean), keep_earlier), evidence, eps)
        zero = _bayes(transition(torch.zeros_like(clean), keep_earlier), evidence, eps)
        return clean * one + (1 - clean) * zero
    raise ValueError(f"posterior {form!r} is unknown; choose one of {', '.join(POSTERIORS)}.")


def _bayes(prior: Tensor, evidence: Tensor, eps: float) -> Tensor:
    joint = prior * evidence
    return joint / (joint + (1 - prior) * (1 - evidence) + eps)


def sampling_timesteps(num_denoise_steps: int, num_timesteps: int) -> list[int]:
    """Noise levels visited in sampling, noisiest first: `num_denoise_steps` of T..1, evenly spaced.

    Raises
    ------
    ValueError
        If num_denoise_steps is not in 1..num_timesteps.
    """
    if not 1 <= num_denoise_steps <= num_timesteps:
        raise ValueError(f"num_denoise_steps={num_denoise_steps}, but it must lie in 1..{num_timesteps} (num_timesteps).")
    if num_denoise_steps == 1:
        return [num_timesteps]
    last = num_timesteps - 1
    return [1 + last * step // (num_denoise_steps - 1) for step in reversed(range(num_denoise_steps))]


def draw(probability: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bernoulli bits (0.0 or 1.0) on the device of `probability`.

    A generator of another device draws uniform numbers there, which are copied; the bits are the same as if `probability` lay there.
    """
    if generator is None or generator.device.type == probability.device.type:
        return torch.bernoulli(probability, generator=generator)
    return from_uniform(probability, to_device(uniform(probability.shape, probability.dtype, generator), probability.device))


def uniform(shape, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """The numbers in [0, 1), on the generator's device, that `torch.bernoulli` compares with probabilities of this dtype."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return torch.rand(shape, generator=generator, device=generator.device, dtype=wide)


def from_uniform(probability: Tensor, numbers: Tensor) -> Tensor:
    """Bits (0.0 or 1.0): 1 where the uniform number lies below the probability."""
    return (numbers < probability).to(probability.dtype)


def balance_weights(target: Tensor) -> Tensor:
    """Weights of the wBCE (BiGR, Sec. 3.1): with r the share of ones in a token's K targets, (1 - r) for ones, r for zeros, plus 1/K."""
    ones = target.mean(dim=-1, keepdim=True)
    return (1 - ones) * target + ones * (1 - target) + 1 / target.shape[-1]


def bit_loss(logits: Tensor, target: Tensor, focal_gamma: float | None, focal_alpha: float | None, weighted: bool = True) -> Tensor:
    """Loss of every bit, unreduced, in nats.

    Parameters
    ----------
    logits, target : Tensor (..., K)
        Logits and bits of what is predicted.
    focal_gamma : float or None
        None is the plain BCE, whatever else is given. A number multiplies by (1 - p_target) ** gamma; 0 leaves 1.
    focal_alpha : float or None
        None is the per-token balance of the wBCE, a number the fixed weights alpha and 1 - alpha.
    weighted : bool
        False leaves out balance and alpha: official models without flip prediction use the focal factor alone.
    """
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if focal_gamma is None:
        return loss
    if focal_gamma != 0:
        right = torch.sigmoid(logits) * target + torch.sigmoid(-logits) * (1 - target)
        loss = loss * (1 - right).clamp(1e-6, 1 - 1e-6) ** focal_gamma
    if not weighted:
        return loss
    if focal_alpha is None:
        return loss * balance_weights(target)
    return loss * (focal_alpha * target + (1 - focal_alpha) * (1 - target))
