"""Batches of images, and of codes from a cache or from images.   B images, C channels, S side, N tokens, K bits"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..data import ImageSet
from ..functional.inference import to_device
from ..functional.printing import one_line
from ..models.image_tokenizer import ImageTokenizer
from ..sampling.captions import Captions
from .captions import TrainingCaptions
from .code_cache import CodeCache, to_images
from .sampler import SampledBatch
from .stored_codes import check_drawable, encoded, stored_codes

T = TypeVar("T")
U = TypeVar("U")


def read_ahead(read: Callable[[T], U], wanted: Iterable[T], ahead: int = 2) -> Iterator[U]:
    """`read` of each, in order, done by a thread that is up to `ahead` items in front."""
    with ThreadPoolExecutor(1) as thread:
        running: deque = deque()
        try:
            for item in wanted:
                running.append(thread.submit(read, item))
                if len(running) > ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def image_batches(images: ImageSet, sampler: Iterable[SampledBatch], device, num_workers: int = 0) -> Iterator[tuple[Tensor, SampledBatch]]:
    """Images (B, C, S, S) in [0, 1], channels last; view 1 is the mirror image.

    Unreadable images are replaced by others of the batch, so that every batch is full.

    Raises
    ------
    ValueError
        If no image of a batch can be read.
    """
    ahead: deque[SampledBatch] = deque()

    def chunks():
        for batch in sampler:
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
    num_views : int
    codes : StoredBits or StoredIndices
    labels : int64 Tensor (n,) or None
    captions : TrainingCaptions or None
    classes : int64 array (n,) or None; labels whether they are the condition or not.
    identity : str
        Changes when the codes do.
    """

    def __init__(self, cache: CodeCache, unconditional: bool, captions: TrainingCaptions | None = None):
        self.captions, self.classes = captions, cache.labels
        self.cache, self.num_views, self.identity = cache, cache.num_views, cache.identity()
        self.labels = None if unconditional or cache.labels is None else torch.from_numpy(cache.labels)
        self.codes = cache.codes
        self.class_names = None if self.labels is None else cache.class_names

    def __len__(self) -> int:
        return len(self.cache)

    def batches(self, sampler: Iterable[SampledBatch], device) -> Iterator[tuple[Tensor, Tensor | Captions | None]]:
        """Codes (B, N, K) or (B, N) and labels (B,), or captions. A thread reads ahead; bytes are copied, and become codes there."""
        pin = torch.device(device).type == "cuda"

        def read(batch: SampledBatch) -> tuple[Tensor, Tensor | Captions | None]:
            packed = torch.from_numpy(np.ascontiguousarray(self.cache.read(batch.items, batch.views)))
            labels = condition_of(self, batch)
            return (packed.pin_memory(), None if labels is None else labels.pin_memory()) if pin else (packed, labels)

        for packed, labels in read_ahead(read, sampler):
            codes = self.codes.unpack(packed.to(device, non_blocking=True))
            yield codes, None if labels is None else labels.to(device, non_blocking=True)


class EncodedImages:
    """Batches of images that the tokenizer encodes now; attributes as `CachedCodes`."""

    def __init__(
        self,
        images: ImageSet,
        tokenizer: ImageTokenizer,
        *,
        flip: bool,
        sample_bits: bool,
        unconditional: bool,
        captions: TrainingCaptions | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ):
        self.captions, self.classes = captions, images.labels
        self.images, self.tokenizer, self.sample_bits, self.num_workers, self.seed = images, tokenizer, sample_bits, num_workers, seed
        self.num_views = 2 if flip else 1
        self.labels = None if unconditional or images.labels is None else torch.from_numpy(images.labels)
        self.class_names = None if self.labels is None else images.class_names
        check_drawable(tokenizer, sample_bits)
        self.codes = stored_codes(tokenizer)
        self.identity = f"{len(images)} images of split {images.split or 'train'}"

    def __len__(self) -> int:
        return len(self.images)

    @torch.no_grad()
    def batches(self, sampler: Iterable[SampledBatch], device) -> Iterator[tuple[Tensor, Tensor | Captions | None]]:
        """Codes (B, N, K) or (B, N) and labels (B,), or captions."""
        generator = torch.Generator(device) if self.sample_bits else None
        for images, batch in image_batches(self.images, sampler, device, self.num_workers):
            if generator is not None:  # of the step, so that a resumed run draws the same
                generator.manual_seed(int(np.random.default_rng([self.seed, 4, batch.step, batch.items[0]]).integers(2**62)))
            codes = encoded(self.tokenizer, images, self.sample_bits, generator)
            labels = condition_of(self, batch)
            yield codes, to_device(labels, device) if isinstance(labels, Tensor) else None if labels is None else labels.to(device)


def condition_of(data: CachedCodes | EncodedImages, batch: SampledBatch) -> Tensor | Captions | None:
    """What a batch is conditioned on: captions, labels (B,), or nothing."""
    if data.captions is not None:
        return data.captions.batch(batch)
    return None if data.labels is None else data.labels[torch.from_numpy(batch.items)]
