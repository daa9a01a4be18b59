"""Images as a model takes them.   n images, C channels, H x W pixels"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.modes import upright
from ..data.pixels import THIN, without_ends


def input_channels(model: nn.Module) -> int:
    """Channels of the images that a model takes: `in_chans` if it has that, else those of its first convolution."""
    if hasattr(model, "in_chans"):
        return model.in_chans
    cfg = getattr(model, "pretrained_cfg", None) or {}
    first = cfg.get("first_conv")
    name = first[0] if isinstance(first, list | tuple) else first
    module = dict(model.named_modules()).get(name) if name else None
    return getattr(module, "in_channels", None) or cfg.get("input_size", (3,))[0]


def preprocessing_of(model: nn.Module, image_size: int | None = None, crop_pct: float | None = None) -> dict:
    """How a model wants its images: its own timm data configuration, resolved. Stores and galleries are told apart by it.

    Parameters
    ----------
    model : timm model
    image_size : int, optional
        Side in pixels of its inputs, for models that take any size; the model's own by default.
    crop_pct : float, optional
        Share of a picture's side that the central crop leaves, 1 for all; the model's own by default.

    Returns
    -------
    dict
        input_size [C, H, W], interpolation, mean, std, crop_pct and crop_mode as `timm.data.create_transform` takes them, and the Pillow
        mode of the images, "RGB" or "L". Equal to itself after a round trip through JSON.

    Raises
    ------
    ValueError
        For a model that takes neither 3 channels nor 1, or a BiGR model of another image size.
    """
    from timm.data import resolve_data_config

    config = resolve_data_config(model=model)
    channels = input_channels(model)
    if channels not in (1, 3):
        raise ValueError(f"the model takes {channels} channels; images on disk have 1 or 3, so make its input tensors yourself.")
    own = getattr(model, "img_size", None) or getattr(getattr(model, "patch_embed", None), "img_size", None)
    sides = config["input_size"][1:] if own is None else own
    sides = (sides, sides) if isinstance(sides, int) else tuple(sides)
    if image_size is not None:
        if own is not None and sides != (image_size, image_size):
            _check_other_size(model, image_size, sides)
        sides = (image_size, image_size)
    if crop_pct is not None:
        config.update(crop_pct=crop_pct)
    config.update(input_size=(channels, *sides), mean=config["mean"][:channels], std=config["std"][:channels])
    plain = {key: list(value) if isinstance(value, tuple | list) else value for key, value in config.items()}
    return plain | {"mode": "L" if channels == 1 else "RGB"}


def image_transform(model: nn.Module, image_size: int | None = None, crop_pct: float | None = None) -> tuple[Preparation, str]:
    """The evaluation transform that `preprocessing_of` describes, and the Pillow mode of the images it takes.

    Parameters
    ----------
    model, image_size, crop_pct : as `preprocessing_of`

    Returns
    -------
    transform : Preparation, from a Pillow image to a float32 Tensor (C, H, W); for BiGR models pixels in [0, 1]
    mode : "RGB" or "L"
    """
    described = preprocessing_of(model, image_size, crop_pct)
    return Preparation(described), described["mode"]


class Preparation:
    """A model's transform in two steps: what has to be done picture by picture, and what is done to a whole batch at once.

    Both together are timm's own transform, bit for bit.

    Parameters
    ----------
    described : dict
        As `preprocessing_of` gives it.
    """

    def __init__(self, described: dict):
        from timm.data import create_transform

        config = {key: tuple(value) if isinstance(value, list) else value for key, value in described.items() if key != "mode"}
        _, *sides = config["input_size"]
        self._text = repr(create_transform(**config))
        self._cut = create_transform(**config, use_prefetcher=True)  # stops where timm's own loader takes over: at uint8 pixels
        # of thin pictures the middle alone is enlarged, if only that is kept
        self._ratio = THIN * max(sides) / min(sides) if config.get("crop_mode") in (None, "center") else math.inf
        self._mean, self._std = (np.array(config[key], dtype=np.float32).reshape(-1, 1, 1) for key in ("mean", "std"))

    def pixels(self, image: Image.Image) -> Tensor:
        """uint8 pixels (C, H, W) of a picture of the right mode: resized and cut."""
        return self._cut(without_ends(image, self._ratio))

    def stack(self, pixels: Sequence[Tensor]) -> Tensor:
        """The batch (n, C, H, W), float32 and normalised, of the pixels of n pictures; in NumPy, which takes no core from the model."""
        values = torch.stack(tuple(pixels)).numpy().astype(np.float32)
        values /= np.float32(255)
        values -= self._mean
        values /= self._std
        return torch.from_numpy(values)

    def __call__(self, image: Image.Image) -> Tensor:
        return self.stack([self.pixels(image)])[0]

    def __repr__(self) -> str:
        return self._text


def _check_other_size(model: nn.Module, image_size: int, sides: tuple[int, int]) -> None:
    """Raise ValueError if a model cannot take images of another size than its own, or not of this one."""
    embed = getattr(model, "patch_embed", None)
    if not getattr(model, "dynamic_img_size", getattr(embed, "dynamic_img_size", False)) and getattr(embed, "strict_img_size", True):
        raise ValueError(
            f"image_size={image_size}, but this model was built for {sides[0]} x {sides[1]}; create it with img_size={image_size}, or with "
            "dynamic_img_size=True if it has that."
        )
    patch = getattr(embed, "patch_size", None)
    if patch is not None and not getattr(embed, "dynamic_img_pad", False):
        patch = max(patch) if isinstance(patch, tuple | list) else patch
        if image_size < 1 or image_size % patch:
            raise ValueError(f"image_size={image_size} is no multiple of the model's patches of {patch} pixels; give one.")


def model_inputs(images: np.ndarray, model: nn.Module) -> Tensor:
    """Images as the model takes them, by the preprocessing of its own timm data configuration.

    Parameters
    ----------
    images : uint8 array (n, H, W) or (n, H, W, 3)
    model : timm model

    Returns
    -------
    Tensor (n, C, H', W'), float32; for BiGR models pixels in [0, 1]

    Raises
    ------
    TypeError, ValueError
        For another dtype or shape.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images have dtype {images.dtype}; expected uint8 pixels, 0..255.")
    if images.ndim not in (3, 4) or len(images) == 0 or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(f"images have shape {images.shape}; expected (n, height, width) or (n, height, width, 3) with n of 1 or more.")
    transform, mode = image_transform(model)
    return transform.stack([transform.pixels(Image.fromarray(image).convert(mode)) for image in images])


def pictures_as_inputs(pictures: Sequence[Image.Image], model: nn.Module) -> Tensor:
    """Pillow images of any mode and size as the model takes them, (n, C, H, W); TypeError for anything else."""
    wrong = next((picture for picture in pictures if not isinstance(picture, Image.Image)), None)
    if wrong is not None or not len(pictures):
        what = f"one is a {type(wrong).__name__}" if wrong is not None else "there are none"
        raise TypeError(f"images are a {type(pictures).__name__} of which {what}; give a Tensor (n, C, H, W) or Pillow images.")
    transform, mode = image_transform(model)
    return transform.stack([transform.pixels(upright(picture).convert(mode)) for picture in pictures])
