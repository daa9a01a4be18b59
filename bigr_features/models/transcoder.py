"""The transcoder: from a token's condition vector to the bits of that token, by Bernoulli diffusion.

M tokens (any set of them, flattened), K bits, D trunk width, W denoiser width, T noise levels
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import bernoulli
from ..functional.inference import to_device
from .config import GeneratorConfig
from .constants import ConstantTable
from .heads import Drawn
from .transformer import modulate

SINUSOID_WIDTH = 256
CPU_ROWS = 512


@lru_cache(maxsize=16)
def alpha_bar_numbers(num_timesteps: int, schedule: str) -> tuple[float, ...]:
    """`bernoulli.keep_probabilities` as numbers of Python."""
    return tuple(bernoulli.keep_probabilities(num_timesteps, schedule).tolist())


@dataclass
class LossTerms:
    """What the training loss returns, each a scalar Tensor.

    loss : what is minimised: bce + aux_weight * auxiliary term, mean over hidden tokens and bits, nats.
    bce : its cross-entropy part, weighting included.
    bit_accuracy : share of the bits of hidden tokens whose clean value the logits get right; without gradient.
    stream : (B, P N, D), the residual stream of the image tokens after the block asked for, or None.
    """

    loss: Tensor
    bce: Tensor
    bit_accuracy: Tensor
    stream: Tensor | None = None


class TimeEmbedding(nn.Module):
    """Sinusoid of the 0-based time t - 1, then a two-layer MLP."""

    def __init__(self, width: int, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.fc1 = nn.Linear(SINUSOID_WIDTH, width, **dd)
        self.fc2 = nn.Linear(width, width, **dd)

    def forward(self, timesteps: Tensor) -> Tensor:
        x = sinusoid(timesteps - 1, self.fc1.in_features).to(self.fc1.weight.dtype)  # (M, 256)
        return self.fc2(F.silu(self.fc1(x)))  # (M, W)


def sinusoid(time: Tensor, width: int = 256) -> Tensor:
    """Cosines, then sines, of `time` (M,) at width / 2 frequencies from 1 down to nearly 1 / 10,000; (M, width), float32 or better."""
    half = width // 2
    dtype = torch.float64 if time.dtype == torch.float64 else torch.float32
    frequency = torch.exp(-math.log(10000.0) / half * torch.arange(half, device=time.device, dtype=dtype))
    angle = time[:, None].to(dtype) * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class DenoiserBlock(nn.Module):
    """Residual MLP with adaLN."""

    def __init__(self, width: int, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.modulation = nn.Linear(width, 3 * width, **dd)
        self.fc1 = nn.Linear(width, width, **dd)
        self.fc2 = nn.Linear(width, width, **dd)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)  # each (M, W)
        hidden = modulate(F.layer_norm(x, (x.shape[-1],), eps=1e-6), shift, scale)
        return x + gate * self.fc2(F.silu(self.fc1(hidden)))


class Denoiser(nn.Module):
    """MLP with adaLN: noisy bits, timestep and condition to flip logits."""

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        width = config.denoiser_width
        assert width is not None
        self.code_embedding = nn.Linear(config.code_dim, width, **dd)
        self.condition_embedding = nn.Linear(config.width, width, **dd)
        self.time_embedding = TimeEmbedding(width, **dd)
        self.blocks = nn.ModuleList([DenoiserBlock(width, **dd) for _ in range(config.denoiser_depth)])
        self.modulation = nn.Linear(width, 2 * width, **dd)
        self.head = nn.Linear(width, config.code_dim, **dd)

    def init_weights(self) -> None:
        """Official initialisation: modulation and output zero, so that an untrained model gives logits of exactly 0."""
        for layer in [self.modulation, self.head, *(block.modulation for block in self.blocks)]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, noisy_codes: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """Logits (M, K) that a bit of z_t differs from z_0 (or that z_0 is 1, for models without flip prediction).

        Parameters
        ----------
        noisy_codes : Tensor (M, K) of 0 and 1
        timesteps : Tensor (M,), integer, 1..T
        condition : Tensor (M, D)
            What `BiGR.condition` gives for these tokens.
        """
        return self.logits(noisy_codes, self.condition_embedding(condition) + self.time_embedding(timesteps))

    def logits(self, noisy_codes: Tensor, embedding: Tensor) -> Tensor:
        """Logits (M, K) from the summed condition and time embedding (M, W); sampling computes both sums outside its loop."""
        embedding = F.silu(embedding)
        x = self.code_embedding(2 * noisy_codes.to(embedding.dtype) - 1)  # (M, W)
        for block in self.blocks:
            x = block(x, embedding)
        shift, scale = self.modulation(embedding).chunk(2, dim=-1)
        return self.head(modulate(F.layer_norm(x, (x.shape[-1],), eps=1e-6), shift, scale))


class Transcoder(nn.Module):
    """Per-token head: the denoiser and the Bernoulli process around it (BiGR, arXiv:2410.14672, Sec. 3.1)."""

    attribute = "transcoder"
    loss_options = frozenset({"timesteps", "noisy_codes"})
    loss_names = ("loss", "bce", "bit_accuracy")
    learned_positions = True

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        self.config = config
        self.denoiser = Denoiser(config, device=device, dtype=dtype)
        levels, schedule = config.num_timesteps, config.noise_schedule
        alpha_bar_numbers(levels, schedule)  # made now, in float64 on the CPU, so that sampling makes no table
        self.alpha_bar = ConstantTable(lambda: bernoulli.keep_probabilities(levels, schedule), device=device, dtype=dtype)

    def init_weights(self) -> None:
        self.denoiser.init_weights()

    @torch.jit.unused
    def forward(self, noisy_codes: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """Probability (M, K) that each clean bit is 1, from one call of the denoiser."""
        return self.clean_probability(self.denoiser(noisy_codes, timesteps, condition), noisy_codes)

    def clean_probability(self, logits: Tensor, noisy_codes: Tensor) -> Tensor:
        """P(z_0 = 1) from the denoiser's logits, float32 or better."""
        probability = torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))
        return bernoulli.flip_to_clean(noisy_codes, probability) if self.config.predict_flip else probability

    def corrupt(self, codes: Tensor, timesteps: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noisy bits z_t (M, K) of clean bits (M, K) at noise levels (M,) in 1..T."""
        alpha_bar = self.alpha_bar.table[timesteps][:, None]  # (M, 1)
        return bernoulli.draw(bernoulli.transition(codes.to(alpha_bar.dtype), alpha_bar), generator)

    def draw_timesteps(self, num_tokens: int, generator: torch.Generator | None = None) -> Tensor:
        """One uniform noise level in 1..T for each token, (M,) int64."""
        device = self.alpha_bar.table.device
        drawn_on = generator.device if generator is not None else device
        levels = torch.randint(1, self.config.num_timesteps + 1, (num_tokens,), generator=generator, device=drawn_on)
        return levels.to(device)

    def loss(
        self,
        condition: Tensor,
        codes: Tensor,
        timesteps: Tensor | None = None,
        noisy_codes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LossTerms:
        """Training loss over the tokens given; whoever calls passes the hidden tokens only.

        Parameters
        ----------
        condition : Tensor (M, D)
        codes : Tensor (M, K) of 0 and 1
        timesteps : Tensor (M,), optional
            Drawn uniformly in 1..T, one a token, if not given.
        noisy_codes : Tensor (M, K), optional
            Drawn from the forward process if not given.
        """
        if timesteps is None:
            timesteps = self.draw_timesteps(len(codes), generator)
        if noisy_codes is None:
            noisy_codes = self.corrupt(codes, timesteps, generator)
        logits = self.denoiser(noisy_codes, timesteps, condition)
        bce, auxiliary = self.loss_per_bit(logits, codes, timesteps, noisy_codes)
        bce = bce.mean()
        loss = bce if auxiliary is None else bce + self.config.aux_weight * auxiliary.mean()
        with torch.no_grad():
            right = (self.clean_probability(logits, noisy_codes) > 0.5) == (codes > 0.5)
        return LossTerms(loss, bce, right.float().mean())

    def log_likelihood(self, condition: Tensor, codes: Tensor, timesteps: Tensor, noisy_codes: Tensor) -> Tensor:
        """log p(z_0 | z_t, condition) in nats, (M,), summed over the bits of each token.

        One call of the denoiser, not the chain: at t = T, where z_t says nothing of z_0, it is the likelihood of bits that are independent
        given the condition.

        Parameters
        ----------
        condition : Tensor (M, D)
        codes, noisy_codes : Tensor (M, K) of 0 and 1
        timesteps : Tensor (M,), integer, 1..T
        """
        probability = self(noisy_codes, timesteps, condition).clamp(1e-6, 1 - 1e-6)
        codes = codes.to(probability.dtype)
        return (codes * probability.log() + (1 - codes) * (1 - probability).log()).sum(-1)

    def loss_per_bit(self, logits: Tensor, codes: Tensor, timesteps: Tensor, noisy_codes: Tensor) -> tuple[Tensor, Tensor | None]:
        """Cross-entropy and auxiliary term (None at aux_weight 0) of every bit, each (M, K) in nats, before any mean.

        The auxiliary term is the cross-entropy between the true and the predicted reverse step from t to t - 1 (from 1, z_0 itself).
        """
        config = self.config
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        codes, noisy_codes = codes.to(logits.dtype), noisy_codes.to(logits.dtype)
        target = (codes - noisy_codes).abs() if config.predict_flip else codes
        bce = bernoulli.bit_loss(logits, target, config.focal_gamma, config.focal_alpha, weighted=config.predict_flip)
        if config.aux_weight == 0:
            return bce, None
        alpha_bar = self.alpha_bar.table.to(logits.dtype)
        earlier = alpha_bar[timesteps - 1][:, None]  # (M, 1)
        step = alpha_bar[timesteps][:, None] / earlier
        predicted = self.clean_probability(logits, noisy_codes)
        true = bernoulli.posterior(noisy_codes, codes, earlier, step, eps=1e-6).clamp(0, 1)
        guess = bernoulli.posterior(noisy_codes, predicted, earlier, step, eps=1e-6)
        guess = torch.where(timesteps[:, None] == 1, predicted, guess).clamp(1e-6, 1 - 1e-6)
        return bce, -(true * guess.log() + (1 - true) * (1 - guess).log())

    @torch.no_grad()
    def sample(
        self,
        condition: Tensor,
        null_condition: Tensor | None = None,
        *,
        num_denoise_steps: int | None = None,
        guidance_scale: float = 1.0,
        temperature: float = 1.0,
        posterior: str = "official",
        generator: torch.Generator | None = None,
        draw: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Bit probabilities (M, K) after a chain of reverse steps from pure noise; the last step draws no bits.

        Parameters
        ----------
        condition, null_condition : Tensor (M, D)
            Without null_condition, or at guidance_scale 1, there is one branch; otherwise both run in one call.
        num_denoise_steps : int, optional
            Noise levels visited; the configuration's number by default.
        guidance_scale : float
            uncond + s * (cond - uncond), on logits, at every step.
        temperature : float
            Logits are divided by it before guidance.
        posterior : "official" or "exact"
            See `bernoulli.posterior`.
        draw : callable, optional
            From probabilities (M, K) to bits, in place of Bernoulli draws from `generator`.
        """
        draw = draw if draw is not None else partial(bernoulli.draw, generator=generator)
        steps = num_denoise_steps if num_denoise_steps is not None else self.config.num_denoise_steps
        timesteps = bernoulli.sampling_timesteps(steps, self.config.num_timesteps)
        alpha_bar = alpha_bar_numbers(self.config.num_timesteps, self.config.noise_schedule)
        guided = null_condition is not None and guidance_scale != 1.0
        rows = torch.cat([condition, null_condition]) if guided else condition
        embedding = self.denoiser.condition_embedding(rows)  # (M or 2M, W)
        times = self.denoiser.time_embedding(to_device(torch.tensor(timesteps), rows.device))

        bits = draw(rows.new_full((len(condition), self.config.code_dim), 0.5))
        for i, t in enumerate(timesteps):
            logits = self._logits(bits.repeat(2, 1) if guided else bits, embedding, times[i]) / temperature
            if guided:
                cond, uncond = logits.chunk(2)
                logits = uncond + guidance_scale * (cond - uncond)
            clean = self.clean_probability(logits, bits)
            if i + 1 == len(timesteps):
                return clean
            earlier = timesteps[i + 1]
            probability = bernoulli.posterior(bits, clean, alpha_bar[earlier], alpha_bar[t] / alpha_bar[earlier], form=posterior)
            bits = draw(probability).to(rows.dtype)
        raise AssertionError("a chain has at least one step")

    @torch.no_grad()
    def draw(self, condition: Tensor, null_condition: Tensor | None, scale: float, settings, noise, embedding=None, choose=None) -> Drawn:
        """One token for each image, as `CategoricalHead.draw`; `choose` is for classes and must be None."""
        if choose is not None:
            raise ValueError("choose draws classes, but head='bernoulli' draws bits; leave it out.")
        rows = [1] * len(condition)
        probabilities = self.sample(
            condition,
            null_condition,
            num_denoise_steps=settings.num_denoise_steps,
            guidance_scale=scale,
            temperature=settings.temperature,
            posterior=settings.posterior,
            draw=lambda probability: noise.bernoulli(probability, rows),
        )
        bits = probabilities > 0.5 if settings.bits == "threshold" else noise.bernoulli(probabilities, rows)
        return Drawn(bits.to(torch.float32), None, probabilities)

    def _logits(self, bits: Tensor, embedding: Tensor, time: Tensor) -> Tensor:
        """The denoiser's logits; on a CPU in pieces whose activations stay in its cache, which is about a quarter faster."""
        if bits.device.type != "cpu" or len(bits) <= CPU_ROWS:
            return self.denoiser.logits(bits, embedding + time)
        pieces = zip(bits.split(CPU_ROWS), embedding.split(CPU_ROWS), strict=True)
        return torch.cat([self.denoiser.logits(some, part + time) for some, part in pieces])
