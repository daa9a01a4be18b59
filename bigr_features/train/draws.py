"""Every random draw of a generator's training step, made for the whole global batch, on the CPU.

So the numbers do not depend on how many processes or micro-batches share the batch, nor on the device, and no device has to be waited
for: the host draws the next step while an accelerator works on this one.
B images, N tokens, n of them hidden in each image, R noise levels a token, K bits
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..functional import bernoulli
from ..functional.inference import to_device
from ..models.generator import BiGR


@dataclass
class Draws:
    """What one batch needs.

    dropped : (B,) bool, images that lose their label.
    mask : (B, N) bool, True = hidden; None in a causal model, which predicts every token.
    num_hidden : n, tokens to predict in each image.
    timesteps : (B, N, R) int64 in 1..T, or None for a head without noise. Visible tokens have 1.
    flips : (B, N, R, K) bool, True where noise turns the bit over, or None. False on visible tokens.
    seen_flips : (B, N, K) bool, True where the trunk sees the other bit, or None.
    """

    dropped: Tensor
    mask: Tensor | None
    num_hidden: int
    timesteps: Tensor | None
    flips: Tensor | None
    seen_flips: Tensor | None = None

    def part(self, images: slice) -> Draws:
        """The draws of some of the images."""
        return self._map(lambda tensor: tensor[images])

    def to(self, device: torch.device) -> Draws:
        """The draws on a device; the host does not wait for the copy."""
        return self._map(lambda tensor: to_device(tensor, device))

    def _map(self, function) -> Draws:
        tensors = (self.dropped, self.mask, self.timesteps, self.flips, self.seen_flips)
        dropped, mask, timesteps, flips, seen_flips = (None if tensor is None else function(tensor) for tensor in tensors)
        return Draws(dropped, mask, self.num_hidden, timesteps, flips, seen_flips)

    def loss_arguments(self, codes: Tensor) -> dict:
        """Keywords of `BiGR.loss` for codes (B, N, K) or (B, N)."""
        flips, seen = self.flips, self.seen_flips
        return {
            "mask": self.mask,
            "timesteps": self.timesteps,
            "noisy_codes": None if flips is None else (codes[:, :, None] - flips.to(codes.dtype)).abs(),  # (B, N, R, K)
            "seen_codes": None if seen is None else (codes - seen.to(codes.dtype)).abs(),
            "dropped": self.dropped,
            "num_hidden": self.num_hidden,
            "check_values": False,
        }


def draw(
    model: BiGR,
    batch: int,
    generator: torch.Generator,
    timesteps_per_token: int = 1,
    mask_distribution: str = "cosine",
    bit_flips: float = 0.0,
) -> Draws:
    """Draws for a batch from a generator of the CPU: the distributions are those of `BiGR.loss`, unless told otherwise.

    A bit turns over with probability (1 - k_t) / 2 whatever it is, so noise can be drawn without knowing the codes.

    Parameters
    ----------
    timesteps_per_token : int
        R, of the Bernoulli transcoder.
    mask_distribution : str
        See `masking.draw_mask_count`.
    bit_flips : float
        Probability that the trunk sees a bit turned over, for codes of bits.
    """
    config = model.config
    tokens, levels = config.num_tokens, timesteps_per_token
    dropped = torch.rand(batch, generator=generator) < config.class_dropout
    mask = model.draw_mask(batch, tokens, generator, "cpu", mask_distribution)
    num_hidden = tokens if mask is None else int(mask[0].numpy().sum())  # the same number in every image
    seen_flips = torch.rand(batch, tokens, config.code_dim, generator=generator) < bit_flips if bit_flips else None
    if config.categorical:
        return Draws(dropped, mask, num_hidden, None, None, seen_flips)
    rows = torch.arange(batch * tokens) if mask is None else torch.from_numpy(mask.flatten().numpy().nonzero()[0])
    drawn = torch.randint(1, config.num_timesteps + 1, (len(rows) * levels,), generator=generator)
    keep = keep_table(config.num_timesteps, config.noise_schedule)[drawn][:, None]  # (M R, 1)
    flipped = bernoulli.draw(((1 - keep) / 2).expand(-1, config.code_dim), generator)  # (M R, K)
    timesteps = torch.ones(batch * tokens, levels, dtype=torch.int64).index_copy_(0, rows, drawn.view(-1, levels))
    flips = torch.zeros(batch * tokens, levels, config.code_dim, dtype=torch.bool)
    flips.index_copy_(0, rows, flipped.bool().view(-1, levels, config.code_dim))
    return Draws(dropped, mask, num_hidden, timesteps.unflatten(0, (batch, tokens)), flips.unflatten(0, (batch, tokens)), seen_flips)


@lru_cache(maxsize=4)
def keep_table(num_timesteps: int, noise_schedule: str) -> Tensor:
    """Probability k_t, t = 0..T, that a bit is kept, float32 on the CPU."""
    return bernoulli.keep_probabilities(num_timesteps, noise_schedule).float()
