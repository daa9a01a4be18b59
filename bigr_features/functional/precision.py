"""Which floating-point precision is fast on this machine: measured, not guessed from names of processors.

bfloat16 products take half the time of float32 on processors with AVX-512 BF16 or AMX and on accelerators, and up to 65 times as long on
processors without such instructions. So `auto` times both, once per process, on a matrix product of the model's own shape.
"""

from __future__ import annotations

import functools
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

log = logging.getLogger(__name__)

CHOICES = ("auto", "fp32", "bf16")
ROWS = 256  # rows of the product that is timed: tokens of a small batch
MARGIN = 0.95  # bf16 has to take less than this share of the float32 time to be chosen
BUDGET = 0.025  # seconds per precision
SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm", "sve")


@dataclass(frozen=True)
class Precision:
    """The precision of a run, and why.

    name : "fp32" or "bf16", what runs.
    asked : "auto", "fp32" or "bf16".
    ratio : time of a bf16 product over that of a float32 one on this device; None if it was not measured.
    """

    name: str
    asked: str
    ratio: float | None

    def as_dict(self) -> dict:
        """For logs, manifests and results."""
        return {"precision": self.name, "asked": self.asked, "bf16_over_fp32_time": None if self.ratio is None else round(self.ratio, 3)}


def choose_precision(
    asked: str, device: torch.device | str, module: nn.Module | None = None, *, shape: tuple[int, int] | None = None
) -> Precision:
    """The precision to run in.

    Parameters
    ----------
    asked : "auto", "fp32" or "bf16"
        auto takes the faster of the two; a precision that is named is kept, and a slower one is said in the log.
    device : torch.device or str
    module : nn.Module, optional
        Its largest linear layer or convolution gives the shape of the product that is timed; (256, 512) x (512, 512) without.
    shape : (int, int), optional
        Inputs and outputs of that product, in place of a module.

    Raises
    ------
    ValueError
        For another name.
    """
    if asked not in CHOICES:
        raise ValueError(f"precision {asked!r} is unknown; choose one of {', '.join(CHOICES)}.")
    if asked == "fp32":
        return Precision("fp32", asked, None)
    device = torch.device(device)
    ratio = bf16_time_ratio(*(product_shape(module) if shape is None else shape), device.type, device.index)
    if asked == "auto":
        return Precision("bf16" if ratio < MARGIN else "fp32", asked, ratio)
    if ratio > 1:
        log.warning(
            "bf16 was asked for, but on this %s a bf16 product takes %.1f times as long as fp32; auto would take fp32", device.type, ratio
        )
    return Precision("bf16", asked, ratio)


def product_shape(module: nn.Module | None) -> tuple[int, int]:
    """(inputs, outputs) of the largest matrix that a module multiplies with."""
    shapes = [(512, 512)]
    if module is not None:
        weights = [m.weight for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d) and isinstance(m.weight, torch.Tensor)]
        shapes = [(weight[0].numel(), len(weight)) for weight in weights if weight.numel()] or shapes
    return max(shapes, key=lambda shape: shape[0] * shape[1])


@functools.lru_cache(maxsize=64)
def bf16_time_ratio(inputs: int, outputs: int, device_type: str, device_index: int | None = None) -> float:
    """Time of a (256, inputs) x (inputs, outputs) product in bf16 over its time in float32; some 50 ms, measured once per process.

    On a CPU with one thread, so that other work on its cores disturbs less.
    """
    device = torch.device(device_type, device_index)
    seconds = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.ones(ROWS, inputs, device=device, dtype=dtype)
            weight = torch.ones(outputs, inputs, device=device, dtype=dtype)
            seconds[dtype] = _fastest(lambda x=x, weight=weight: torch.nn.functional.linear(x, weight), device)
    finally:
        torch.set_num_threads(threads)
    return seconds[torch.bfloat16] / seconds[torch.float32]


def _fastest(call, device: torch.device) -> float:
    """Least seconds of a call, tried for about BUDGET seconds and at least three times."""
    found: list[float] = []
    stop = None
    with torch.no_grad():
        while stop is None or len(found) < 3 or (time.perf_counter() < stop and len(found) < 200):
            _wait(device)
            start = time.perf_counter()
            call()
            _wait(device)
            if stop is None:  # the first call warms up: buffers, kernels
                stop = time.perf_counter() + BUDGET
            else:
                found.append(time.perf_counter() - start)
    return max(min(found), 1e-9)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def instruction_sets() -> list[str]:
    """Vector instruction sets of this processor that matter for speed, such as avx2, avx512_bf16; [] where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [name for name in SETS if name in flags]
