"""In which order tokens come: all at once with some hidden, or each from those before it.

B batch, N tokens, c condition tokens, P positions a token takes (S sub-codes side by side in a masked categorical model, else 1), D width
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..functional.masking import draw_mask_count, lowest
from ..sampling import autoregressive, categorical, masked
from ..sampling.sampler import Sampler
from .config import GeneratorConfig


class Masked:
    """Full attention; the output at a token predicts that token where it is hidden."""

    missing = 0  # tokens that training does not feed

    def __init__(self, config: GeneratorConfig):
        self.levels = config.mask_levels
        self.sampler: Sampler = categorical.SAMPLER if config.categorical else masked.SAMPLER

    def check_mask(self, mask: Tensor | None, shape: torch.Size) -> None:
        """A mask must be bool (B, N).

        Raises
        ------
        ValueError
            Naming shape and dtype given.
        """
        if mask is not None and (mask.shape != shape or mask.dtype != torch.bool):
            raise ValueError(f"mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; expected bool {tuple(shape)}, True = hidden.")

    def inputs(self, tokens: Tensor) -> Tensor:
        """Token vectors (B, N P, D) that training feeds: all."""
        return tokens

    def outputs(self, x: Tensor, num_prefix: int) -> Tensor:
        """Of the sequence (B, c P + N P, D), the outputs (B, N P, D) that predict tokens 0..N-1."""
        return x[:, num_prefix:]

    def training_mask(self, batch: int, tokens: int, generator: torch.Generator | None, device, distribution: str = "cosine") -> Tensor:
        """Mask (B, N): the same number of hidden tokens in every image, at random positions; see `draw_mask_count`."""
        drawn_on = generator.device if generator is not None else device
        noise = torch.rand(batch, tokens, generator=generator, device=drawn_on)
        return lowest(noise, draw_mask_count(tokens, generator, self.levels, distribution)).to(device)


class Causal:
    """Causal attention in raster order; the output at a position predicts the next token, that of the last condition token the first."""

    missing = 1

    def __init__(self, config: GeneratorConfig):
        self.sampler: Sampler = autoregressive.CLASSES if config.categorical else autoregressive.BITS

    def check_mask(self, mask: Tensor | None, shape: torch.Size) -> None:
        """There is no mask.

        Raises
        ------
        ValueError
            If there is one.
        """
        if mask is not None:
            raise ValueError("a mask was given, but a causal generator predicts every token from those before it; leave mask out.")

    def inputs(self, tokens: Tensor) -> Tensor:
        """Token vectors (B, N - 1, D) that training feeds: all but the last, which predicts nothing."""
        return tokens[:, :-1]

    def outputs(self, x: Tensor, num_prefix: int) -> Tensor:
        """Of the sequence (B, c + N - 1, D), the outputs (B, N, D) that predict tokens 0..N-1."""
        return x[:, num_prefix - 1 :]

    def training_mask(self, batch: int, tokens: int, generator: torch.Generator | None, device, distribution: str = "cosine") -> None:
        """None: every token is predicted."""
        return None


def build_order(config: GeneratorConfig) -> Masked | Causal:
    """The order that a configuration asks for."""
    return Causal(config) if config.causal else Masked(config)
