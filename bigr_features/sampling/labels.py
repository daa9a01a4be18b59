"""What images to draw: labels, mixtures of them, or a number of images without class.   B batch, J mixed labels an image"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional import checks


@dataclass(frozen=True)
class BatchLabels:
    """Checked labels of a batch.

    labels : (B,) or (B, J), int64.
    weights : (J,) or (B, J) of mixed labels, or None.
    null_class : the index that means no condition.
    """

    labels: Tensor
    weights: Tensor | None
    null_class: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def guidable(self) -> bool:
        """Whether any image has a class, so that guidance changes something."""
        return not bool(self.classless.all())

    @property
    def classless(self) -> Tensor:
        """Images (B,) bool that have no label but the null class."""
        return (self.labels.reshape(len(self), -1) == self.null_class).all(1)

    def of(self, images: list[int] | slice | Tensor) -> BatchLabels:
        """The labels of some of the images."""
        weights = self.weights[images] if self.weights is not None and self.weights.dim() == 2 else self.weights
        return BatchLabels(self.labels[images], weights, self.null_class)

    def with_null(self) -> BatchLabels:
        """These, then as many of the null class: both branches of guidance in one batch."""
        weights = self.weights.repeat(2, 1) if self.weights is not None and self.weights.dim() == 2 else self.weights
        return BatchLabels(torch.cat([self.labels, torch.full_like(self.labels, self.null_class)]), weights, self.null_class)


def batch_labels(config, labels: Tensor | None, label_weights: Tensor | None, batch_size: int | None, device) -> BatchLabels:
    """Labels for a batch; None is the null class for `batch_size` images.

    Raises
    ------
    TypeError, ValueError
        For labels that are no class indices, weights of another shape, or a batch whose size is unknown, empty or contradictory.
    """
    if labels is None:
        if batch_size is None:
            raise ValueError("labels is None, so the number of images is unknown; give batch_size.")
        labels = torch.full((batch_size,), config.null_class, device=device)
    labels = torch.as_tensor(labels, device=device)
    checks.check_labels(labels, config.null_class, config.unconditional)
    if labels.dim() != (1 if label_weights is None else 2):
        raise ValueError(f"labels have shape {tuple(labels.shape)}; expected (batch,), or (batch, mixed labels) with label_weights.")
    if len(labels) == 0:
        raise ValueError("there are no labels, so there is nothing to draw; give at least one.")
    if label_weights is not None and tuple(label_weights.shape) not in ((labels.shape[1],), tuple(labels.shape)):
        raise ValueError(f"label_weights have shape {tuple(label_weights.shape)}; expected ({labels.shape[1]},) or {tuple(labels.shape)}.")
    if batch_size not in (None, len(labels)):
        raise ValueError(f"batch_size={batch_size} but there are labels for {len(labels)} images.")
    return BatchLabels(labels, None if label_weights is None else label_weights.to(device), config.null_class)
