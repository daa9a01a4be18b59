"""What a token's code is: K bits, or one index.   B batch, N tokens, K bits, S sub-codes of K / S bits, V = 2 ** (K / S) classes

K bits are cut into S contiguous sub-codes; in each the first bit is the most significant (ELM, arXiv:2410.16257).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import checks


def bits_to_indices(codes: Tensor, num_sub_codes: int = 1) -> Tensor:
    """Class indices (..., S), int64, of bits (..., K): the first bit of each sub-code is its most significant one."""
    bits = codes.to(torch.int64).unflatten(-1, [num_sub_codes, -1])  # (..., S, K / S)
    places = torch.arange(bits.shape[-1] - 1, -1, -1, device=codes.device)
    return (bits << places).sum(-1)


def indices_to_bits(indices: Tensor, code_dim: int) -> Tensor:
    """Bits (..., K), float32, of class indices (..., S); the inverse of `bits_to_indices`."""
    places = torch.arange(code_dim // indices.shape[-1] - 1, -1, -1, device=indices.device)
    return ((indices[..., None] >> places) & 1).flatten(-2).float()


@dataclass(frozen=True)
class BitCodes:
    """Codes (B, N, K) of 0 and 1, read as S indices a token."""

    code_dim: int
    num_sub_codes: int = 1

    @property
    def vocab_size(self) -> int:
        """V, classes of a sub-code."""
        return 2 ** (self.code_dim // self.num_sub_codes)

    def check(self, codes: Tensor, num_tokens: int) -> None:
        """Shape of codes; see `checks.check_codes`."""
        checks.check_codes(codes, num_tokens, self.code_dim)

    def check_values(self, codes: Tensor) -> None:
        """Codes must hold 0 and 1 only."""
        checks.check_bits(codes)

    def indices(self, codes: Tensor) -> Tensor:
        """Class indices (..., S) of codes (..., K)."""
        return bits_to_indices(codes, self.num_sub_codes)

    def codes(self, indices: Tensor) -> Tensor:
        """Codes (..., K), float32, of class indices (..., S)."""
        return indices_to_bits(indices, self.code_dim)

    def unknown(self, batch: int, num_tokens: int, device=None) -> Tensor:
        """Codes (B, N, K) to be filled."""
        return torch.zeros(batch, num_tokens, self.code_dim, device=device)


@dataclass(frozen=True)
class IndexCodes:
    """Codes (B, N) that are class indices 0..V-1 already; one sub-code a token."""

    vocab_size: int
    num_sub_codes: int = 1

    def check(self, codes: Tensor, num_tokens: int) -> None:
        """Codes must be integers (B, N) with B of 1 or more.

        Raises
        ------
        ValueError
            Naming shape or dtype given; bits are recognised.
        """
        if codes.dim() == 3:
            raise ValueError(
                f"codes have shape {tuple(codes.shape)}, which looks like {codes.shape[-1]} bits a token, but this model takes one index "
                f"of 0..{self.vocab_size - 1} a token, (batch, {num_tokens}); encode with its own (VQ) tokenizer, or take a model on bits."
            )
        if codes.dim() != 2 or codes.shape[1] != num_tokens or codes.shape[0] == 0:
            raise ValueError(f"codes have shape {tuple(codes.shape)}; expected (batch, {num_tokens}) with a batch of 1 or more.")
        if codes.is_floating_point() or codes.dtype == torch.bool:
            raise ValueError(f"codes have dtype {codes.dtype}; expected integer indices of 0..{self.vocab_size - 1}.")

    def check_values(self, codes: Tensor) -> None:
        """Indices must lie in 0..V-1."""
        wrong = (codes < 0) | (codes >= self.vocab_size)
        if wrong.any():
            raise ValueError(
                f"codes hold index {codes[wrong][0].item()}; expected 0..{self.vocab_size - 1}. Encode with the tokenizer of this model."
            )

    def indices(self, codes: Tensor) -> Tensor:
        """Class indices (..., 1) of codes (...)."""
        return codes.to(torch.int64)[..., None]

    def codes(self, indices: Tensor) -> Tensor:
        """Codes (...), int64, of class indices (..., 1)."""
        return indices[..., 0]

    def unknown(self, batch: int, num_tokens: int, device=None) -> Tensor:
        """Codes (B, N) to be filled."""
        return torch.zeros(batch, num_tokens, dtype=torch.int64, device=device)


def code_format(config) -> BitCodes | IndexCodes:
    """What the codes of a generator with this configuration are."""
    return BitCodes(config.code_dim, config.num_sub_codes) if config.tokens == "bits" else IndexCodes(config.vocab_size)
