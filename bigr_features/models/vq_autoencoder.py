"""The tokenizer of LlamaGen (arXiv:2406.06525): a VQ autoencoder, image to codebook indices and back.

B batch, C channels, H x W pixels, N = G * G tokens row by row, E embedding channels, V codes of D channels.
As VQGAN (arXiv:2012.09841), with latents and codes of length 1 (ViT-VQGAN, arXiv:2110.04627).
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..evaluate.reconstruction import code_counts, code_perplexity, code_usage
from ..functional.checks import check_image_batch, check_indices, check_pixels
from .convolutional import Decoder, Encoder
from .image_tokenizer import ImageTokenizer
from .tokenizer_config import VQTokenizerConfig

ENTROPY_TEMPERATURE = 0.01  # of the soft choice among codes in the entropy term
_AT_ONCE = 2**26  # distances between tokens and codes held in memory at a time, 256 MiB


class Quantized(NamedTuple):
    """Latents snapped to codes, and what training wants to know of it. Each loss holds its weight already, and is a mean of float32."""

    latents: Tensor  # (B, N, D) codes, with the gradient of the latents they stand for
    indices: Tensor  # (B, N)
    codebook_loss: Tensor  # pulls codes towards latents
    commitment_loss: Tensor  # pulls latents towards codes
    entropy_loss: Tensor  # 0 without entropy_weight
    usage: Tensor  # share of the codes that this batch chose
    perplexity: Tensor  # exp of the entropy of this batch's choices: V if all codes are chosen equally often


class VectorQuantizer(nn.Module):
    """A codebook: the nearest code of each latent.

    Parameters
    ----------
    codebook_size, codebook_dim : int
        V and D.
    l2_norm : bool
        Divide latents and codes by their lengths at every use; the nearest is then the one of largest cosine.
    commitment_weight, entropy_weight : float

    Attributes
    ----------
    embedding : Parameter (V, D)
        Need not have rows of length 1.
    """

    def __init__(
        self,
        codebook_size: int,
        codebook_dim: int,
        l2_norm: bool = True,
        commitment_weight: float = 0.25,
        entropy_weight: float = 0.0,
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.codebook_size, self.l2_norm = codebook_size, l2_norm
        self.commitment_weight, self.entropy_weight = commitment_weight, entropy_weight
        _check_fits(codebook_size, codebook_dim, device)
        self.embedding = nn.Parameter(torch.empty(codebook_size, codebook_dim, device=device, dtype=dtype))
        with torch.no_grad():
            nn.init.uniform_(self.embedding, -1 / codebook_size, 1 / codebook_size)
            if l2_norm:
                self.embedding.copy_(F.normalize(self.embedding, dim=-1))

    def _scaled(self, vectors: Tensor) -> Tensor:
        """Vectors in the space in which distances are taken, float32 or better."""
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        return F.normalize(vectors, dim=-1) if self.l2_norm else vectors

    def embed(self, indices: Tensor) -> Tensor:
        """Codes (..., D) of indices."""
        return self._scaled(F.embedding(indices, self.embedding))

    def look_up(self, latents: Tensor) -> Tensor:
        """Index (B, N) of the nearest code of each latent (B, N, D); of equally near ones, the first. No gradient passes."""
        return nearest(self._scaled(latents).detach(), self._scaled(self.embedding).detach())

    @torch.jit.unused
    def forward(self, latents: Tensor) -> Quantized:
        """Snap latents (B, N, D) to their nearest codes; the gradient of what follows goes straight to the latents."""
        with torch.autocast(latents.device.type, enabled=False):
            indices = self.look_up(latents)
            latents, codes = self._scaled(latents), self.embed(indices)
            codebook_loss = (codes - latents.detach()).square().mean()
            commitment_loss = self.commitment_weight * (codes.detach() - latents).square().mean()
            entropy_loss = latents.new_zeros(())
            if self.entropy_weight:
                entropy_loss = self.entropy_weight * entropy_term(latents, self._scaled(self.embedding))
            counts = code_counts(indices, self.codebook_size)
            straight = latents + (codes - latents).detach()
        return Quantized(straight, indices, codebook_loss, commitment_loss, entropy_loss, code_usage(counts), code_perplexity(counts))


def nearest(latents: Tensor, codebook: Tensor, at_once: int = _AT_ONCE) -> Tensor:
    """Index (B, N) of the row of codebook (V, D) nearest to each latent (B, N, D), from so many tokens at a time as fit into memory."""
    if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript reads no further only so)
        if torch.jit.is_tracing() or torch.compiler.is_compiling():
            return _distances(latents, codebook).argmin(-1)
    rows = max(1, at_once // codebook.shape[0])
    found = [_distances(part, codebook).argmin(-1) for part in latents.flatten(0, -2).split(rows)]
    return torch.cat(found).view(latents.shape[:-1])


torch.fx.wrap("nearest")  # a graph of the features holds it as one call: its loop depends on the batch


def entropy_term(latents: Tensor, codebook: Tensor) -> Tensor:
    """Mean entropy of each token's soft choice, minus the entropy of the mean choice (nats): low if choices are clear and all codes used.

    Computed from so many tokens at a time that their distances fit into memory; the backward pass computes them again.
    """
    parts = latents.flatten(0, -2).split(_rows(codebook))
    entropy, total = latents.new_zeros(()), latents.new_zeros(len(codebook))
    for part in parts:
        more = checkpoint(_soft_choice, part, codebook, use_reentrant=False) if len(parts) > 1 else _soft_choice(part, codebook)
        entropy, total = entropy + more[0], total + more[1]
    count = latents[..., 0].numel()
    mean = total / count
    return entropy / count + (mean * torch.log(mean + 1e-5)).sum()


def _soft_choice(latents: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over tokens of the entropy of the soft choice among codes, and of the choice itself (V,)."""
    log_p = torch.log_softmax(-_distances(latents, codebook) / ENTROPY_TEMPERATURE, dim=-1)
    p = log_p.exp()
    return -(p * log_p).sum(), p.sum(0)


def _distances(latents: Tensor, codebook: Tensor) -> Tensor:
    """Squared distance (..., V) of latents (..., D) to codes (V, D), up to the length of the latent, which changes no choice."""
    return codebook.square().sum(-1) - 2 * latents @ codebook.T


def _rows(codebook: Tensor) -> int:
    """Tokens whose distances to all codes are held at a time."""
    return max(1, _AT_ONCE // len(codebook))


def _check_fits(codebook_size: int, codebook_dim: int, device) -> None:
    """Refuse a codebook that is larger than the memory of this machine, before anything tries to fill it."""
    if device is not None and torch.device(device).type != "cpu":
        return
    needed, memory = 4 * codebook_size * codebook_dim, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise ValueError(
            f"a codebook of {codebook_size:,} x {codebook_dim} numbers takes {needed / 2**30:,.0f} GiB, but this machine has "
            f"{memory / 2**30:,.0f} GiB of memory; give a smaller codebook_size, or a binary tokenizer: its K bits stand for 2^K codes "
            "without a codebook."
        )


class VQAutoencoder(ImageTokenizer):
    """VQ autoencoder: images in [-1, 1] to one of V codes a token, and back.

    Parameters
    ----------
    config : VQTokenizerConfig

    Attributes
    ----------
    encoder, to_latent, quantizer, from_latent, decoder
    """

    tokens = "index"
    pixel_range = (-1.0, 1.0)

    def __init__(self, config: VQTokenizerConfig, device=None, dtype=None):
        super().__init__(config)
        dd = {"device": device, "dtype": dtype}
        self.codebook_size = config.codebook_size
        self.encoder = Encoder(config, **dd)
        self.to_latent = nn.Conv2d(config.embed_dim, config.codebook_dim, 1, **dd)
        self.quantizer = VectorQuantizer(
            config.codebook_size, config.codebook_dim, config.l2_norm, config.commitment_weight, config.entropy_weight, **dd
        )
        self.from_latent = nn.Conv2d(config.codebook_dim, config.embed_dim, 1, **dd)
        self.decoder = Decoder(config, **dd)

    def drop_decoder(self) -> None:
        """Leave what encoding needs."""
        self.from_latent = self.decoder = None  # type: ignore[assignment]  # a tokenizer without one says so when it is asked to decode

    def _checked(self, images: Tensor) -> Tensor:
        if not images.is_floating_point():
            raise TypeError(
                f"images have dtype {images.dtype}; expected floats in [-1, 1]. Divide uint8 pixels by 255, then normalize() them."
            )
        return check_image_batch(images, self.in_chans, self.image_size, self.image_size)

    def latents(self, images: Tensor) -> Tensor:
        """What the codebook is asked about, (B, N, D), of images (B, C, H, W) in [-1, 1]. Looks at no pixel value."""
        images = self._checked(images)
        return self.to_latent(self.encoder(images)).flatten(2).transpose(1, 2)

    def quantize(self, images: Tensor) -> Quantized:
        """Codes of images (B, C, H, W) in [-1, 1], with losses, usage and perplexity. Looks at no pixel value."""
        return self.quantizer(self.latents(images))

    def look_up(self, images: Tensor) -> Tensor:
        """Indices (B, N) of images, unchecked: what the feature path traces."""
        return self.quantizer.look_up(self.to_latent(self.encoder(images)).flatten(2).transpose(1, 2))

    def encode(self, images: Tensor) -> Tensor:
        """Indices of images.

        Parameters
        ----------
        images : Tensor (B, C, H, W)
            Pixels in [-1, 1]; `normalize` maps those in [0, 1].

        Returns
        -------
        Tensor (B, N) of int64 in 0..V-1, tokens row by row

        Raises
        ------
        TypeError, ValueError
            For a dtype or shape that does not fit, pixels outside [-1, 1], or NaN.
        """
        check_pixels(self._checked(images), self.pixel_range)
        return self.look_up(images)

    def decode(self, indices: Tensor) -> Tensor:
        """Images (B, C, H, W) of indices (B, N); pixels are not clamped to [-1, 1].

        Raises
        ------
        TypeError, ValueError
            For another dtype or shape, or an index that no code has.
        """
        check_indices(indices, self.grid_size * self.grid_size, self.codebook_size)
        return self.decode_latents(self.quantizer.embed(indices.long()))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes (B, N, D), as `quantize` and `quantizer.embed` give them."""
        if self.decoder is None or self.from_latent is None:
            raise RuntimeError("decoding needs the decoder, but the model was built or pruned without it; use generative=True.")
        latents = latents.to(self.from_latent.weight.dtype).transpose(1, 2).unflatten(2, (self.grid_size, self.grid_size))
        return self.decoder(self.from_latent(latents))

    @torch.jit.unused
    def forward(self, images: Tensor) -> Tensor:
        """Reconstruction of images through their nearest codes."""
        return self.decode_latents(self.quantize(images).latents)
