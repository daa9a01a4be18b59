"""Images between classes, from weighted sums of class embeddings (BiGR, arXiv:2410.14672).   n images, J classes"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..functional import checks
from .editing import refuse_null

log = logging.getLogger(__name__)


@torch.no_grad()
def interpolate(
    model: nn.Module,
    labels: Sequence[int],
    weights: Tensor | Sequence[Sequence[float]] | None = None,
    *,
    num_images: int = 8,
    seeds: Sequence[int] | Tensor | None = None,
    generator: torch.Generator | None = None,
    **settings,
) -> Tensor:
    """Images between classes, from weighted sums of class embeddings.

    Parameters
    ----------
    labels : J class indices, 2 or more
    weights : (n, J), optional
        One row an image, not negative. Rows that do not sum to 1 are divided by their sum, and a warning is logged. By default `num_images`
        rows lead from class to class in the order given, in equal steps.
    seeds : n integers, optional
        By default 0 for all, so that all images are drawn from the same noise and differ by class only.
    generator : torch.Generator, optional
        In place of seeds: other noise for each image.
    **settings
        As in `sample_codes`.

    Returns
    -------
    Tensor (n, C, S, S) in [0, 1]
    """
    labels = torch.as_tensor(list(labels))
    if labels.dim() != 1 or len(labels) < 2:
        raise ValueError(f"{len(labels)} classes were given; interpolation needs 2 or more.")
    checks.check_labels(labels, model.generator.null_class, model.generator.config.unconditional)
    refuse_null(model, labels, "interpolate", "give classes only")
    rows = path_weights(len(labels), num_images) if weights is None else normalized_weights(weights, len(labels))  # (n, J)
    if seeds is None and generator is None:
        seeds = [0] * len(rows)
    mixed = labels.expand(len(rows), len(labels))
    return model.generate(mixed, label_weights=rows, seeds=seeds, generator=generator, **settings)


def path_weights(num_classes: int, num_images: int) -> Tensor:
    """Weights (n, J) that lead from the first class through the others to the last in equal steps; each row sums to 1."""
    if num_images < 2:
        raise ValueError(f"num_images={num_images}; a path between classes has at least its 2 ends.")
    position = torch.linspace(0, num_classes - 1, num_images)[:, None]  # (n, 1)
    return (1 - (position - torch.arange(num_classes)).abs()).clamp(min=0)


def normalized_weights(weights, num_classes: int) -> Tensor:
    """Weights (n, J) with each row summing to 1; says so if it had to divide.

    Raises
    ------
    ValueError
        For another number of classes, negative weights, NaN, or a row of zeros.
    """
    weights = weights.cpu().double() if isinstance(weights, Tensor) else torch.as_tensor(weights, dtype=torch.float64, device="cpu")
    weights = weights[None] if weights.dim() == 1 else weights
    if weights.dim() != 2 or weights.shape[1] != num_classes or len(weights) == 0:
        raise ValueError(f"weights have shape {tuple(weights.shape)}; expected (images, {num_classes}), one weight a class.")
    wrong = ~(weights.isfinite() & (weights >= 0))
    if wrong.any():
        raise ValueError(f"weights hold {weights[wrong][0].item():g}; expected numbers of 0 or more.")
    total = weights.sum(1, keepdim=True)
    if (total == 0).any():
        raise ValueError("the weights of an image are all 0; give at least one class some weight.")
    off = ((total - 1).abs() > 1e-6).flatten()
    if off.any():
        log.warning(
            "weights of %d of %d images do not sum to 1 (the first to %g); divided by their sum", off.sum(), len(off), total[off][0]
        )
    return (weights / total).float()
