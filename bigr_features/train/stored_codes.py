"""How the codes of a tokenizer are stored: bits eight a byte, indices in the smallest integers that hold them.

n images, N tokens, K bits, V codes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..functional import bernoulli
from ..functional.packing import pack_bits, packed_size, unpack_bits
from ..models.image_tokenizer import ImageTokenizer
from ..models.tokenizer_config import TokenizerConfig, VQTokenizerConfig


@dataclass(frozen=True)
class StoredBits:
    """Rows of packed bits.

    num_tokens, code_dim : N and K.
    """

    num_tokens: int
    code_dim: int

    @property
    def facts(self) -> dict[str, int]:
        """What a manifest says of the codes."""
        return {"num_tokens": self.num_tokens, "code_dim": self.code_dim}

    @property
    def bits(self) -> tuple[int, int] | None:
        """Tokens and bits that a row unpacks to."""
        return self.num_tokens, self.code_dim

    def empty(self, count: int) -> np.ndarray:
        """Room for rows."""
        return np.empty((count, packed_size(self.num_tokens, self.code_dim)), np.uint8)

    def pack(self, codes: Tensor) -> np.ndarray:
        """Rows (n, bytes) of codes (n, N, K)."""
        return torch.as_tensor(pack_bits(codes)).cpu().numpy()

    def unpack(self, rows: Tensor) -> Tensor:
        """Codes (n, N, K), float32, of rows, on their device."""
        return torch.as_tensor(unpack_bits(rows, self.num_tokens, self.code_dim)).float()


@dataclass(frozen=True)
class StoredIndices:
    """Rows of indices, uint16 or uint32.

    num_tokens, codebook_size : N and V.
    """

    num_tokens: int
    codebook_size: int
    bits = None

    @property
    def facts(self) -> dict[str, int]:
        """What a manifest says of the codes."""
        return {"num_tokens": self.num_tokens, "codebook_size": self.codebook_size}

    @property
    def dtype(self) -> type:
        """Of the rows."""
        return np.uint16 if self.codebook_size <= 2**16 else np.uint32

    def empty(self, count: int) -> np.ndarray:
        """Room for rows."""
        return np.empty((count, self.num_tokens), self.dtype)

    def pack(self, codes: Tensor) -> np.ndarray:
        """Rows (n, N) of indices (n, N)."""
        return codes.cpu().numpy().astype(self.dtype)

    def unpack(self, rows: Tensor) -> Tensor:
        """Indices (n, N), int64, of rows, on their device."""
        return rows.to(torch.int64)


def stored_codes(source: ImageTokenizer | dict) -> StoredBits | StoredIndices:
    """How the codes of a tokenizer, or of the manifest of a cache, are stored."""
    if isinstance(source, dict):
        sizes = {name: source[name] for name in ("num_tokens", "code_dim", "codebook_size") if name in source}
        return StoredIndices(**sizes) if "codebook_size" in sizes else StoredBits(**sizes)
    config: TokenizerConfig | VQTokenizerConfig = source.config
    tokens = source.grid_size**2
    return StoredBits(tokens, config.code_dim) if isinstance(config, TokenizerConfig) else StoredIndices(tokens, config.codebook_size)


def check_drawable(tokenizer: ImageTokenizer, sample_bits: bool) -> None:
    """Raise ValueError if bits are to be drawn of a tokenizer that has none."""
    if sample_bits and tokenizer.tokens != "bits":
        raise ValueError("sample_bits draws Bernoulli bits, but this tokenizer gives indices; leave it out, or give a binary tokenizer.")


def encoded(tokenizer: ImageTokenizer, images: Tensor, sample_bits: bool, generator: torch.Generator | None) -> Tensor:
    """Codes of images (n, C, S, S) in [0, 1], whose values are not looked at; bits thresholded or drawn."""
    images = tokenizer.normalize(images)
    if sample_bits:  # without the look at every pixel of `encode`, for which the host would wait
        return bernoulli.draw(tokenizer.bit_probabilities(images), generator)
    return tokenizer.look_up(images)
