"""Llama-style transformer with one shared adaLN: the trunk of the generator.

B batch, S = c + N positions (c condition tokens first; each several times where a token takes several), D width, H heads, h head width

A causal trunk can also run piece by piece with a static key/value cache: `start` then says how many positions came before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..functional.attention import attention
from ..functional.rope import apply_rope, rope_table
from .config import GeneratorConfig
from .constants import ConstantTable
from .visible import join_hidden, take_visible

torch.fx.wrap("attention")  # its choice of kernel is not for tracing


class Attention(nn.Module):
    """Self-attention with rotary positions; bidirectional, or causal."""

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.num_heads = config.num_heads
        self.causal = config.causal
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False, **dd)
        self.proj = nn.Linear(config.width, config.width, bias=False, **dd)
        self.dropout = nn.Dropout(config.residual_dropout)

    def forward(self, x: Tensor, rope: Tensor, cache: Tensor | None = None, start: int = 0, visible: Tensor | None = None) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4)  # (3, B, H, S, h)
        qk, v = qkv.split([2, 1])  # not by indices, whose backward pass fills whole tensors with zeros
        q, k = apply_rope(qk, rope).unbind(0)
        v, causal = v.squeeze(0), self.causal
        if cache is not None:  # (2, B, H, most positions, h)
            end = start + length
            cache[0, :, :, start:end], cache[1, :, :, start:end] = k, v
            k, v = cache[0, :, :, :end], cache[1, :, :, :end]
            causal = length > 1  # one position sees all before it
        x = attention(q, k, v, visible, causal)
        return self.dropout(self.proj(x.transpose(1, 2).reshape(batch, length, width)))


class FeedForward(nn.Module):
    """SwiGLU without biases."""

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.gate = nn.Linear(config.width, config.ffn_width, bias=False, **dd)
        self.up = nn.Linear(config.width, config.ffn_width, bias=False, **dd)
        self.down = nn.Linear(config.ffn_width, config.width, bias=False, **dd)
        self.dropout = nn.Dropout(config.ffn_dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.down(F.silu(self.gate(x)) * self.up(x)))


class Block(nn.Module):
    """Pre-norm attention and feed-forward; ignores the modulation."""

    def __init__(self, config: GeneratorConfig, drop_path: float, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        self.attention_norm = nn.RMSNorm(config.width, eps=config.norm_eps, **dd)
        self.attention = Attention(config, **dd)
        self.feed_forward_norm = nn.RMSNorm(config.width, eps=config.norm_eps, **dd)
        self.feed_forward = FeedForward(config, **dd)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(
        self,
        x: Tensor,
        modulation: Tensor | None,
        rope: Tensor,
        cache: Tensor | None = None,
        start: int = 0,
        visible: Tensor | None = None,
    ) -> Tensor:
        x = x + self.drop_path(self.attention(self.attention_norm(x), rope, cache, start, visible))
        return x + self.drop_path(self.feed_forward(self.feed_forward_norm(x)))  # (B, S, D)


GATES = (2, 5)  # of attention and of the feed-forward, among the six vectors of a modulation


class ModulatedBlock(Block):
    """Attention and SwiGLU, both modulated by the shared vector of the class plus an offset of this block's own."""

    def __init__(self, config: GeneratorConfig, drop_path: float, device=None, dtype=None):
        super().__init__(config, drop_path, device=device, dtype=dtype)
        self.eps = config.norm_eps
        self.modulation_offset = nn.Parameter(torch.empty(1, 1, 6, config.width, device=device, dtype=dtype))

    def forward(
        self,
        x: Tensor,
        modulation: Tensor | None,
        rope: Tensor,
        cache: Tensor | None = None,
        start: int = 0,
        visible: Tensor | None = None,
    ) -> Tensor:
        assert modulation is not None
        parts = (modulation + self.modulation_offset).unbind(2)
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = parts  # each (B or 1, 1, D)
        attended = self.attention(modulated_norm(x, self.attention_norm.weight, self.eps, shift_a, scale_a), rope, cache, start, visible)
        x = torch.addcmul(x, gate_a, self.drop_path(attended))
        computed = self.feed_forward(modulated_norm(x, self.feed_forward_norm.weight, self.eps, shift_f, scale_f))
        return torch.addcmul(x, gate_f, self.drop_path(computed))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, x, 1 + scale)


def modulated_norm(x: Tensor, weight: Tensor, eps: float, shift: Tensor, scale: Tensor) -> Tensor:
    """modulate(RMSNorm(x), shift, scale) with one pass less: the weight of the norm joins the scale, of which there is one row an image."""
    return torch.addcmul(shift, F.rms_norm(x, [x.shape[-1]], None, eps), weight * (1 + scale))


class Modulation(nn.Module):
    """The map from the class vector (B or 1, 1, D) to the six shared vectors (B or 1, 1, 6, D) of adaLN."""

    def __init__(self, width: int, device=None, dtype=None):
        super().__init__()
        self.proj = nn.Linear(width, 6 * width, device=device, dtype=dtype)

    def forward(self, condition: Tensor) -> Tensor:
        return self.proj(F.silu(condition)).unflatten(-1, (6, -1))


@dataclass
class KVCache:
    """Keys and values of a causal trunk's positions so far.

    layers : a Tensor (2, B, H, S, h) for each block, S the most positions there can be.
    modulation : (B or 1, 1, 6, D), or None without adaLN.
    length : positions that are filled.
    """

    layers: list[Tensor]
    modulation: Tensor | None
    length: int = 0

    def keep(self, batch: int) -> KVCache:
        """The cache of the first images; it shares their memory."""
        modulation = self.modulation
        if modulation is not None and len(modulation) > 1:
            modulation = modulation[:batch]
        return KVCache([layer[:, :batch] for layer in self.layers], modulation, self.length)


class Trunk(nn.Module):
    """The blocks, their rotary table and shared modulation, and the final norm."""

    def __init__(self, config: GeneratorConfig, device=None, dtype=None):
        super().__init__()
        dd = {"device": device, "dtype": dtype}
        block = ModulatedBlock if config.adaln else Block
        drop_path = [config.drop_path * i / max(1, config.depth - 1) for i in range(config.depth)]
        self.rope = self.rope_of(config, **dd)
        self.modulation = Modulation(config.width, **dd) if config.adaln else None
        self.blocks = nn.ModuleList([block(config, drop_path[i], **dd) for i in range(config.depth)])
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps, **dd)
        self.gate_init = config.gate_init
        self.visible_blocks = config.visible_blocks
        self.grad_checkpointing = False

    @staticmethod
    def rope_of(config: GeneratorConfig, device=None, dtype=None) -> ConstantTable:
        """Rotary table of the configuration's grid."""
        head_dim, positions = config.width // config.num_heads, config.positions_per_token
        slots = config.num_prefix_slots // positions
        rotation = "zero" if config.text is None else config.text.rotation
        args = (config.grid_size, head_dim, slots, config.rope_base, positions, rotation)
        return ConstantTable(lambda: rope_table(*args), device=device, dtype=dtype)

    def init_weights(self) -> None:
        """Official initialisation: the offsets of adaLN N(0, 1 / D), its shared map zero; gates get the mean `gate_init`."""
        for block in self.blocks:
            if isinstance(block, ModulatedBlock):
                nn.init.normal_(block.modulation_offset, std=1 / math.sqrt(block.modulation_offset.shape[-1]))
                block.modulation_offset[:, :, GATES] += self.gate_init
        if self.modulation is not None:
            nn.init.zeros_(self.modulation.proj.weight)
            nn.init.zeros_(self.modulation.proj.bias)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        layers: list[int],
        missing: int = 0,
        skip: int = 0,
        visible: Tensor | None = None,
        hidden: Tensor | None = None,
    ) -> list[Tensor]:
        """Residual streams (B, S, D) after each of the blocks `layers`, without the final norm, in one pass to the last of them.

        Parameters
        ----------
        x : Tensor (B, S, D)
            Condition tokens, then image tokens.
        condition : Tensor (B or 1, 1, D)
            Class vector that drives the modulation.
        layers : list of int
            0-based indices, ascending, without repeats.
        missing : int
            Positions that x lacks at the end.
        skip : int
            Positions that x lacks at the beginning: of shorter captions.
        visible : Tensor (B, S) bool, optional
            False at positions that no position attends to.
        hidden : Tensor (B, S) bool, optional
            With `visible_blocks`, positions that join after so many blocks; the streams before hold their learned vectors.
        """
        modulation = self.modulation(condition) if self.modulation is not None else None
        rope = self.rope.table[skip:] if missing == 0 else self.rope.table[skip:-missing]
        keys = visible[:, None, None] if visible is not None else None  # (B, 1, 1, S)
        streams: list[Tensor] = []
        start, all_rope, all_keys = x, rope, keys
        index: Tensor | None = None
        joining = self.visible_blocks if hidden is not None else 0
        if hidden is not None and joining > 0:
            x, rope, keys, index = take_visible(x, rope, keys, hidden)
        for i, block in enumerate(self.blocks):
            if i <= layers[-1]:
                if hidden is not None and joining > 0 and i == joining:
                    x, rope, keys = join_hidden(x, start, hidden, index), all_rope, all_keys
                if self.grad_checkpointing and not torch.jit.is_scripting():
                    x = checkpoint(block, x, modulation, rope, None, 0, keys, use_reentrant=False)
                else:
                    x = block(x, modulation, rope, None, 0, keys)
                if i in layers:
                    streams.append(join_hidden(x, start, hidden, index) if hidden is not None and i < joining else x)
        return streams

    @torch.jit.unused
    def new_cache(self, batch: int, condition: Tensor) -> KVCache:
        """An empty cache for `batch` images with the class vectors (B or 1, 1, D); its size does not change any more."""
        attention, device = self.blocks[0].attention, condition.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else attention.qkv.weight.dtype
        width = attention.proj.in_features // attention.num_heads
        shape = (2, batch, attention.num_heads, len(self.rope.table), width)
        layers = [torch.empty(shape, device=device, dtype=dtype) for _ in self.blocks]
        return KVCache(layers, self.modulation(condition) if self.modulation is not None else None)

    @torch.jit.unused
    def extend(self, x: Tensor, cache: KVCache) -> Tensor:
        """Residual stream (B, S', D) after the last block of S' positions that follow those in the cache, which they join.

        Several positions at once are for an empty cache.
        """
        start, length = cache.length, x.shape[1]
        assert start == 0 or length == 1, "several positions fit at the start only"
        rope = self.rope.table[start : start + length]
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x = block(x, cache.modulation, rope, layer, start)
        cache.length = start + length
        return x
