"""Computed tables that live on a module's device, are never saved, and never lose precision."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ConstantTable(nn.Module):
    """A table that follows the module to its device but stays at least float32, and is recomputed rather than copied.

    `model.to(torch.bfloat16)` would round rotary angles; `to_empty` after a meta-device build would leave them undefined.
    Recomputing at every move avoids both.

    Parameters
    ----------
    build : callable returning a float64 Tensor on the CPU
    """

    def __init__(self, build: Callable[[], Tensor], device=None, dtype=None):
        super().__init__()
        self._build = build
        self.table: Tensor
        self.register_buffer("table", torch.empty(0, device=device, dtype=dtype), persistent=False)
        self.init_non_persistent_buffers()

    def init_non_persistent_buffers(self) -> None:
        """Compute the table anew, on the device where it is (timm calls this after a meta-device load)."""
        device, dtype = self.table.device, self.table.dtype
        self.table = self._build().to(torch.promote_types(dtype, torch.float32)).to(device)  # some devices have no float64

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.init_non_persistent_buffers()
        return self
