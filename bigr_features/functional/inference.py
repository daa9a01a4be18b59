"""Running a model: in eval mode, in a chosen precision, a few items at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

PRECISIONS = ("fp32", "bf16")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, every module's own mode back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The context of a forward pass in "fp32" (the model's own precision) or "bf16" (bfloat16 autocast).

    Raises
    ------
    ValueError
        For another precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"dtype={precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def in_chunks(function: Callable[[Tensor], Tensor], batch: Tensor, size: int) -> Tensor:
    """`function(batch)`, computed from `size` items at a time."""
    if size < 1:
        raise ValueError(f"{size} items at a time were asked for; give 1 or more.")
    return torch.cat([function(part) for part in batch.split(size)])
