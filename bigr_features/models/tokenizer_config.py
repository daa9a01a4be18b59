"""Every number that shapes a tokenizer: frozen dataclasses, saved as JSON beside the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .config_fields import Config, check_positive


class PyramidConfig(Config):
    """What the convolutional tokenizers share: levels, each of half the resolution of the one before."""

    if TYPE_CHECKING:  # fields of each of them
        image_size: int
        channels: int
        channel_multipliers: tuple[int, ...]
        embed_dim: int

        @property
        def norm_first(self) -> bool: ...

    def _check_pyramid(self) -> None:
        object.__setattr__(self, "channel_multipliers", tuple(self.channel_multipliers))
        for name in ("image_size", "in_chans", "channels", "num_res_blocks", "embed_dim"):
            check_positive(self, name)
        if not self.channel_multipliers or min(self.channel_multipliers) < 1:
            raise ValueError(f"channel_multipliers={self.channel_multipliers}, but one positive number a level is needed.")
        if self.channels % 32 or (self.norm_first and self.embed_dim % 32):
            raise ValueError(
                f"channels={self.channels}, embed_dim={self.embed_dim}: both must be multiples of 32 (group norm with 32 groups)."
            )
        if self.image_size % self.downsampling:
            raise ValueError(
                f"image_size={self.image_size} is not a multiple of {self.downsampling}, "
                f"the downsampling of {len(self.channel_multipliers)} levels."
            )

    @property
    def downsampling(self) -> int:
        """Pixels a token, along one side."""
        return 2 ** (len(self.channel_multipliers) - 1)

    @property
    def grid_size(self) -> int:
        """Side G of the token grid at image_size."""
        return self.image_size // self.downsampling


@dataclass(frozen=True)
class TokenizerConfig(PyramidConfig):
    """Shape of the binary autoencoder. The default is the official 256 x 256 tokenizer with 24 bits.

    Parameters
    ----------
    image_size : int
        Side of the training images in pixels. With attention_resolutions it decides which levels hold attention.
    in_chans : int
        Image channels.
    channels : int
        Channels of the first level, a multiple of 32 (group norm).
    channel_multipliers : tuple of int
        Channels of each level over `channels`; the resolution halves between levels.
    num_res_blocks : int
        Residual blocks a level in the encoder.
    decoder_multiplier : float
        Residual blocks a level in the decoder, over num_res_blocks.
    attention_resolutions : tuple of int
        Sides, in positions, of the levels whose residual blocks are followed by attention.
    embed_dim : int
        Channels between the encoder and the bits, and between the bits and the decoder.
    code_dim : int
        K, bits a token.
    norm_first : bool
        Whether the decoder starts with a group norm.
    """

    image_size: int = 256
    in_chans: int = 3
    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    decoder_multiplier: float = 1.0
    attention_resolutions: tuple[int, ...] = (16,)
    embed_dim: int = 256
    code_dim: int = 24
    norm_first: bool = True

    def __post_init__(self):
        object.__setattr__(self, "attention_resolutions", tuple(self.attention_resolutions))
        check_positive(self, "code_dim")
        self._check_pyramid()

    @property
    def attention_levels(self) -> tuple[bool, ...]:
        """Whether each level, from fine to coarse, holds attention."""
        return tuple(self.image_size // 2**level in self.attention_resolutions for level in range(len(self.channel_multipliers)))

    @property
    def num_decoder_blocks(self) -> int:
        """Residual blocks a level in the decoder."""
        return int(self.num_res_blocks * self.decoder_multiplier)

    @property
    def activate_last(self) -> bool:
        """Whether an activation stands between the last norm and the last convolution."""
        return False


@dataclass(frozen=True)
class VQTokenizerConfig(PyramidConfig):
    """Shape of the VQ tokenizer and weights of its quantiser. The default is LlamaGen's VQ-16: 16,384 codes, 16 x 16 pixels a token.

    Attention stands in the coarsest level only, and the decoder has one residual block more a level than the encoder.

    Parameters
    ----------
    image_size : int
        Side of the training images in pixels.
    in_chans : int
        Image channels.
    channels : int
        Channels of the first level, a multiple of 32 (group norm).
    channel_multipliers : tuple of int
        Channels of each level over `channels`; the resolution halves between levels. LlamaGen's VQ-8 has (1, 2, 2, 4).
    num_res_blocks : int
        Residual blocks a level in the encoder.
    embed_dim : int
        Channels that the encoder gives and the decoder takes (z_channels there).
    codebook_size : int
        V, number of codes.
    codebook_dim : int
        Channels of a code.
    l2_norm : bool
        Compare latents and codes after division by their lengths.
    commitment_weight : float
        Weight of the distance that pulls latents towards their codes, against 1 for the one that pulls codes towards latents.
    entropy_weight : float
        Weight of the term that wants clear choices of each token and even use of all codes.
    """

    image_size: int = 256
    in_chans: int = 3
    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: int = 2
    embed_dim: int = 256
    codebook_size: int = 16384
    codebook_dim: int = 8
    l2_norm: bool = True
    commitment_weight: float = 0.25
    entropy_weight: float = 0.0

    def __post_init__(self):
        for name in ("codebook_size", "codebook_dim"):
            check_positive(self, name)
        for name in ("commitment_weight", "entropy_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}; expected a finite number, 0 or more.")
        self._check_pyramid()

    @property
    def attention_levels(self) -> tuple[bool, ...]:
        """Whether each level, from fine to coarse, holds attention: the last does."""
        return (*[False] * (len(self.channel_multipliers) - 1), True)

    @property
    def num_decoder_blocks(self) -> int:
        """Residual blocks a level in the decoder."""
        return self.num_res_blocks + 1

    @property
    def norm_first(self) -> bool:
        """Whether the decoder starts with a group norm."""
        return False

    @property
    def activate_last(self) -> bool:
        """Whether an activation stands between the last norm and the last convolution."""
        return True
