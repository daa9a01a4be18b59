"""Running a model: in eval mode, in a chosen precision, a few items at a time."""

from __future__ import annotations

import os
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


def local_device(name: str = "auto") -> torch.device:
    """The device of this process: "auto" is an accelerator if there is one, of several the one numbered LOCAL_RANK; or a name of torch's.

    Raises
    ------
    ValueError
        For a name that torch does not know.
    """
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"device={name!r} is unknown; choose auto, cpu, or a device of torch such as cuda:0.") from error
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is None:
        return torch.device("cpu")
    return torch.device(accelerator.type, int(os.environ.get("LOCAL_RANK", 0)) % torch.accelerator.device_count())


def to_device(tensor: Tensor, device: torch.device | str | None) -> Tensor:
    """A tensor on a device; the host does not wait for a copy from the CPU (it goes through pinned memory to CUDA)."""
    target = torch.device(device) if device is not None else tensor.device
    if target.type == "cpu" or tensor.device.type != "cpu":
        return tensor.to(target)
    return (tensor.pin_memory() if target.type == "cuda" else tensor).to(target, non_blocking=True)


def in_chunks(function: Callable[[Tensor], Tensor], batch: Tensor, size: int) -> Tensor:
    """`function(batch)`, computed from `size` items at a time."""
    if size < 1:
        raise ValueError(f"{size} items at a time were asked for; give 1 or more.")
    return torch.cat([function(part) for part in batch.split(size)])
