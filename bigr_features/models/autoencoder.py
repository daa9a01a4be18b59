"""The tokenizer: a binary autoencoder (B-AE), image to bits and back.

B batch, C channels, H x W pixels or positions, N = G * G tokens row by row, K bits, E embedding channels.
Binary Latent Diffusion (arXiv:2304.04820), as BiGR (arXiv:2410.14672) uses it. Blocks are numbered through as in official files;
no activation stands between the last norm and the last convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..functional import bernoulli
from ..functional.checks import check_codes, check_image_batch, check_pixels
from .convolutional import Decoder, Encoder
from .image_tokenizer import ImageTokenizer
from .tokenizer_config import TokenizerConfig


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


class BinaryAutoencoder(ImageTokenizer):
    """Binary autoencoder: images in [0, 1] to K bits a token, and back.

    Parameters
    ----------
    config : TokenizerConfig

    Attributes
    ----------
    encoder, quantizer, decoder
    """

    tokens = "bits"

    def __init__(self, config: TokenizerConfig, device=None, dtype=None):
        super().__init__(config)
        dd = {"device": device, "dtype": dtype}
        self.code_dim = config.code_dim
        self.encoder = Encoder(config, **dd)
        self.quantizer = BinaryQuantizer(config, **dd)
        self.decoder = Decoder(config, **dd)

    def drop_decoder(self) -> None:
        """Leave what encoding needs."""
        self.decoder = None  # type: ignore[assignment]  # a tokenizer without one says so when it is asked to decode
        self.quantizer.embedding = None

    def bit_probabilities(self, images: Tensor) -> Tensor:
        """Probability (B, N, K) that each bit is 1, for images (B, C, H, W) in [0, 1]; float32 or better. Looks at no pixel value."""
        images = check_image_batch(images, self.in_chans, self.image_size, self.image_size)
        return self._probabilities(images)

    def _probabilities(self, images: Tensor) -> Tensor:
        dtype = torch.promote_types(self.quantizer.proj.weight.dtype, torch.float32)
        return torch.sigmoid(self.quantizer(self.encoder(images)).to(dtype))

    def look_up(self, images: Tensor) -> Tensor:
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
            return self.look_up(images)
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
        return self._decode(self.look_up(images))
