"""What every way of sampling begins with: checked settings, labels and known codes, and the source of random numbers.

B batch, N tokens, K bits, J mixed labels an image
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .captions import Captions
from .labels import BatchLabels, batch_labels
from .noise import Noise, make_noise
from .settings import SamplingSettings


@dataclass(frozen=True)
class Start:
    """A batch before its first step.

    settings : SamplingSettings
    labels : BatchLabels or Captions
    codes : (B, N, K) or (B, N), on the model's device; 0 where unknown.
    mask : (B, N) bool, True where a token is to be drawn.
    noise : Noise
    one_by_one : whether the network runs image by image.
    """

    settings: SamplingSettings
    labels: BatchLabels | Captions
    codes: Tensor
    mask: Tensor
    noise: Noise
    one_by_one: bool

    @property
    def groups(self) -> list[list[int]]:
        """Numbers of the images that run together."""
        images = range(len(self.labels))
        return [[image] for image in images] if self.one_by_one else [list(images)]


def begin(
    model: nn.Module,
    labels: Tensor | Captions | None,
    *,
    label_weights: Tensor | None = None,
    codes: Tensor | None = None,
    mask: Tensor | None = None,
    batch_size: int | None = None,
    generator: torch.Generator | Noise | None = None,
    seeds: Sequence[int] | Tensor | None = None,
    batch_invariant: bool | None = None,
    **settings,
) -> Start:
    """Check what a sampler was given.

    Parameters
    ----------
    model : BiGR
    labels : Tensor (B,) or (B, J), int64, Captions, or None
        Captions of a model of captions; of others class indices, J of them an image with label_weights. None samples from the null class
        and needs batch_size.
    label_weights : Tensor (J,) or (B, J), optional
        Weights of the mixed labels, used as they are.
    codes, mask : Tensor (B, N, K) or (B, N), and (B, N) bool, optional
        Known codes, and where to draw new ones (True). Known tokens are never written. Images may hide different numbers.
    batch_size : int, optional
        Number of images when neither labels nor codes tell it.
    generator : torch.Generator, optional
        Source of every draw of the batch.
    seeds : B integers, optional
        One seed an image in place of `generator`: an image then does not depend on the others of its batch.
    batch_invariant : bool, optional
        With seeds: True runs the network image by image, so that an image is the same to the last bit in any batch. False runs the whole
        batch at once, which is faster on an accelerator; matrix products then round differently by batch size, and now and then a draw
        that lies within rounding of its probability turns over. By default True on a CPU and False on an accelerator. The numbers drawn
        are the same everywhere.
    **settings
        Fields of `SamplingSettings`.

    Raises
    ------
    TypeError, ValueError
        For settings out of range, labels that are no classes, or shapes that do not fit.
    """
    checked = SamplingSettings(**settings)
    form, tokens = model.code_format, model.config.num_tokens
    device = model.class_embedding.weight.device
    if (codes is None) != (mask is None):
        raise ValueError("codes and mask belong together: give the known codes and where to draw new ones, or neither.")
    if labels is None and codes is not None:
        batch_size = len(codes)
    if isinstance(labels, Captions):
        batch: BatchLabels | Captions = labels
    else:
        batch = batch_labels(model.config, labels, label_weights, batch_size, device)
    if codes is None or mask is None:
        codes = form.unknown(len(batch), tokens, device)
        mask = torch.ones(len(batch), tokens, dtype=torch.bool, device=device)
    else:
        codes, mask = codes.to(device), mask.to(device)
        form.check(codes, tokens)
        form.check_values(codes)
    if mask.shape != codes.shape[:2] or mask.dtype != torch.bool or len(batch) != len(codes):
        raise ValueError(
            f"codes {tuple(codes.shape)}, mask {tuple(mask.shape)} {mask.dtype} and {len(batch)} labels do not fit together; "
            "expected codes of B images, bool (B, N), and B labels."
        )
    noise = make_noise(len(batch), generator, seeds)
    return Start(checked, batch, codes, mask, noise, noise.per_image and runs_one_by_one(batch_invariant, device))


def runs_one_by_one(batch_invariant: bool | None, device: torch.device) -> bool:
    """Whether seeded images run through a network one at a time: as asked for, or on a CPU."""
    return device.type == "cpu" if batch_invariant is None else batch_invariant
