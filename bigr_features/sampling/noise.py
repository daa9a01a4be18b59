"""Where random numbers come from: one generator for a batch, or one an image.   B batch, M rows (tokens of several images), K bits

With one generator an image, an image's numbers do not depend on which images stand beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..functional import bernoulli, masking

MAX_SEED = 2**63 - 1


class Noise:
    """All draws of one sampling run.

    Parameters
    ----------
    generators : list of torch.Generator, or None
        One for the batch, or one an image; None draws from torch's global state.
    per_image : bool
        Whether `generators` holds one an image.
    """

    def __init__(self, generators: list[torch.Generator] | None, per_image: bool):
        self.generators = generators
        self.per_image = per_image

    def of(self, images: Sequence[int]) -> Noise:
        """The noise of some images of the batch."""
        return Noise([self.generators[i] for i in images], per_image=True) if self.per_image else self

    def bernoulli(self, probability: Tensor, rows_per_image: Sequence[int]) -> Tensor:
        """Bits (M, K) for rows that stand image by image, `rows_per_image` (B,) of each."""
        if not self.per_image:
            return bernoulli.draw(probability, self._shared)
        parts = probability.split(list(rows_per_image))
        return torch.cat([bernoulli.draw(part, one) if len(part) else part for part, one in zip(parts, self.generators, strict=True)])

    def gumbel(self, shape: tuple[int, int], device) -> Tensor:
        """Standard Gumbel numbers (B, N)."""
        if not self.per_image:
            return masking.gumbel_noise(shape, self._shared, device)
        return torch.cat([masking.gumbel_noise((1, shape[1]), one, device) for one in self.generators])

    def uniform(self, shape: tuple[int, int], device) -> Tensor:
        """Uniform numbers (B, N) in [0, 1)."""
        if not self.per_image:
            drawn_on = self._shared.device if self._shared is not None else device
            return torch.rand(shape, generator=self._shared, device=drawn_on).to(device)
        return torch.cat([torch.rand(1, shape[1], generator=one, device=one.device) for one in self.generators]).to(device)

    @property
    def _shared(self) -> torch.Generator | None:
        return None if self.generators is None else self.generators[0]


def make_noise(batch: int, generator: torch.Generator | Noise | None = None, seeds: Sequence[int] | Tensor | None = None) -> Noise:
    """The noise of a batch from a generator, or from one seed an image. Noise made before goes on where it stands.

    Seeded numbers are drawn on the CPU, so that a seed means the same on every device.

    Raises
    ------
    ValueError
        If both are given, or the number of seeds is not that of the images, or a seed is out of range.
    TypeError
        If a seed is not an integer.
    """
    if seeds is None and isinstance(generator, Noise):
        return generator
    if seeds is None:
        return Noise(None if generator is None else [generator], per_image=False)
    if generator is not None:
        raise ValueError("both generator and seeds were given; give one generator for the batch, or one seed an image.")
    values = seeds.tolist() if isinstance(seeds, Tensor) else list(seeds)
    if len(values) != batch:
        raise ValueError(f"{len(values)} seeds were given for {batch} images; give one seed an image.")
    return Noise([torch.Generator().manual_seed(check_seed(value)) for value in values], per_image=True)


def check_seed(seed: int) -> int:
    """The seed, if it is an integer of 0..2**63 - 1."""
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TypeError(f"seed {seed!r} is a {type(seed).__name__}; expected an integer.")
    if not 0 <= int(seed) <= MAX_SEED:
        raise ValueError(f"seed {seed} is out of range; expected 0..{MAX_SEED}.")
    return int(seed)
