"""Batches of images, and of codes from a cache or from images.   B images, C channels, S side, N tokens, K bits"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import ImageSet
from ..functional.printing import one_line
from ..models.autoencoder import BinaryAutoencoder
from .code_cache import CodeCache, to_images
from .order import batch_positions, choices


class Wanted(NamedTuple):
    """What a batch is made of: its 0-based step, items (B,), and which view of each (B,), or None for the first."""

    step: int
    items: np.ndarray
    views: np.ndarray | None = None


def plan(items: np.ndarray, steps: range, batch_size: int, part: slice, num_views: int, seed: int) -> Iterator[Wanted]:
    """This process's part of every batch of a training."""
    for step in steps:
        positions = batch_positions(len(items), batch_size, step, seed)
        yield Wanted(step, items[positions[part]], choices(batch_size, num_views, step, seed)[part])


def image_batches(images: ImageSet, wanted: Iterable[Wanted], device, num_workers: int = 0) -> Iterator[tuple[Tensor, Wanted]]:
    """Images (B, C, S, S) in [0, 1], channels last; view 1 is the mirror image.

    Others of the batch take the places of unreadable images, so that every batch is full.

    Raises
    ------
    ValueError
        If no image of a batch can be read.
    """
    ahead: deque[Wanted] = deque()

    def chunks():
        for batch in wanted:
            ahead.append(batch)
            yield batch.items

    for pixels, readable in images.read_many(chunks(), num_workers):
        batch = ahead.popleft()
        if not readable.all():
            if not readable.any():
                last = images.skipped[-1]
                raise ValueError(f"none of the {len(readable)} images of a batch can be read; one is {one_line(last.name)}: {last.reason}.")
            stand_ins = np.cumsum(readable) - 1
            stand_ins[~readable] = np.arange((~readable).sum()) % readable.sum()
            pixels, batch = pixels[stand_ins], batch._replace(items=batch.items[readable][stand_ins])
        if batch.views is not None:
            pixels = np.where((batch.views == 1)[:, None, None, None], pixels[:, :, ::-1], pixels)
        yield to_images(pixels, device), batch


class CachedCodes:
    """Batches of a code cache.

    Attributes
    ----------
    num_views, num_tokens, code_dim : int
    labels : int64 Tensor (n,) or None
    identity : str
        Changes when the codes do.
    """

    def __init__(self, cache: CodeCache, unconditional: bool):
        self.cache, self.num_views, self.identity = cache, cache.num_views, cache.identity()
        self.labels = None if unconditional or cache.labels is None else torch.from_numpy(cache.labels)
        self.num_tokens, self.code_dim = cache.num_tokens, cache.code_dim

    def __len__(self) -> int:
        return len(self.cache)

    def batches(self, wanted: Iterable[Wanted], device) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Codes (B, N, K) and labels (B,)."""
        for batch in wanted:
            codes = torch.from_numpy(self.cache.read(batch.items, batch.views)).to(device, non_blocking=True).float()
            yield codes, None if self.labels is None else self.labels[torch.from_numpy(batch.items)].to(device, non_blocking=True)


class EncodedImages:
    """Batches of images that the tokenizer encodes now; attributes as `CachedCodes`."""

    def __init__(
        self,
        images: ImageSet,
        tokenizer: BinaryAutoencoder,
        *,
        flip: bool,
        sample_bits: bool,
        unconditional: bool,
        num_workers: int = 0,
        seed: int = 0,
    ):
        self.images, self.tokenizer, self.sample_bits, self.num_workers, self.seed = images, tokenizer, sample_bits, num_workers, seed
        self.num_views = 2 if flip else 1
        self.labels = None if unconditional or images.labels is None else torch.from_numpy(images.labels)
        self.num_tokens, self.code_dim = tokenizer.grid_size**2, tokenizer.config.code_dim
        self.identity = f"{len(images)} images of split {images.split}"

    def __len__(self) -> int:
        return len(self.images)

    @torch.no_grad()
    def batches(self, wanted: Iterable[Wanted], device) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Codes (B, N, K) and labels (B,)."""
        generator = torch.Generator(device) if self.sample_bits else None
        for images, batch in image_batches(self.images, wanted, device, self.num_workers):
            if generator is not None:  # of the step, so that a resumed run draws the same
                generator.manual_seed(int(np.random.default_rng([self.seed, 4, batch.step, batch.items[0]]).integers(2**62)))
            codes = self.tokenizer.encode(images, sample=self.sample_bits, generator=generator)
            yield codes, None if self.labels is None else self.labels[torch.from_numpy(batch.items)].to(device)
