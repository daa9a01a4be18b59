"""What needs no training, behind the face of a timm model: the pixels themselves, and the bits of a tokenizer.

A feature that is worth its model does better than these.   B images, C channels, S side, N tokens, K bits
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from timm.models import register_model
from torch import Tensor, nn

from .. import checkpoints
from ..models.image_tokenizer import ImageTokenizer

BASELINES = ("pixels", "bits")
TOKENIZER = str(files("bigr_features") / "assets" / "bigr_nano" / "tokenizer")


class Baseline(nn.Module):
    """A model without layers: its features are those of `forward_head`, called "head" in stores.

    Parameters
    ----------
    in_chans : int
        3 (colour) or 1 (grey).
    img_size : int
        S; images are resized to it.
    """

    num_classes = 0
    feature_info: tuple = ()

    def __init__(self, name: str, in_chans: int, img_size: int, num_features: int):
        super().__init__()
        if in_chans not in (1, 3) or img_size < 1:
            raise ValueError(
                f"{name} was asked for in_chans={in_chans} and img_size={img_size}; expected 3 or 1 channels, and 1 pixel or more."
            )
        self.in_chans, self.img_size, self.num_features = in_chans, img_size, num_features
        size, mean, std = (in_chans, img_size, img_size), (0.0,) * 3, (1.0,) * 3
        self.pretrained_cfg: dict[str, Any] = {
            "architecture": name, "input_size": size, "mean": mean, "std": std, "interpolation": "bicubic", "crop_pct": 1.0,
        }  # fmt: skip
        self.place = nn.Parameter(torch.zeros(()), requires_grad=False)  # says on which device the model is

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The features (B, D) of `forward_features`; there is no classifier."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Keep the baseline without a classifier; ValueError if one is wanted."""
        _no_classifier(self.pretrained_cfg["architecture"], num_classes)


class Pixels(Baseline):
    """Pixels in [0, 1], one after the other: (B, C S S)."""

    def __init__(self, in_chans: int = 3, img_size: int = 32):
        super().__init__("pixels", in_chans, img_size, in_chans * img_size * img_size)

    def forward_features(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Bits(Baseline):
    """Bits of a binary tokenizer as -1 and 1, (B, N K): their cosine counts equal bits.

    Parameters
    ----------
    tokenizer : ImageTokenizer
        Of the binary kind.
    """

    def __init__(self, tokenizer: ImageTokenizer):
        if tokenizer.tokens != "bits":
            raise ValueError(f"bits are those of a binary tokenizer, but a {type(tokenizer).__name__} was given, whose codes are indices.")
        super().__init__("bits", tokenizer.in_chans, tokenizer.image_size, tokenizer.grid_size**2 * tokenizer.code_dim)
        self.tokenizer = tokenizer

    def forward_features(self, x: Tensor) -> Tensor:
        return 2 * self.tokenizer.look_up(x).flatten(1).to(x.dtype) - 1


def load_bits(path: str | Path) -> Bits:
    """The baseline of a tokenizer's folder: of `bigr train-tokenizer`, finished or not, or of a whole model, whose tokenizer is taken.

    Raises
    ------
    FileNotFoundError, ValueError
        For a folder that holds none.
    """
    path = checkpoints.checked_weights(path)
    if not path.is_dir():
        raise ValueError(f"{path} is a file, but the bits baseline takes the folder of a tokenizer, such as the run of train-tokenizer.")
    folder = path / "tokenizer" if (path / "tokenizer" / "config.json").is_file() else path
    tokenizer = checkpoints.load_trained(folder)
    if not isinstance(tokenizer, ImageTokenizer):
        raise ValueError(f"{folder} holds a {type(tokenizer).__name__}, not a tokenizer.")
    return Bits(tokenizer)


@register_model
def pixels(pretrained: bool = False, in_chans: int = 3, img_size: int = 32, num_classes: int = 0, **kwargs) -> Pixels:
    """The pixels of images of 32 x 32 (or `img_size`), as features: what every model should beat."""
    _no_classifier("pixels", num_classes)
    _no_others("pixels", kwargs)
    return Pixels(in_chans, img_size)


@register_model
def bits(pretrained: bool = False, tokenizer: str | Path = TOKENIZER, num_classes: int = 0, **kwargs) -> Bits:
    """The bits of a tokenizer, as features; by default those of bigr_nano.fashion_mnist."""
    _no_classifier("bits", num_classes)
    _no_others("bits", kwargs)
    return load_bits(tokenizer)


def _no_classifier(name: str, num_classes: int) -> None:
    if num_classes:
        raise ValueError(f"{name} has no classifier, but num_classes={num_classes} was given; fit a LinearProbe to its features.")


def _no_others(name: str, kwargs: dict) -> None:
    known = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    others = [key for key in kwargs if key not in known]
    if others:
        raise TypeError(f"{name} has no argument {', '.join(others)}.")
