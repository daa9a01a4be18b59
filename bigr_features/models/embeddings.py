"""From codes to token vectors: of bits, of indices, and of indices that may be hidden.

B batch, N tokens, K bits, S sub-codes a token, V classes of a sub-code, D width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..functional.codes import bits_to_indices
from .config import GeneratorConfig


class BitEmbedding(nn.Module):
    """Codes (B, N, K) of 0 and 1 to token vectors (B, N, D); hidden tokens become one learned vector, which a causal model lacks."""

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        self.proj = nn.Linear(config.code_dim, config.width, device=device, dtype=dtype)
        mask_embedding = None if config.causal else nn.Parameter(torch.empty(1, config.width, device=device, dtype=dtype))
        self.mask_embedding = mask_embedding

    def init_weights(self) -> None:
        if self.mask_embedding is not None:
            nn.init.normal_(self.mask_embedding)

    @torch.jit.unused
    @property
    def can_hide(self) -> bool:
        """Whether a mask may be given."""
        return self.mask_embedding is not None

    def drop_mask(self) -> None:
        """Leave what visible tokens need."""
        self.mask_embedding = None

    def forward(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.proj(codes.to(self.proj.weight.dtype))  # (B, N, D)
        if mask is None:
            return x
        mask_embedding = self.mask_embedding
        assert mask_embedding is not None, "built without the generative parts"
        return torch.where(mask[..., None], mask_embedding, x)


class IndexEmbedding(nn.Module):
    """Codes to token vectors (B, N, D), for causal models: a table for each sub-code, and one linear map over all of them if S > 1.

    Indices have no gradient, so none reaches the tokenizer through this embedding.
    """

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.from_bits = config.tokens == "bits"
        self.num_sub_codes = config.num_sub_codes
        self.tables = nn.ModuleList([nn.Embedding(config.vocab_size, config.width, **dd) for _ in range(config.num_sub_codes)])
        several = config.num_sub_codes > 1
        self.proj = nn.Linear(config.num_sub_codes * config.width, config.width, bias=False, **dd) if several else nn.Identity()

    @torch.jit.unused
    @property
    def can_hide(self) -> bool:
        """Whether a mask may be given."""
        return False

    def drop_mask(self) -> None:
        """Nothing to leave out."""

    def forward(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        assert mask is None, "a causal model hides nothing"
        indices = bits_to_indices(codes, self.num_sub_codes) if self.from_bits else codes[..., None]  # (B, N, S)
        vectors = [table(indices[:, :, i]) for i, table in enumerate(self.tables)]
        return self.proj(torch.cat(vectors, dim=-1))


class MaskedIndexEmbedding(nn.Module):
    """Codes to token vectors (B, N * S, D), for masked models: one table for all sub-codes, whose last row stands for hidden ones.

    Sub-codes of a token stand side by side and are hidden together. Indices have no gradient, so none reaches the tokenizer.
    """

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        self.from_bits = config.tokens == "bits"
        self.num_sub_codes = config.num_sub_codes
        assert config.vocab_size is not None
        self.vocab_size = int(config.vocab_size)
        self.table = nn.Embedding(self.vocab_size + 1, config.width, device=device, dtype=dtype)

    @torch.jit.unused
    @property
    def can_hide(self) -> bool:
        """Whether a mask may be given."""
        return True

    def drop_mask(self) -> None:
        """Nothing to leave out: the row of hidden tokens is one of the table."""

    def forward(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        indices = bits_to_indices(codes, self.num_sub_codes) if self.from_bits else codes[..., None]  # (B, N, S)
        if mask is not None:
            indices = indices.masked_fill(mask[..., None], self.vocab_size)
        return self.table(indices.flatten(1))


def build_embedding(config: GeneratorConfig, device=None, dtype=None) -> nn.Module:
    """The embedding that a configuration asks for."""
    if not config.categorical:
        return BitEmbedding(config, device, dtype)
    return IndexEmbedding(config, device, dtype) if config.causal else MaskedIndexEmbedding(config, device, dtype)
