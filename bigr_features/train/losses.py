"""Terms of the tokenizer's loss.   B images, C channels, H x W pixels, N tokens, K bits"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checkpoints import read_checkpoint
from ..evaluate.reconstruction import binary_entropy

_VGG16_TAPS = (3, 8, 15, 22, 29)  # the last activation before each pooling
_VGG16_FILE = "vgg16-397923af.pth"


def reconstruction_loss(images: Tensor, reconstructions: Tensor, l1_weight: float, l2_weight: float) -> Tensor:
    """Weighted sum of mean absolute and mean squared error."""
    error = reconstructions.float() - images
    return l1_weight * error.abs().mean() + l2_weight * error.square().mean()


def entropy_loss(probabilities: Tensor) -> Tensor:
    """1 minus the entropy, in bits, of each bit's mean probability (B, N, K) over the batch: 0 when each is 1 half of the time."""
    return 1 - binary_entropy(probabilities.flatten(0, -2).mean(0)).mean()


def commitment_loss(probabilities: Tensor) -> Tensor:
    """Mean variance p (1 - p) of the bits: 0 when every probability is 0 or 1."""
    return (probabilities * (1 - probabilities)).mean()


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Half of E[max(0, 1 - real)] + E[max(0, 1 + fake)]."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """-E[fake]."""
    return -fake.mean()


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last_weight: Tensor, most: float = 1.0) -> Tensor:
    """Factor that gives the adversarial term's gradient at the decoder's last layer the norm of the other terms' (VQGAN, arXiv:2012.09841).

    Capped at `most`, and constant in the backward pass.
    """
    from_reconstruction = torch.autograd.grad(reconstruction, last_weight, retain_graph=True)[0]
    from_adversarial = torch.autograd.grad(adversarial, last_weight, retain_graph=True)[0]
    return (from_reconstruction.norm() / (from_adversarial.norm() + 1e-4)).clamp(0, most).detach()


class PerceptualLoss(nn.Module):
    """Distance of channel-normalised VGG16 activations at five depths (as LPIPS, arXiv:1801.03924, with equal weights).

    Parameters
    ----------
    weights : str or Path
        File of torchvision's ImageNet weights; "vgg16" looks for it where torch.hub keeps its downloads.

    Raises
    ------
    FileNotFoundError
        If the weights are not there. Nothing is downloaded.
    """

    def __init__(self, weights: str | Path = "vgg16"):
        super().__init__()
        try:
            from torchvision.models.vgg import cfgs, make_layers
        except ImportError as error:
            raise ImportError("the perceptual loss needs torchvision: pip install torchvision") from error
        path = Path(torch.hub.get_dir()) / "checkpoints" / _VGG16_FILE if str(weights) == "vgg16" else Path(weights)
        if not path.is_file():
            raise FileNotFoundError(
                f"the perceptual loss needs the weights of torchvision's VGG16, but there is no {path}; "
                "put them there (torchvision.models.vgg16(weights='DEFAULT') downloads them), give their path, or use --perceptual off."
            )
        layers = make_layers(cfgs["D"])
        state = read_checkpoint(path)
        layers.load_state_dict({key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")})
        self.features = layers[: _VGG16_TAPS[-1] + 1].eval().requires_grad_(False)
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> PerceptualLoss:
        return super().train(False)

    def forward(self, images: Tensor, reconstructions: Tensor) -> Tensor:
        """Mean distance of two batches (B, 1 or 3, H, W) in [0, 1]."""
        x = torch.cat([images, reconstructions]).expand(-1, 3, -1, -1)
        x, distance = (x - self.mean) / self.std, 0.0
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in _VGG16_TAPS:
                real, fake = F.normalize(x, dim=1, eps=1e-6).chunk(2)
                distance = distance + (real - fake).square().sum(1).mean()
            if min(x.shape[2:]) < 2:  # images too small for what comes next
                break
        return distance
