"""BiGR written down from the paper (arXiv:2410.14672) in plain PyTorch: what the library's own speed is measured against.

Neither fast nor slow on purpose: rotary pairs by cosines and sines, norms and modulations one after the other, torch's own attention, the
transcoder on all tokens in training and sampling, as the public code does. Parameters have the library's names: the same weights fit.
B batch, N = G * G tokens, K bits, D width
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bigr_features.functional.bernoulli import keep_probabilities, sampling_timesteps
from bigr_features.functional.schedules import reveal_counts
from bigr_features.models.config import GeneratorConfig


class Norm(nn.Module):
    def __init__(self, width: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(turned(q, *angles), turned(k, *angles), v)
        return self.proj(x.transpose(1, 2).reshape(batch, length, width))


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2).type_as(x)


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.attention_norm = Norm(config.width, config.norm_eps)
        self.attention = Attention(config.width, config.num_heads)
        self.feed_forward_norm = Norm(config.width, config.norm_eps)
        self.feed_forward = FeedForward(config.width, config.ffn_width)
        self.modulation_offset = nn.Parameter(torch.zeros(1, 1, 6, config.width))

    def forward(self, x: Tensor, modulation: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.modulation_offset).unbind(2)
        x = x + gate1 * self.attention(self.attention_norm(x) * (1 + scale1) + shift1, angles)
        return x + gate2 * self.feed_forward(self.feed_forward_norm(x) * (1 + scale2) + shift2)


class DenoiserBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.modulation, self.fc1, self.fc2 = nn.Linear(width, 3 * width), nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(condition).chunk(3, -1)
        hidden = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return x + gate * self.fc2(F.silu(self.fc1(hidden)))


class TimeEmbedding(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(256, width), nn.Linear(width, width)

    def forward(self, timesteps: Tensor) -> Tensor:
        frequency = 10000 ** (-torch.arange(128) / 128)
        angle = (timesteps - 1)[:, None] * frequency
        return self.fc2(F.silu(self.fc1(torch.cat([angle.cos(), angle.sin()], -1))))


class Denoiser(nn.Module):
    def __init__(self, config: GeneratorConfig):
        super().__init__()
        width = config.denoiser_width
        self.code_embedding = nn.Linear(config.code_dim, width)
        self.condition_embedding = nn.Linear(config.width, width)
        self.time_embedding = TimeEmbedding(width)
        self.blocks = nn.ModuleList(DenoiserBlock(width) for _ in range(config.denoiser_depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, config.code_dim)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        embedding = F.silu(self.condition_embedding(condition) + self.time_embedding(timesteps))
        x = self.code_embedding(2 * noisy - 1)
        for block in self.blocks:
            x = block(x, embedding)
        shift, scale = self.modulation(embedding).chunk(2, -1)
        return self.head(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class PlainBiGR(nn.Module):
    """The generator: bits, masked trunk with adaLN, Bernoulli transcoder with flip prediction."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        width = config.width
        parts = {"embedding": nn.Module(), "trunk": nn.Module(), "transcoder": nn.Module()}
        for name, part in parts.items():
            self.add_module(name, part)
        self.embedding.proj = nn.Linear(config.code_dim, width)
        self.embedding.mask_embedding = nn.Parameter(torch.zeros(1, width))
        self.class_embedding = nn.Embedding(config.num_classes + 1, width)
        self.input_position_embedding = nn.Parameter(torch.zeros(1, config.num_tokens, width)) if config.input_positions else None
        self.position_embedding = nn.Parameter(torch.zeros(1, config.num_tokens, width))
        self.trunk.modulation = nn.Module()
        self.trunk.modulation.proj = nn.Linear(width, 6 * width)
        self.trunk.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.trunk.norm = Norm(width, config.norm_eps)
        self.transcoder.denoiser = Denoiser(config)
        self.alpha_bar = keep_probabilities(config.num_timesteps, config.noise_schedule).float()

    def angles(self) -> tuple[Tensor, Tensor]:
        half = self.config.width // self.config.num_heads // 2
        frequency = self.config.rope_base ** -(torch.arange(0, half, 2) / half)
        line = torch.outer(torch.arange(self.config.grid_size), frequency)
        side = self.config.grid_size
        angle = torch.cat([line[:, None].expand(side, side, -1), line[None].expand(side, side, -1)], -1).flatten(0, 1)
        none = torch.zeros(self.config.num_cond_tokens, half)
        return torch.cat([none, angle.cos()]), torch.cat([none, angle.sin()])

    def hidden(self, codes: Tensor, labels: Tensor, mask: Tensor | None = None, depth: int | None = None) -> Tensor:
        """Residual stream (B, N, D) after `depth` blocks."""
        x = self.embedding.proj(codes)
        if mask is not None:
            x = torch.where(mask[..., None], self.embedding.mask_embedding, x)
        if self.input_position_embedding is not None:
            x = x + self.input_position_embedding
        vector = self.class_embedding(labels)[:, None]
        x = torch.cat([vector.expand(-1, self.config.num_cond_tokens, -1), x], 1)
        modulation = self.trunk.modulation.proj(F.silu(vector)).unflatten(-1, (6, -1))
        angles = self.angles()
        for block in self.trunk.blocks[:depth]:
            x = block(x, modulation, angles)
        return x[:, self.config.num_cond_tokens :]

    def condition(self, codes: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        return self.trunk.norm(self.hidden(codes, labels, mask)) + self.position_embedding

    def loss(self, codes: Tensor, labels: Tensor, mask: Tensor, timesteps: Tensor, noisy: Tensor) -> Tensor:
        """Weighted cross-entropy of the hidden tokens' flips; the transcoder runs on all tokens."""
        condition = self.condition(codes, labels, mask).flatten(0, 1)
        logits = self.transcoder.denoiser(noisy.flatten(0, 1), timesteps.flatten(), condition)
        flips = (codes - noisy).abs().flatten(0, 1)
        ones = flips.mean(-1, keepdim=True)
        weight = (1 - ones) * flips + ones * (1 - flips) + 1 / self.config.code_dim
        per_bit = F.binary_cross_entropy_with_logits(logits.float(), flips, reduction="none") * weight
        return per_bit[mask.flatten()].mean()

    @torch.no_grad()
    def sample(self, labels: Tensor, reveal_steps: int, denoise_steps: int, scale: float) -> Tensor:
        """Entropy-ordered sampling with guidance; both branches in one batch, the transcoder on all tokens."""
        config, batch = self.config, len(labels)
        codes = torch.zeros(batch, config.num_tokens, config.code_dim)
        mask = torch.ones(batch, config.num_tokens, dtype=torch.bool)
        both = torch.cat([labels, torch.full_like(labels, config.null_class)])
        visited = sampling_timesteps(denoise_steps, config.num_timesteps)
        for count in reveal_counts(config.num_tokens, reveal_steps, "cosine"):
            if not count:
                continue
            condition = self.condition(codes.repeat(2, 1, 1), both, mask.repeat(2, 1)).flatten(0, 1)
            bits = torch.bernoulli(torch.full((batch * config.num_tokens, config.code_dim), 0.5))
            for i, t in enumerate(visited):
                logits = self.transcoder.denoiser(bits.repeat(2, 1), torch.full((len(condition),), t), condition)
                with_class, without = logits.chunk(2)
                flip = torch.sigmoid(without + scale * (with_class - without))
                clean = bits * (1 - flip) + (1 - bits) * flip
                if i + 1 < len(visited):
                    before, step = self.alpha_bar[visited[i + 1]], self.alpha_bar[t] / self.alpha_bar[visited[i + 1]]
                    bits = torch.bernoulli(self.reverse(bits, clean, before, step))
            confidence = (2 * clean - 1).abs().mean(-1).view(batch, -1).masked_fill(~mask, -1)
            chosen = torch.zeros_like(mask).scatter(1, confidence.topk(count, 1).indices, True)
            codes = torch.where(chosen[..., None], torch.bernoulli(clean).view_as(codes), codes)
            mask = mask & ~chosen
        return codes

    @staticmethod
    def reverse(bits: Tensor, clean: Tensor, before: Tensor, step: Tensor) -> Tensor:
        """P(z_s = 1 | z_t, z_0) by Bayes, with the predicted probability in place of z_0."""
        prior = clean * before + (1 - before) / 2
        evidence = bits * step + (1 - step) / 2
        joint = prior * evidence
        return joint / (joint + (1 - prior) * (1 - evidence) + 1e-6)
