"""torch.compile of the blocks of a model, for as long as it runs, and the C++ compiler that it needs.

torch keeps what it compiled on disk (`TORCHINDUCTOR_CACHE_DIR`), so that the next process begins sooner.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

COMPILERS = ("g++", "clang++", "c++", "cl")


def check_compiler(device: torch.device) -> None:
    """Raise ValueError where torch.compile would fail for want of a C++ compiler."""
    named = os.environ.get("CXX")
    if device.type != "cpu" or any(shutil.which(name) for name in ((named,) if named else COMPILERS)):
        return
    looked = f"CXX={named}" if named else ", ".join(COMPILERS)
    raise ValueError(
        f"compile needs a C++ compiler, and none is found ({looked}); install one (apt install g++), name it in CXX, or leave compile out."
    )


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The longest list of children of one class that the model holds, such as the blocks of a transformer; compiled once for all of them.

    Raises
    ------
    ValueError
        For a model without at least two such children.
    """
    best: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and len(module):
            kind, count = Counter(map(type, module)).most_common(1)[0]
            if count > max(1, len(best)):
                best = [child for child in module if type(child) is kind]
    if not best:
        raise ValueError(f"{type(model).__name__} has no blocks that repeat, which are what is compiled; leave compile out.")
    return best


@contextmanager
def compiled(blocks: list[nn.Module]) -> Iterator[None]:
    """Blocks compiled inside, as they were afterwards."""
    try:
        for block in blocks:
            block.compile()
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None
