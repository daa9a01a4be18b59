"""Where an evaluator computes, and in which precision that device can."""

from __future__ import annotations

from functools import lru_cache

import torch

CPU = torch.device("cpu")


def checked_device(device: str | torch.device) -> torch.device:
    """The device, if this machine has it and it can hold numbers.

    Raises
    ------
    ValueError
        Naming the device and why it cannot be used.
    """
    try:
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("meta tensors hold no numbers")
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"device={device!r} cannot be used ({reason}); give 'cpu', or a device of this machine such as 'cuda'.") from error
    return found


@lru_cache
def has_float64(device: torch.device) -> bool:
    """Whether a device holds double precision numbers; Apple's GPUs, for one, do not."""
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def most_precise(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device without it: for sums over many samples."""
    return torch.float64 if has_float64(device) else torch.float32


@lru_cache
def bfloat16_is_fast(device: torch.device = CPU) -> bool:
    """Whether this device multiplies bfloat16 matrices with instructions of its own."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in names)
