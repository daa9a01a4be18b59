"""What the trunk of bigr_nano's size is trained for when it is not a generator: pixels of hidden patches, agreement of two views, classes.

Each objective is a module that gives the loss of one batch; `encoder` is the trunk, a timm ViT without class token.
B images, C channels, S side, N patches, V visible ones, P = pixels of a patch, D width
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


class MaskedAutoencoder(nn.Module):
    """Masked autoencoder of He et al. (arXiv:2111.06377): 75 % of patches hidden, the encoder sees the others, a light decoder the rest."""

    views = 1

    def __init__(self, encoder: nn.Module, decoder_width: int = 96, decoder_depth: int = 2, num_heads: int = 4, mask_ratio: float = 0.75):
        from timm.models.vision_transformer import Block

        super().__init__()
        self.encoder = encoder
        self.mask_ratio = mask_ratio
        self.patch = encoder.patch_embed.patch_size[0]
        num_patches = encoder.patch_embed.num_patches
        self.to_decoder = nn.Linear(encoder.embed_dim, decoder_width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder_width) * 0.02)
        self.decoder_position = nn.Parameter(torch.randn(1, num_patches, decoder_width) * 0.02)
        self.decoder = nn.Sequential(*(Block(decoder_width, num_heads) for _ in range(decoder_depth)), nn.LayerNorm(decoder_width))
        self.to_pixels = nn.Linear(decoder_width, encoder.in_chans * self.patch**2)

    def forward(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the hidden patches' normalised pixels; images (B, C, S, S), already normalised for the encoder."""
        encoder = self.encoder
        x = encoder.patch_embed(images) + encoder.pos_embed  # (B, N, D)
        batch, patches, _ = x.shape
        order = torch.rand(batch, patches, generator=generator).argsort(1)
        visible = order[:, : patches - round(self.mask_ratio * patches)]  # (B, V)
        x = encoder.norm(encoder.blocks(x.gather(1, visible[..., None].expand(-1, -1, x.shape[2]))))
        x = self.to_decoder(x)
        full = self.mask_token.to(x.dtype).repeat(batch, patches, 1).scatter(1, visible[..., None].expand(-1, -1, x.shape[2]), x)
        predicted = self.to_pixels(self.decoder(full + self.decoder_position)).float()  # (B, N, P)
        target = self.patches(images)
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        hidden = torch.ones(batch, patches).scatter(1, visible, 0.0)
        return ((predicted - target).square().mean(-1) * hidden).sum() / hidden.sum()

    def patches(self, images: Tensor) -> Tensor:
        """Pixels of each patch, (B, N, P)."""
        return nn.functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2)


class Contrastive(nn.Module):
    """SimCLR (arXiv:2002.05709) by `lightly`: its transform, projection head and loss; images 2 i and 2 i + 1 are views of one."""

    views = 2

    def __init__(self, encoder: nn.Module, temperature: float = 0.5, hidden: int = 512, dimensions: int = 128):
        lightly = _lightly()
        super().__init__()
        self.encoder = encoder
        self.head = lightly.models.modules.SimCLRProjectionHead(encoder.embed_dim, hidden, dimensions)
        self.criterion = lightly.loss.NTXentLoss(temperature)

    def forward(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """NT-Xent loss of B / 2 pairs of views (B, C, S, S)."""
        embeddings = self.head(self.encoder(images)).float()
        return self.criterion(embeddings[0::2], embeddings[1::2])


class Supervised(nn.Module):
    """Cross-entropy of the classes, by a linear layer on the averaged tokens: what the trunk can reach with labels, as a ceiling."""

    views = 1

    def __init__(self, encoder: nn.Module, num_classes: int):
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.embed_dim, num_classes)

    def forward(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of labels (B,)."""
        return nn.functional.cross_entropy(self.head(self.encoder(images)).float(), labels)


METHODS: dict[str, Callable[[nn.Module, int], nn.Module]] = {
    "mae": lambda encoder, classes: MaskedAutoencoder(encoder),
    "simclr": lambda encoder, classes: Contrastive(encoder),
    "supervised": Supervised,
}


def views_for(method: str, size: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """The augmentation of a method: from one image (S, S, C) and a generator to its views (views, S, S, C), uint8.

    Flips for the masked autoencoder, random crops and flips for classes, SimCLR's own transform (without blur, as for 32 x 32).
    """
    if method == "simclr":
        return _simclr_views(size)

    def flipped(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return (image[:, ::-1] if random.random() < 0.5 else image)[None]

    def cropped(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        top, left = random.integers(0, 9, 2)
        return flipped(padded[top : top + size, left : left + size], random)

    return cropped if method == "supervised" else flipped


def _simclr_views(size: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    from PIL import Image

    transform = _lightly().transforms.SimCLRTransform(input_size=size, gaussian_blur=0.0, normalize=None)

    def drawn(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        pictures = transform(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB"))
        return np.stack([(255 * view).round().byte().permute(1, 2, 0).numpy() for view in pictures])

    return drawn


def _lightly():
    try:
        import lightly
        import lightly.loss
        import lightly.models.modules
        import lightly.transforms
    except ImportError as error:
        raise ImportError('simclr needs lightly; install it with pip install "bigr_features[peers]".') from error
    return lightly
