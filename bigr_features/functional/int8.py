"""Linear layers in 8-bit integers on a CPU: weights rounded once, activations at every call.   M rows, D inputs, O outputs

A row of inputs, and the weights of an output, each have a scale of their own: the largest absolute value becomes 127. So what comes of a
row does not depend on the others of its batch. Products are oneDNN's (u8 x s8, the sum in int32), which torch's compiler uses too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

ZERO = 128  # what stands for 0 among unsigned activations
ROWS = 512  # quantised at a time, which keeps the steps of that in the processor's cache

Replacements = list[tuple[nn.Module, str, nn.Module]]


class Int8Unavailable(RuntimeError):
    """This machine or this torch has no 8-bit product that gives right sums."""


def check_int8(device: torch.device | str) -> None:
    """Whether linear layers can run in int8 on a device.

    Raises
    ------
    ValueError
        For another device than a CPU.
    Int8Unavailable
        Where torch has no such kernel.
    """
    if torch.device(device).type != "cpu":
        raise ValueError(f"precision int8 runs on a CPU, and the model is on {device}; take bf16 there, or --device cpu.")
    largest_weight()


@functools.lru_cache(maxsize=1)
def largest_weight() -> int:
    """127; or 63 on processors without VNNI, whose 16-bit sums of two products would overflow: tried, not read from their names.

    Raises
    ------
    Int8Unavailable
        Where torch has no such kernel, or it gives wrong sums with 63 too.
    """
    try:
        for most in (127, 63):
            q = torch.full((32, 256), 255, dtype=torch.uint8)
            weight = torch.full((64, 256), most, dtype=torch.int8)
            found = _product(q, _prepacked(weight), torch.ones(64), torch.zeros(64, dtype=torch.int32), torch.float32)
            if bool((found == (255 - ZERO) * most * 256).all()):
                return most
    except (AttributeError, NotImplementedError, RuntimeError) as error:
        raise Int8Unavailable(f"torch {torch.__version__} has no int8 product for this processor ({error}); take bf16 or fp32.") from error
    raise Int8Unavailable("the int8 product of this torch overflows on this processor; take bf16 or fp32.")


def _prepacked(weight: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_prepack(weight, None)


def _product(q: Tensor, packed: Tensor, scale: Tensor, zeros: Tensor, dtype: torch.dtype) -> Tensor:
    """(M, O) in `dtype`: (q - 128) @ weight.T * scale."""
    return torch.ops.onednn.qlinear_pointwise(q, 1.0, ZERO, packed, scale, zeros, None, 1.0, 0, dtype, "none", [], "")


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (M, D) as uint8 around 128, and what a unit is worth in each, (M, 1) float32."""
    x = x.float()
    most = torch.maximum(x.amax(-1, keepdim=True), x.amin(-1, keepdim=True).neg_())
    scale = most.clamp_(min=1e-30).div_(127)
    return (x / scale).add_(ZERO + 0.5).to(torch.uint8), scale


class Int8Linear(nn.Module):
    """What a linear layer computes, or several with the same input one beside the other, in int8; for inference only.

    The output has the dtype of autocast where that is on, and that of the input otherwise.
    """

    def __init__(self, *linears: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = linears[0].in_features, sum(linear.out_features for linear in linears)
        with torch.no_grad():
            weight = torch.cat([linear.weight for linear in linears]).float()
            self.scale = weight.abs().amax(1).clamp_(min=1e-30) / largest_weight()
            self.packed = _prepacked((weight / self.scale[:, None]).round_().to(torch.int8))
        self.zeros = torch.zeros(self.out_features, dtype=torch.int32)
        self.bias = linears[0].bias if len(linears) == 1 else None
        assert len(linears) == 1 or all(linear.bias is None for linear in linears), "layers that are joined have no bias"

    @property
    def weight(self) -> Tensor:
        raise ValueError("this model reads the weights of its linear layers itself, so they cannot run in int8; take bf16 or fp32.")

    def forward(self, x: Tensor) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        rows = x.flatten(0, -2)
        parts = [quantize_rows(part) for part in rows.split(ROWS)]
        q, unit = parts[0] if len(parts) == 1 else (torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
        out = _product(q, self.packed, self.scale, self.zeros, dtype).mul_(unit.to(dtype))
        return (out if self.bias is None else out.add_(self.bias.to(dtype))).unflatten(0, x.shape[:-1])


@contextmanager
def in_place(replacements: Replacements) -> Iterator[None]:
    """Other modules in the places of a model's own, which are back afterwards; each is (parent, name of the child, module)."""
    own = [(parent, name, getattr(parent, name)) for parent, name, _ in replacements]
    try:
        for parent, name, module in replacements:
            setattr(parent, name, module)
        yield
    finally:
        for parent, name, module in own:
            setattr(parent, name, module)
