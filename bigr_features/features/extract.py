"""Pooled features of a model's layers, for images in memory.   n images, C channels, H x W pixels, D width"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..functional.inference import evaluating
from ..functional.packing import unpack_bits
from ..functional.pooling import feature_name
from ..functional.progress import progress as progress_of
from .inputs import pictures_as_inputs
from .int8 import Computing, precision_of_call
from .readout import Readout, check_condition, check_inputs, read_out


@torch.no_grad()
def extract_features(
    model: nn.Module,
    images: Tensor | Sequence[Image.Image],
    *,
    layers: Sequence[int | str] | int | str | None = None,
    pooling: str | Sequence[str] = "mean",
    bits: bool = False,
    mask_ratio: float = 0.0,
    labels: Tensor | np.ndarray | int | None = None,
    sample_bits: bool = False,
    seed: int = 0,
    item_seeds: np.ndarray | None = None,
    dtype: str = "fp32",
    batch_size: int = 256,
    progress: bool = True,
) -> dict[int | str, np.ndarray]:
    """Pooled features after several layers, in one pass; the model's mode and device are kept.

    Parameters
    ----------
    model : timm model
        BiGR or any other with `forward_intermediates`. Layers are read as that gives them: the residual stream without a final
        norm, or feature maps.
    images : Tensor (n, C, H, W), or sequence of Pillow images
        Pillow images of any mode and size are turned upright and go through the model's own transform. Tensors are checked once for the
        whole call: finite, for BiGR in [0, 1]; for other models normalised as `model_inputs` does.
    layers : int, str, sequence of these, or None
        0-based, negative from the end; all by default. "head" is what the model gives its classifier;
        "5.attention" and "5.ffn" are taps inside block 5: what attention gives, before it
        is gated and added, and the hidden features of the feed-forward.
    pooling : str or sequence of str
        "mean", "cls", "max", "concat", "quarters", "tokens"; see `pooling.pool_tokens`.
    bits, mask_ratio, sample_bits : bool, float, bool
        For BiGR: the tokenizer's bits too; share of tokens hidden, in [0, 1); Bernoulli bits instead of thresholded ones.
    labels : int, int64 array or Tensor (n,), optional
        For BiGR: the class condition, one for all or one an image; the null class by default.
    seed : int
        Of masks and sampled bits.
    item_seeds : integer array (n,), optional
        What tells items apart for `seed`; 0..n-1 by default. Draws do not depend on batches.
    dtype : "fp32", "bf16" or "int8"
        Precision of the forward pass: the model's own, bfloat16 autocast, or the linear layers in int8 (on a CPU; the rest in bfloat16
        where that is faster).
    batch_size : int
        Images a forward pass.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict
        With `pooling` a str: 0-based layer to float32 array (n, D). With a sequence, named as in a feature store:
        "block5_mean" to float32 (n, D), and so on. "tokens" are float16 (n, N, D). `bits=True` adds "bits", uint8 (n, N K), in both cases.

    Raises
    ------
    TypeError, ValueError
        For images of another dtype, shape or range, NaN, a layer out of range, or what this model cannot give.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}; expected 1 or more.")
    poolings = (pooling,) if isinstance(pooling, str) else tuple(pooling)
    wanted = (layers,) if isinstance(layers, int | str) else layers if layers is None else tuple(layers)
    readout = Readout(wanted, poolings, bits, mask_ratio, sample_bits, seed).resolved(model)
    images = images if isinstance(images, Tensor) else pictures_as_inputs(images, model)
    check_inputs(images, model)
    seeds = np.arange(len(images)) if item_seeds is None else np.asarray(item_seeds)
    given = None
    if labels is not None:
        given = torch.as_tensor(labels).expand(len(images)) if np.ndim(labels) == 0 else torch.as_tensor(labels)
        if given.shape != (len(images),):
            raise ValueError(f"labels have shape {tuple(given.shape)}; expected one for each of {len(images)} images.")
    check_condition(given, model)
    if len(seeds) != len(images):
        raise ValueError(f"there are {len(seeds)} item_seeds and {len(images)} images; give one an image.")
    weight = next(model.parameters())
    parts: dict[str, list[np.ndarray]] = {name: [] for name in readout.names}
    precision, computing = precision_of_call(dtype, model), Computing(model)
    with evaluating(model), progress_of(total=len(images), unit="image", desc="features", shown=progress) as bar:
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            batch = images[rows].to(weight.device, weight.dtype)
            condition = None if given is None else given[rows].to(weight.device)
            with computing.context(precision):
                found = read_out(model, batch, readout, condition, seeds[rows])
            for name, rows_found in found.items():
                parts[name].append(rows_found.cpu().numpy())
            bar.update(len(batch))
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    result: dict[int | str, np.ndarray] = dict(joined.items())
    if isinstance(pooling, str):
        result = {layer: joined[feature_name(layer, pooling)] for layer in readout.resolved_layers}
    if bits:
        tokens = model.tokenizer.grid_size**2, model.tokenizer.code_dim
        result["bits"] = unpack_bits(joined["bits"], *tokens).reshape(len(images), -1)
    return result
