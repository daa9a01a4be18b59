"""The tokenizer: a binary autoencoder (B-AE), image to bits and back.

B batch, C channels, H x W pixels or positions, N = G * G tokens row by row, K bits, E embedding channels.
Binary Latent Diffusion (arXiv:2304.04820), as BiGR (arXiv:2410.14672) uses it. Blocks are numbered through as in official files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import bernoulli
from ..functional.checks import check_codes, check_image_batch, check_pixels
from .config import TokenizerConfig


def group_norm(channels: int, device=None, dtype=None) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6, device=device, dtype=dtype)


class ResidualBlock(nn.Module):
    """Two normalised 3 x 3 convolutions; a 1 x 1 shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.norm1 = group_norm(in_channels, **dd)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, **dd)
        self.norm2 = group_norm(out_channels, **dd)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, **dd)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, **dd)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden)))
        return self.shortcut(x) + hidden


class AttentionBlock(nn.Module):
    """Single-head attention over positions."""

    def __init__(self, channels: int, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.norm = group_norm(channels, **dd)
        self.q = nn.Conv2d(channels, channels, 1, **dd)
        self.k = nn.Conv2d(channels, channels, 1, **dd)
        self.v = nn.Conv2d(channels, channels, 1, **dd)
        self.proj = nn.Conv2d(channels, channels, 1, **dd)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(x)
        q, k, v = tokens(self.q(hidden)), tokens(self.k(hidden)), tokens(self.v(hidden))
        hidden = F.scaled_dot_product_attention(q, k, v)[:, 0]  # (B, H W, C)
        return x + self.proj(hidden.transpose(1, 2).reshape(x.shape))


def tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 1, H W, C)."""
    return x.flatten(2).transpose(1, 2)[:, None]


class Downsample(nn.Module):
    """Stride-2 convolution, padded on the right and at the bottom only."""

    def __init__(self, channels: int, device=None, dtype=None):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a convolution."""

    def __init__(self, channels: int, device=None, dtype=None):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Blocks(nn.Module):
    """Blocks that run one after the other."""

    def __init__(self, blocks: list[nn.Module]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def _level(in_channels: int, channels: int, depth: int, attention: bool, dd: dict) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for i in range(depth):
        blocks.append(ResidualBlock(in_channels if i == 0 else channels, channels, **dd))
        if attention:
            blocks.append(AttentionBlock(channels, **dd))
    return blocks


def _middle(channels: int, dd: dict) -> list[nn.Module]:
    return [ResidualBlock(channels, channels, **dd), AttentionBlock(channels, **dd), ResidualBlock(channels, channels, **dd)]


class Encoder(_Blocks):
    """Images (B, C, H, W) to (B, E, G, G). The last norm has no activation after it."""

    def __init__(self, config: TokenizerConfig, device=None, dtype=None):
        dd = {"device": device, "dtype": dtype}
        blocks: list[nn.Module] = [nn.Conv2d(config.in_chans, config.channels, 3, padding=1, **dd)]
        width, side = config.channels, config.image_size
        for level, multiplier in enumerate(config.channel_multipliers):
            if level > 0:
                blocks.append(Downsample(width, **dd))
                side //= 2
            channels = config.channels * multiplier
            blocks += _level(width, channels, config.num_res_blocks, side in config.attention_resolutions, dd)
            width = channels
        blocks += [*_middle(width, dd), group_norm(width, **dd), nn.Conv2d(width, config.embed_dim, 3, padding=1, **dd)]
        super().__init__(blocks)


class Decoder(_Blocks):
    """(B, E, G, G) to images (B, C, H, W), not clamped."""

    def __init__(self, config: TokenizerConfig, device=None, dtype=None):
        dd = {"device": device, "dtype": dtype}
        width, side = config.channels * config.channel_multipliers[-1], config.grid_size
        blocks: list[nn.Module] = [group_norm(config.embed_dim, **dd)] if config.norm_first else []
        blocks += [nn.Conv2d(config.embed_dim, width, 3, padding=1, **dd), *_middle(width, dd)]
        depth = int(config.num_res_blocks * config.decoder_multiplier)
        for level, multiplier in enumerate(reversed(config.channel_multipliers)):
            if level > 0:
                blocks.append(Upsample(width, **dd))
                side *= 2
            channels = config.channels * multiplier
            blocks += _level(width, channels, depth, side in config.attention_resolutions, dd)
            width = channels
        blocks += [group_norm(width, **dd), nn.Conv2d(width, config.in_chans, 3, padding=1, **dd)]
        super().__init__(blocks)


class BinaryQuantizer(nn.Module):
    """A 1 x 1 convolution to K bit logits, and the embedding of bits: a 1 adds its row, a 0 adds nothing."""

    def __init__(self, config: TokenizerConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.proj = nn.Conv2d(config.embed_dim, config.code_dim, 1, **dd)
        self.embedding = nn.Parameter(torch.empty(config.code_dim, config.embed_dim, **dd))
        nn.init.normal_(self.embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Bit logits (B, N, K) of (B, E, G, G)."""
        return self.proj(x).flatten(2).transpose(1, 2)

    def embed(self, codes: Tensor) -> Tensor:
        """(B, N, E) of codes (B, N, K)."""
        embedding = self.embedding
        assert embedding is not None, "built without the generative parts"
        return codes.to(embedding.dtype) @ embedding


def straight_through(bits: Tensor, probability: Tensor) -> Tensor:
    """`bits` in the forward pass, the gradient of `probability` in the backward pass."""
    return bits + (probability - probability.detach())


class BinaryAutoencoder(nn.Module):
    """Binary autoencoder: images in [0, 1] to K bits a token, and back.

    Parameters
    ----------
    config : TokenizerConfig

    Attributes
    ----------
    encoder, quantizer, decoder
    """

    def __init__(self, config: TokenizerConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.config = config
        self.in_chans = config.in_chans
        self.code_dim = config.code_dim
        self.image_size = config.image_size
        self.grid_size = config.grid_size
        self.encoder = Encoder(config, **dd)
        self.quantizer = BinaryQuantizer(config, **dd)
        self.decoder = Decoder(config, **dd)

    def set_image_size(self, image_size: int) -> None:
        """Take images of another size; a fully convolutional network needs no new weights.

        Raises
        ------
        ValueError
            If image_size is not a multiple of the downsampling.
        """
        if image_size % self.config.downsampling:
            raise ValueError(f"image size {image_size} is not a multiple of {self.config.downsampling}, the pixels a token covers.")
        self.image_size = image_size
        self.grid_size = image_size // self.config.downsampling

    def drop_decoder(self) -> None:
        """Leave what encoding needs."""
        self.decoder = None
        self.quantizer.embedding = None

    def bit_probabilities(self, images: Tensor) -> Tensor:
        """Probability (B, N, K) that each bit is 1, for images (B, C, H, W) in [0, 1]; float32 or better. Looks at no pixel value."""
        images = check_image_batch(images, self.in_chans, self.image_size, self.image_size)
        return self._probabilities(images)

    def _probabilities(self, images: Tensor) -> Tensor:
        dtype = torch.promote_types(self.quantizer.proj.weight.dtype, torch.float32)
        return torch.sigmoid(self.quantizer(self.encoder(images)).to(dtype))

    def binarize(self, images: Tensor) -> Tensor:
        """Thresholded codes (B, N, K) with straight-through gradient, unchecked: what the feature path traces."""
        probability = self._probabilities(images)
        return straight_through((probability > 0.5).to(probability.dtype), probability)

    def encode(self, images: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Codes of images, with straight-through gradient to the encoder.

        Parameters
        ----------
        images : Tensor (B, C, H, W)
            Pixels in [0, 1].
        sample : bool
            Draw Bernoulli bits instead of thresholding at 0.5.
        generator : torch.Generator, optional
            Source of the draws.

        Returns
        -------
        Tensor (B, N, K) of 0.0 and 1.0, tokens row by row

        Raises
        ------
        TypeError, ValueError
            For a dtype or shape that does not fit, pixels outside [0, 1], or NaN.
        """
        check_image_batch(images, self.in_chans, self.image_size, self.image_size)
        check_pixels(images)
        if not sample:
            return self.binarize(images)
        probability = self._probabilities(images)
        return straight_through(bernoulli.draw(probability.detach(), generator), probability)

    def decode(self, codes: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes (B, N, K); pixels are not clamped to [0, 1].

        Raises
        ------
        ValueError
            For codes of another shape.
        """
        check_codes(codes, self.grid_size * self.grid_size, self.code_dim)
        return self._decode(codes)

    def _decode(self, codes: Tensor) -> Tensor:
        decoder = self.decoder
        if decoder is None:
            raise RuntimeError("decoding needs the decoder, but the model was built or pruned without it; use generative=True.")
        return decoder(self.quantizer.embed(codes).transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size)))

    @torch.jit.unused
    def forward(self, images: Tensor) -> Tensor:
        """Reconstruction of images through thresholded bits."""
        return self._decode(self.binarize(images))
