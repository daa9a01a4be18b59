"""Images between classes or prompts, from weighted sums of their embeddings (BiGR, arXiv:2410.14672).   n images, J classes or prompts"""

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
    labels: Sequence[int] | None = None,
    weights: Tensor | Sequence[Sequence[float]] | None = None,
    *,
    text: Sequence[str] | None = None,
    num_images: int = 8,
    seeds: Sequence[int] | Tensor | None = None,
    generator: torch.Generator | None = None,
    **settings,
) -> Tensor:
    """Images between classes, or between prompts, from weighted sums of their embeddings.

    Parameters
    ----------
    labels : J class indices, 2 or more
    text : J prompts, 2 or more, optional
        Of a model of captions, in place of labels.
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
    if text is not None or model.generator.config.text is not None:
        return _between_prompts(model, labels, text, weights, num_images, seeds, generator, settings)
    if labels is None:
        raise ValueError("no classes were given; interpolation needs 2 or more.")
    path = torch.as_tensor(list(labels))
    if path.dim() != 1 or len(path) < 2:
        raise ValueError(f"{len(path)} classes were given; interpolation needs 2 or more.")
    checks.check_labels(path, model.generator.null_class, model.generator.config.unconditional)
    refuse_null(model, path, "interpolate", "give classes only")
    rows = path_weights(len(path), num_images) if weights is None else normalized_weights(weights, len(path))  # (n, J)
    if seeds is None and generator is None:
        seeds = [0] * len(rows)
    mixed = path.expand(len(rows), len(path))
    return model.generate(mixed, label_weights=rows, seeds=seeds, generator=generator, **settings)


def _between_prompts(model, labels, text, weights, num_images, seeds, generator, settings) -> Tensor:
    """The same, of prompts."""
    if labels is not None or text is None:
        raise TypeError("this model is conditioned on captions; give text=[...], two prompts or more, and no labels.")
    if isinstance(text, str) or len(text) < 2:
        raise ValueError(f"{1 if isinstance(text, str) else len(text)} prompts were given; interpolation needs 2 or more.")
    ends = model.generator.captions(list(text))
    rows = path_weights(len(ends), num_images) if weights is None else normalized_weights(weights, len(ends))  # (n, J)
    if seeds is None and generator is None:
        seeds = [0] * len(rows)
    return model.generate(text=ends.mixed(rows), seeds=seeds, generator=generator, **settings)


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
