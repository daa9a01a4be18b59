"""Convolutional parts of the tokenizers: residual and attention blocks, the way down to tokens and the way up to pixels.

B batch, C channels, H x W pixels or positions, E embedding channels, G x G token grid.
The layout is that of VQGAN (arXiv:2012.09841); where tokenizers differ, their configuration says so.
"""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 1024  # positions below which torch's group norm takes up to 20 times as long where channels lie last


@torch.fx.wrap
def laid_out(x: Tensor) -> Tensor:
    """x as convolutions are fastest with it: in bf16 on a CPU with channels last, as they give them in any case."""
    if torch.jit.is_scripting():
        return x
    else:  # TorchScript reads no further than this
        halves = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
        return x.contiguous(memory_format=torch.channels_last) if halves and x.device.type == "cpu" else x


@torch.fx.wrap
def group_norm(x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, small: int = SMALL) -> Tensor:
    """F.group_norm; on a CPU, small maps whose channels lie last are put in the other order for it."""
    if x.device.type == "cpu" and x.shape[-2] * x.shape[-1] < small and not x.is_contiguous():
        normed = F.group_norm(x.contiguous(), num_groups, weight, bias, eps)
        return normed.contiguous(memory_format=torch.channels_last)
    return F.group_norm(x, num_groups, weight, bias, eps)


class GroupNorm(nn.GroupNorm):
    """Group norm with 32 groups."""

    def __init__(self, channels: int, device=None, dtype=None):
        super().__init__(32, channels, eps=1e-6, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class ResidualBlock(nn.Module):
    """Two normalised 3 x 3 convolutions; a 1 x 1 shortcut where the width changes."""

    def __init__(self, in_channels: int, out_channels: int, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.norm1 = GroupNorm(in_channels, **dd)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, **dd)
        self.norm2 = GroupNorm(out_channels, **dd)
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
        self.norm = GroupNorm(channels, **dd)
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
        x = laid_out(x)
        for block in self.blocks:
            x = block(x)
        return x.contiguous()


def _level(in_channels: int, channels: int, depth: int, attention: bool, dd: dict) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for i in range(depth):
        blocks.append(ResidualBlock(in_channels if i == 0 else channels, channels, **dd))
        if attention:
            blocks.append(AttentionBlock(channels, **dd))
    return blocks


def _middle(channels: int, dd: dict) -> list[nn.Module]:
    return [ResidualBlock(channels, channels, **dd), AttentionBlock(channels, **dd), ResidualBlock(channels, channels, **dd)]


def _last(channels: int, out_channels: int, activate: bool, dd: dict) -> list[nn.Module]:
    activation: list[nn.Module] = [nn.SiLU()] if activate else []
    return [GroupNorm(channels, **dd), *activation, nn.Conv2d(channels, out_channels, 3, padding=1, **dd)]


class Encoder(_Blocks):
    """Images (B, C, H, W) to (B, E, G, G).

    Parameters
    ----------
    config : TokenizerConfig or VQTokenizerConfig
        Its `attention_levels` say which levels hold attention, `activate_last` whether a SiLU follows the last norm.
    """

    def __init__(self, config, device=None, dtype=None):
        dd = {"device": device, "dtype": dtype}
        blocks: list[nn.Module] = [nn.Conv2d(config.in_chans, config.channels, 3, padding=1, **dd)]
        width = config.channels
        for level, multiplier in enumerate(config.channel_multipliers):
            if level > 0:
                blocks.append(Downsample(width, **dd))
            channels = config.channels * multiplier
            blocks += _level(width, channels, config.num_res_blocks, config.attention_levels[level], dd)
            width = channels
        blocks += [*_middle(width, dd), *_last(width, config.embed_dim, config.activate_last, dd)]
        super().__init__(blocks)


class Decoder(_Blocks):
    """(B, E, G, G) to images (B, C, H, W), not clamped; levels from coarse to fine.

    Parameters
    ----------
    config : TokenizerConfig or VQTokenizerConfig
        As for the encoder; `num_decoder_blocks` are the residual blocks of a level, with `norm_first` a group norm comes first.
    """

    def __init__(self, config, device=None, dtype=None):
        dd = {"device": device, "dtype": dtype}
        width = config.channels * config.channel_multipliers[-1]
        blocks: list[nn.Module] = [GroupNorm(config.embed_dim, **dd)] if config.norm_first else []
        blocks += [nn.Conv2d(config.embed_dim, width, 3, padding=1, **dd), *_middle(width, dd)]
        levels = zip(reversed(config.channel_multipliers), reversed(config.attention_levels), strict=True)
        for level, (multiplier, attention) in enumerate(levels):
            if level > 0:
                blocks.append(Upsample(width, **dd))
            channels = config.channels * multiplier
            blocks += _level(width, channels, config.num_decoder_blocks, attention, dd)
            width = channels
        super().__init__([*blocks, *_last(width, config.in_chans, config.activate_last, dd)])
