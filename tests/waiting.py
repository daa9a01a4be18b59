"""Watching what a loop asks of a device: values that the host has to wait for, and float64 that some devices lack."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero")


class NoWaiting(TorchDispatchMode):
    """Fails where an accelerator would be waited for: a value is read, tokens are counted, a tensor goes to the host.

    Attributes
    ----------
    copies : int
        Copies between devices that were made.
    """

    def __init__(self):
        super().__init__()
        self.copies = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__.split(".")[-1]
        assert name not in READS, f"{function} reads a value, for which the host waits"
        if name in ("index", "index_put", "index_put_") and len(args) > 1:
            masks = [index for index in args[1] if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)]
            assert not masks, f"{function} with a mask counts its entries, for which the host waits"
        if name == "_to_copy" and kwargs.get("device") is not None:
            self.copies += 1
            source = args[0].device.type
            assert source == "cpu" or torch.device(kwargs["device"]).type != "cpu", f"{function} copies from {source} to the host"
        if name == "copy_":
            assert args[1].device.type == "cpu" or args[0].device.type != "cpu", f"{function} copies to the host"
        return function(*args, **kwargs)


class NoFloat64(TorchDispatchMode):
    """Fails where a float64 tensor is made or used, as devices without that type do."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, result)):
            assert not (isinstance(value, Tensor) and value.dtype == torch.float64), f"{function} meets float64"
        return result
