"""Every random draw of a generator's training step, made for the whole global batch.

So the numbers do not depend on how many processes or micro-batches share the batch.
B images, N tokens, n of them hidden in each image, R noise levels for each hidden token, M = B n R, K bits
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional import bernoulli
from ..models.generator import BiGR


@dataclass
class Draws:
    """What one batch needs.

    dropped : (B,) bool, images that lose their label.
    mask : (B, N) bool, True = hidden; None in a causal model, which predicts every token.
    rows : (M,) int64, the tokens to predict, as positions in (B N); each R times, with noise of its own.
    timesteps : (M,) int64 in 1..T, or None for a head without noise.
    flips : (M, K), 1 where noise turns the bit over, or None.
    num_tokens : N
    """

    dropped: Tensor
    mask: Tensor | None
    rows: Tensor
    timesteps: Tensor | None
    flips: Tensor | None
    num_tokens: int

    def part(self, images: slice) -> Draws:
        """The draws of some of the images."""
        count = len(self.dropped)
        per_image = len(self.rows) // count
        tokens = slice(images.start * per_image, images.stop * per_image)
        rows = self.rows[tokens] - images.start * self.num_tokens
        return Draws(
            self.dropped[images],
            None if self.mask is None else self.mask[images],
            rows,
            None if self.timesteps is None else self.timesteps[tokens],
            None if self.flips is None else self.flips[tokens],
            self.num_tokens,
        )


def draw(model: BiGR, batch: int, generator: torch.Generator, timesteps_per_token: int = 1) -> Draws:
    """Draws for a batch, on the generator's device: the distributions are those of `BiGR.loss`.

    A bit turns over with probability (1 - k_t) / 2 whatever it is, so noise can be drawn without knowing the codes.
    """
    config, device = model.config, generator.device
    dropped = torch.rand(batch, generator=generator, device=device) < config.class_dropout
    mask = None
    rows = torch.arange(batch * config.num_tokens, device=device)
    if not config.causal:
        mask = model.draw_mask(batch, config.num_tokens, generator, device)  # the same number hidden in every image
        rows = mask.flatten().nonzero().squeeze(1)
    if not hasattr(model.transcoder, "draw_timesteps"):
        return Draws(dropped, mask, rows, None, None, config.num_tokens)
    rows = rows.repeat_interleave(timesteps_per_token)
    timesteps = model.transcoder.draw_timesteps(len(rows), generator).to(device)
    keep = model.transcoder.keep.table.to(device)[timesteps][:, None]  # (M, 1)
    flips = bernoulli.draw(((1 - keep) / 2).expand(-1, config.code_dim), generator)
    return Draws(dropped, mask, rows, timesteps, flips, config.num_tokens)
