"""Bits stored as bits: 256 tokens of 24 bits are 768 bytes.   N tokens, K bits a token

Functions of arrays and tensors. Bits lie token by token, the first bit of a token first and in the highest place of its byte
(the order of `numpy.packbits`); the last byte is filled up with zeros.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def packed_size(num_tokens: int, code_dim: int) -> int:
    """Bytes per image."""
    return -(-num_tokens * code_dim // 8)


def pack_bits(codes: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """Bytes of codes.

    Parameters
    ----------
    codes : Tensor or ndarray (..., N, K)
        0 and 1, of any dtype.

    Returns
    -------
    uint8 (..., ceil(N K / 8)), Tensor or ndarray as given

    Raises
    ------
    ValueError
        For fewer than two dimensions, or a value that is neither 0 nor 1.
    """
    if codes.ndim < 2:
        raise ValueError(f"codes have shape {tuple(codes.shape)}; expected (..., tokens, bits).")
    ones = codes == 1
    if not (ones | (codes == 0)).all():
        raise ValueError("codes hold values other than 0 and 1; threshold probabilities at 0.5, or draw bits.")
    if isinstance(codes, np.ndarray):
        return np.packbits(ones.reshape(*codes.shape[:-2], codes.shape[-2] * codes.shape[-1]), axis=-1)
    flat = ones.flatten(-2)  # (..., N K)
    flat = torch.nn.functional.pad(flat.to(torch.uint8), (0, -flat.shape[-1] % 8))
    return (flat.unflatten(-1, (-1, 8)) << _shifts(codes.device)).sum(-1, dtype=torch.uint8)


def unpack_bits(packed: Tensor | np.ndarray, num_tokens: int, code_dim: int) -> Tensor | np.ndarray:
    """Codes of bytes: the inverse of `pack_bits`.

    Parameters
    ----------
    packed : uint8 Tensor or ndarray (..., ceil(N K / 8))
    num_tokens, code_dim : int
        N and K.

    Returns
    -------
    uint8 (..., N, K) of 0 and 1, Tensor or ndarray as given

    Raises
    ------
    TypeError
        If `packed` is not uint8.
    ValueError
        If the number of bytes is not that of N tokens of K bits.
    """
    if packed.dtype not in (torch.uint8, np.uint8):
        raise TypeError(f"packed codes have dtype {packed.dtype}; expected uint8, as pack_bits gives.")
    expected = packed_size(num_tokens, code_dim)
    if packed.ndim < 1 or packed.shape[-1] != expected:
        raise ValueError(
            f"packed codes have shape {tuple(packed.shape)}; {num_tokens} tokens of {code_dim} bits take (..., {expected}) bytes."
        )
    shape, used = (*packed.shape[:-1], num_tokens, code_dim), num_tokens * code_dim
    if isinstance(packed, np.ndarray):
        return np.unpackbits(packed, axis=-1, count=used).reshape(shape)
    bits = (packed[..., None] >> _shifts(packed.device)) & 1  # (..., bytes, 8)
    return bits.flatten(-2)[..., :used].reshape(shape)


def _shifts(device: torch.device) -> Tensor:
    """7..0, made on the device, so that no copy is waited for."""
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
