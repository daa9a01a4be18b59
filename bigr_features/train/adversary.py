"""The discriminator of tokenizer training, PatchGAN, and its differentiable augmentation.   B images, C channels, H x W pixels"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .losses import adaptive_weight, hinge_discriminator_loss, hinge_generator_loss
from .optimizer import build_optimizer


class PatchDiscriminator(nn.Module):
    """Convolutions to one logit for each patch (pix2pix, arXiv:1611.07004), with group norm, which keeps no running statistics.

    Parameters
    ----------
    in_chans : int
    width : int
        Channels of the first layer; they double with each of the `depth` halvings, up to eightfold.
    depth : int
        Halvings of the resolution.
    """

    def __init__(self, in_chans: int = 3, width: int = 64, depth: int = 3):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_chans, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for level in range(1, depth + 1):
            out = width * min(2**level, 8)
            stride = 2 if level < depth else 1
            layers += [nn.Conv2d(channels, out, 4, stride, padding=1, bias=False), nn.GroupNorm(8, out), nn.LeakyReLU(0.2)]
            channels = out
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, padding=1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1, h, w) of images (B, C, H, W) in [0, 1]: high for real patches."""
        return self.layers(2 * images - 1)


def augment(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Differentiable augmentation (arXiv:2006.10738): brightness, saturation, contrast, a shift by up to 1/8, a hole of half the side."""
    batch, _, height, width = images.shape

    def uniform(*shape: int) -> Tensor:
        device = generator.device if generator is not None else images.device
        return torch.rand(shape, generator=generator, device=device).to(images.device)

    images = images + uniform(batch, 1, 1, 1) - 0.5
    gray = images.mean(1, keepdim=True)
    images = (images - gray) * (uniform(batch, 1, 1, 1) * 2) + gray
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * (uniform(batch, 1, 1, 1) + 0.5) + mean

    down, right = height // 8, width // 8
    rows = torch.arange(height, device=images.device)[None, :, None]
    columns = torch.arange(width, device=images.device)[None, None, :]
    shift_y = (uniform(batch, 1, 1) * (2 * down + 1)).long()  # 0..2 down, of an image with a margin of zeros
    shift_x = (uniform(batch, 1, 1) * (2 * right + 1)).long()
    padded = F.pad(images, (right, right, down, down)).permute(0, 2, 3, 1)
    which = torch.arange(batch, device=images.device)[:, None, None]
    images = padded[which, rows + shift_y, columns + shift_x].permute(0, 3, 1, 2)

    top = (uniform(batch, 1, 1) * (height + 1)).long() - height // 4
    left = (uniform(batch, 1, 1) * (width + 1)).long() - width // 4
    hole = (rows >= top) & (rows < top + height // 2) & (columns >= left) & (columns < left + width // 2)
    return images * ~hole[:, None]


class Adversary:
    """Discriminator and optimiser of a tokenizer training.

    Parameters
    ----------
    config : TrainTokenizerConfig
    accelerator : accelerate.Accelerator
    """

    def __init__(self, config, accelerator):
        self.weight, self.accelerator = config.adversarial_weight, accelerator
        self.model = PatchDiscriminator(config.model.in_chans, config.discriminator_width, config.discriminator_depth)
        self.model.to(accelerator.device, memory_format=torch.channels_last)
        self.module = accelerator.prepare(self.model)
        self.optimizer = build_optimizer(self.model, config.discriminator_learning_rate, config.weight_decay)

    def fool(self, reconstruction: Tensor, loss: Tensor, last_weight: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The term that rewards reconstructions taken for real ones, and its weight."""
        self.model.requires_grad_(False)
        term = hinge_generator_loss(self.model(augment(reconstruction, generator)))
        self.model.requires_grad_(True)
        return {"adversarial": term, "adversarial_weight": self.weight * adaptive_weight(loss, term, last_weight)}

    def backward(self, images: Tensor, reconstruction: Tensor, generator: torch.Generator, pieces: int) -> Tensor:
        """Gradient of the discriminator on one micro-batch; returns its loss."""
        scores = self.module(augment(torch.cat([images, reconstruction]), generator))
        loss = hinge_discriminator_loss(*scores.chunk(2))
        self.accelerator.backward(loss / pieces)
        return loss

    def step(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, values: dict) -> None:
        self.model.load_state_dict(values["model"])
        self.optimizer.load_state_dict(values["optimizer"])
