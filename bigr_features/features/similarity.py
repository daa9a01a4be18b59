"""Which tokens of two images are alike: cosines of every token of one with every token of the other.

H x W grid of tokens, D width, N = H W
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional.inference import evaluating
from .readout import check_inputs, layer_count


@dataclass(frozen=True)
class TokenSimilarity:
    """Tokens of one image (H, W) compared with those of another (H', W').

    matrix : float32 (H W, H' W'), cosines; symmetric for two identical images.
    first : (H, W), the cosine of each token with the most similar one of the other image.
    second : (H', W'), the same of the other image.
    """

    matrix: np.ndarray
    first: np.ndarray
    second: np.ndarray


@torch.inference_mode()
def token_grid(model: nn.Module, images: Tensor, layer: int = -1) -> Tensor:
    """Tokens of a layer where they lie in the image, float32 (B, D, H, W), of any timm model with a token grid or a feature map.

    Parameters
    ----------
    model : timm model
    images : Tensor (B, C, H, W)
        As its own transform gives them.
    layer : int
        0-based, negative from the end.

    Raises
    ------
    ValueError
        For a model without `forward_intermediates`, a layer that it does not have, or one whose output is no grid.
    """
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(f"{type(model).__name__} has no forward_intermediates; give a timm model, created without features_only=True.")
    depth = layer_count(model)
    if not -depth <= layer < depth:
        raise ValueError(f"layer {layer} is out of range; the model has layers 0..{depth - 1}.")
    check_inputs(images, model)
    parameter = next(model.parameters())
    with evaluating(model):
        (grid,) = model.forward_intermediates(
            images.to(parameter.device, parameter.dtype), indices=[layer % depth], intermediates_only=True
        )
    if grid.dim() != 4:
        raise ValueError(f"layer {layer} of {type(model).__name__} gives shape {list(grid.shape)}; expected a grid (B, D, H, W).")
    return grid.float()


def token_similarity(first: Tensor, second: Tensor) -> TokenSimilarity:
    """Compare the tokens (D, H, W) of one image with those (D, H', W') of another; ValueError for another width."""
    if first.dim() != 3 or second.dim() != 3 or len(first) != len(second):
        raise ValueError(f"tokens have shapes {list(first.shape)} and {list(second.shape)}; expected (D, H, W) with the same D.")
    tokens = [F.normalize(grid.flatten(1).T.float(), dim=1) for grid in (first, second)]  # (N, D)
    matrix = tokens[0] @ tokens[1].T  # (N, N')
    best = matrix.amax(1).reshape(first.shape[1:]), matrix.amax(0).reshape(second.shape[1:])
    return TokenSimilarity(matrix.cpu().numpy(), *(one.cpu().numpy() for one in best))
