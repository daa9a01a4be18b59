"""Pooled features of intermediate layers.   n images, C channels, H x W pixels, D width"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from .checks import check_image_batch, check_pixels
from .models.generator import resolve_layers
from .models.modes import evaluating


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
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise TypeError(f"images have dtype {images.dtype}; expected uint8 pixels, 0..255.")
    if images.ndim not in (3, 4) or len(images) == 0 or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(f"images have shape {images.shape}; expected (n, height, width) or (n, height, width, 3) with n of 1 or more.")
    config = resolve_data_config(model=model)
    channels = getattr(model, "in_chans", config["input_size"][0])
    if channels not in (1, 3):
        raise ValueError(f"the model takes {channels} channels; images on disk have 1 or 3, so make its input tensors yourself.")
    side = getattr(model, "img_size", config["input_size"][-1])
    config.update(input_size=(channels, side, side), mean=config["mean"][:channels], std=config["std"][:channels])
    transform = create_transform(**config)
    mode = "L" if channels == 1 else "RGB"
    return torch.stack([transform(Image.fromarray(image).convert(mode)) for image in images])


@torch.no_grad()
def extract_features(
    model: nn.Module,
    images: Tensor,
    *,
    layers: list[int] | int | None = None,
    batch_size: int = 256,
    progress: bool = True,
) -> dict[int, np.ndarray]:
    """Average-pooled features after several blocks, in one pass; the model's mode and device are kept.

    Parameters
    ----------
    model : BiGRBackbone
    images : Tensor (n, C, H, W)
        Pixels in [0, 1]; checked once for the whole call.
    layers : list of int, int or None
        0-based blocks, negative from the end; all by default.
    batch_size : int
        Images a forward pass.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict of 0-based layer to float32 array (n, D)

    Raises
    ------
    TypeError, ValueError
        For images of another dtype, shape or range, NaN, or a layer out of range.
    """
    from tqdm import tqdm

    blocks = resolve_layers(layers, len(model.generator.trunk.blocks))
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected 1 or more.")
    check_image_batch(images, model.in_chans, model.img_size, model.img_size)
    check_pixels(images)
    weight = model.generator.class_embedding.weight
    pooled: dict[int, list[np.ndarray]] = {layer: [] for layer in blocks}
    with evaluating(model), tqdm(total=len(images), unit="image", desc="features", disable=not progress) as bar:
        for batch in images.split(batch_size):
            batch = batch.to(weight.device, weight.dtype)
            tokens = model.forward_intermediates(batch, indices=blocks, output_fmt="NLC", intermediates_only=True)
            for layer, stream in zip(blocks, tokens, strict=True):
                pooled[layer].append(stream.float().mean(1).cpu().numpy())
            bar.update(len(batch))
    return {layer: np.concatenate(parts) for layer, parts in pooled.items()}
