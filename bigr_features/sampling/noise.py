"""Where random numbers come from: one generator for a batch, or one an image.   B batch, M rows (tokens of several images), K bits

With one generator an image, an image's numbers do not depend on which images stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..functional import bernoulli, masking
from ..functional.inference import to_device

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
        return Noise([self._own[i] for i in images], per_image=True) if self.per_image else self

    def bernoulli(self, probability: Tensor, rows_per_image: Sequence[int]) -> Tensor:
        """Bits (M, K) for rows that stand image by image, `rows_per_image` (B,) of each."""
        if not self.per_image:
            return bernoulli.draw(probability, self._shared)
        shapes = [(rows, *probability.shape[1:]) for rows in rows_per_image]
        numbers = [bernoulli.uniform(shape, probability.dtype, one) for shape, one in zip(shapes, self._own, strict=True)]
        return bernoulli.from_uniform(probability, to_device(torch.cat(numbers), probability.device))

    def step(self, rows_per_image: Sequence[int], num_chain: int, final: bool, code_dim: int, num_gumbel: int, like: Tensor) -> StepNoise:
        """The noise of one reveal step.

        With a generator an image, every number is drawn now, on the CPU, and all are copied at once; otherwise when it is asked for.

        Parameters
        ----------
        rows_per_image : list of int, length B
            Rows (tokens) of each image.
        num_chain : int
            How often bits are drawn for each row in the transcoder's chain.
        final : bool
            Whether final bits are drawn after it.
        code_dim : int
            K.
        num_gumbel : int
            Standard Gumbel numbers an image, drawn before the final bits; 0 for none.
        like : Tensor
            Has the dtype of the probabilities, and their device.
        """
        if not self.per_image:
            return StepNoise(self, rows_per_image, num_gumbel)
        bits, gumbel = [], []
        for rows, one in zip(rows_per_image, self._own, strict=True):
            drawn = [bernoulli.uniform((num_chain, rows, code_dim), like.dtype, one)]
            if num_gumbel:
                gumbel.append(masking.gumbel_noise((1, num_gumbel), one))
            drawn.append(bernoulli.uniform((int(final), rows, code_dim), like.dtype, one))
            bits.append(torch.cat(drawn))
        bits = torch.cat(bits, dim=1)  # (draws, M, K)
        shapes = [bits.shape, (len(gumbel), num_gumbel)]
        flat = to_device(torch.cat([bits.flatten(), *(one.flatten().to(bits.dtype) for one in gumbel)]), like.device)
        bits, gumbel = flat.split([math.prod(shape) for shape in shapes])
        return StepNoise(self, rows_per_image, num_gumbel, bits.view(shapes[0]), gumbel.view(shapes[1]).float())

    def gumbel(self, shape: tuple[int, int], device) -> Tensor:
        """Standard Gumbel numbers (B, N)."""
        if not self.per_image:
            return masking.gumbel_noise(shape, self._shared, device)
        return to_device(torch.cat([masking.gumbel_noise((1, shape[1]), one) for one in self._own]), device)

    def uniform(self, shape: tuple[int, int], device) -> Tensor:
        """Uniform numbers (B, N) in [0, 1)."""
        if not self.per_image:
            drawn_on = self._shared.device if self._shared is not None else device
            return to_device(torch.rand(shape, generator=self._shared, device=drawn_on), device)
        return to_device(torch.cat([torch.rand(1, shape[1], generator=one, device=one.device) for one in self._own]), device)

    @property
    def _own(self) -> list[torch.Generator]:
        assert self.generators is not None  # one an image
        return self.generators

    @property
    def _shared(self) -> torch.Generator | None:
        return None if self.generators is None else self.generators[0]


class StepNoise:
    """The draws of one reveal step, for rows that stand image by image.   b images, M rows, K bits

    Parameters
    ----------
    noise : Noise
        Where draws come from that were not made before.
    rows_per_image : list of int, length b
    num_gumbel : int
    uniforms : Tensor (draws, M, K), optional
        Numbers drawn before: for each draw of bits, the last for the final bits.
    gumbels : Tensor (b, num_gumbel), optional
    """

    def __init__(
        self,
        noise: Noise,
        rows_per_image: Sequence[int],
        num_gumbel: int,
        uniforms: Tensor | None = None,
        gumbels: Tensor | None = None,
    ):
        self._noise, self._rows, self._num_gumbel, self._uniforms, self._gumbels = noise, rows_per_image, num_gumbel, uniforms, gumbels

    def chain(self, rows: slice) -> Callable[[Tensor], Tensor]:
        """Draws one after the other for some of the rows: a function from probabilities to bits."""
        if self._uniforms is None:
            return lambda probability: self._noise.bernoulli(probability, self._rows)
        numbers = iter(self._uniforms[:, rows])
        return lambda probability: bernoulli.from_uniform(probability, next(numbers))

    def gumbel(self, device) -> Tensor:
        """Standard Gumbel numbers (b, num_gumbel)."""
        return self._gumbels if self._gumbels is not None else self._noise.gumbel((len(self._rows), self._num_gumbel), device)

    def final(self, probability: Tensor) -> Tensor:
        """The final bits (M, K)."""
        if self._uniforms is None:
            return self._noise.bernoulli(probability, self._rows)
        return bernoulli.from_uniform(probability, self._uniforms[-1])


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
