"""What the tokenizers share, whatever their codes are: their size, and the range of their pixels."""

from __future__ import annotations

from torch import Tensor, nn


class ImageTokenizer(nn.Module):
    """Base of the autoencoders: images (B, C, H, W) to codes of N = G * G tokens, and back.

    Parameters
    ----------
    config : TokenizerConfig or VQTokenizerConfig

    Attributes
    ----------
    tokens : str
        What codes are: "bits" (B, N, K) or "index" (B, N).
    pixel_range : tuple of float
        Smallest and largest value of a pixel that goes in and comes out.
    in_chans, image_size, grid_size : int
    """

    tokens: str
    pixel_range: tuple[float, float] = (0.0, 1.0)

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.in_chans = config.in_chans
        self.image_size = config.image_size
        self.grid_size = config.grid_size

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

    def normalize(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1] as this tokenizer takes them."""
        low, high = self.pixel_range
        return images if (low, high) == (0.0, 1.0) else images * (high - low) + low

    def denormalize(self, images: Tensor) -> Tensor:
        """Pixels as this tokenizer gives them, to [0, 1]; not clamped."""
        low, high = self.pixel_range
        return images if (low, high) == (0.0, 1.0) else (images - low) / (high - low)
