"""What is read off a model in one pass: layers, poolings, bits, and for BiGR the state in which it is read.

B batch, N tokens, K bits, D width
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ..backbones.backbone import BiGRBackbone
from ..backbones.baselines import Baseline
from ..functional import bernoulli
from ..functional.checks import check_image_batch, check_labels, check_pixels
from ..functional.masking import lowest
from ..functional.packing import pack_bits
from ..functional.pooling import HEAD, check_poolings, feature_name, pool_tokens
from ..models.token_transformer import resolve_layers
from .taps import check_taps, join_layer, split_layer, tapped

Streams = dict[int | str, tuple[Tensor, Tensor | None, tuple[int, int] | None]]  # by layer: tokens (B, N, D), class token, grid
_BITS, _MASK = 0, 1  # two streams of draws an item, so that one does not move the other


@dataclass(frozen=True)
class Readout:
    """What to read; `resolved` checks it against a model.

    layers : 0-based blocks (negative from the end), taps inside them ("5.attention", "5.ffn"; see `taps`), and "head" for what the model
        gives its classifier (timm's forward_head with pre_logits); None for all blocks, or the head of a model without; () for none,
        with bits.
    poolings : some of "mean", "cls", "max", "concat", "quarters", "tokens"; see `pooling.pool_tokens`.
    bits : the tokenizer's bits too (BiGR).
    mask_ratio : share of tokens hidden, in [0, 1); each item has its own mask (BiGR).
    sample_bits : draw Bernoulli bits instead of thresholding at 0.5 (BiGR).
    seed : of masks and sampled bits, together with the seed of each item.
    """

    layers: tuple[int | str, ...] | None = None
    poolings: tuple[str, ...] = ("mean",)
    bits: bool = False
    mask_ratio: float = 0.0
    sample_bits: bool = False
    seed: int = 0

    def resolved(self, model: nn.Module) -> Readout:
        """A copy with 0-based layer indices, each once; raises ValueError for what this model cannot give."""
        if isinstance(model, Baseline) and self.layers is None:
            return replace(self, layers=(HEAD,)).resolved(model)
        if self.layers and HEAD in self.layers:
            rest = tuple(layer for layer in self.layers if layer != HEAD)
            _check_head(model)
            if rest or self.bits or self.mask_ratio or self.sample_bits:
                rest = replace(self, layers=rest).resolved(model).resolved_layers if rest else ()
                replace(self, layers=rest or None).resolved(model)  # checks what else is asked
            return replace(self, layers=(*rest, HEAD))
        if not hasattr(model, "forward_intermediates"):
            what = "only the layer head" if isinstance(model, Baseline) else "no forward_intermediates"
            raise ValueError(f"{type(model).__name__} has {what}; give another layer, or a timm model, created without features_only=True.")
        check_poolings(self.poolings, has_class_token(model))
        depth = layer_count(model)
        layers = () if self.layers == () and self.bits else tuple(dict.fromkeys(_resolved(self.layers, depth)))
        check_taps(model, layers)
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio={self.mask_ratio}; expected the share of hidden tokens, 0 or more and below 1.")
        asked = [name for name in ("bits", "mask_ratio", "sample_bits") if getattr(self, name)]
        if asked and not isinstance(model, BiGRBackbone):
            raise ValueError(f"{', '.join(asked)} can be asked of BiGR models only, not of {type(model).__name__}.")
        if asked and model.tokenizer.tokens == "index" and (self.bits or self.sample_bits):
            raise ValueError(f"{' and '.join(n for n in asked if n != 'mask_ratio')} asks for bits, but this model's tokens are indices.")
        if self.mask_ratio and model.generator.config.causal:
            raise ValueError(f"mask_ratio={self.mask_ratio} hides tokens, but a causal generator has no way to; leave it out.")
        if self.mask_ratio and not model.generator.embedding.can_hide:
            raise ValueError("mask_ratio needs the mask embedding, but the model was built or pruned without it; use generative=True.")
        if self.mask_ratio and not 1 <= round(self.mask_ratio * model.generator.config.num_tokens) < model.generator.config.num_tokens:
            count = model.generator.config.num_tokens
            raise ValueError(f"mask_ratio={self.mask_ratio} hides none or all of {count} tokens; give at least {1 / count:.3g}, or 0.")
        return replace(self, layers=layers)

    @property
    def draws(self) -> bool:
        """Whether anything is drawn at random."""
        return self.mask_ratio > 0 or self.sample_bits

    @property
    def resolved_layers(self) -> tuple[int | str, ...]:
        """The layers, once resolved."""
        assert self.layers is not None
        return self.layers

    @property
    def names(self) -> list[str]:
        """Names of the features, once resolved."""
        pooled = [feature_name(layer, pooling) for layer in self.resolved_layers for pooling in self.poolings]
        return [*dict.fromkeys(pooled), *(["bits"] if self.bits else [])]


def _resolved(layers: tuple[int | str, ...] | None, depth: int) -> list[int | str]:
    if not layers:
        return [*resolve_layers(None if layers is None else [], depth)]
    parts = [split_layer(layer) for layer in layers]
    numbers = resolve_layers([number for number, _ in parts], depth)
    return [join_layer(number, tap) for number, (_, tap) in zip(numbers, parts, strict=True)]


def by_depth(layers: Sequence[int | str]) -> list[int | str]:
    """Layers in the order of the pass, each block's taps before its stream, the head last."""
    blocks = [layer for layer in layers if layer != HEAD]
    return [*_sorted(blocks), *(layer for layer in layers if layer == HEAD)]


def _sorted(layers: Sequence[int | str]) -> list[int | str]:
    return sorted(layers, key=lambda layer: (split_layer(layer)[0], split_layer(layer)[1] is None, str(layer)))


def layer_count(model: nn.Module) -> int:
    """Number of layers that `forward_intermediates` can give."""
    if isinstance(model, BiGRBackbone):
        return len(model.generator.trunk.blocks)
    info = model.feature_info
    return len(getattr(info, "info", info))


def has_class_token(model: nn.Module) -> bool:
    """Whether the intermediates of a model come with a class token; for BiGR, the condition token."""
    if isinstance(model, BiGRBackbone):
        return model.generator.num_cond_tokens > 0
    gives = "return_prefix_tokens" in inspect.signature(model.forward_intermediates).parameters
    return gives and getattr(model, "num_prefix_tokens", 0) > 0 and bool(getattr(model, "has_class_token", True))


def check_inputs(images: Tensor, model: nn.Module) -> None:
    """Images must be a float batch without NaN; for generators also of the model's size and in its tokenizer's range.

    Raises
    ------
    TypeError, ValueError
    """
    if isinstance(model, BiGRBackbone):
        check_image_batch(images, model.in_chans, model.img_size, model.img_size)
        check_pixels(images, model.tokenizer.pixel_range)
        return
    if images.dim() != 4:
        raise ValueError(f"images have shape {list(images.shape)}; expected (batch, channels, height, width).")
    check_image_batch(images, *images.shape[1:])
    if not images.isfinite().all():
        raise ValueError("images hold NaN or infinite values.")


def read_out(
    model: nn.Module,
    images: Tensor | None,
    readout: Readout,
    labels: Tensor | None = None,
    item_seeds: np.ndarray | None = None,
    codes: Tensor | None = None,
) -> dict[str, Tensor]:
    """Features of a batch by name, in one pass that ends at the last layer asked for.

    Parameters
    ----------
    model : timm model, in eval mode
    images : Tensor (B, C, H, W)
        On the device and in the dtype of the model; None with codes.
    readout : Readout
        Resolved.
    labels : Tensor (B,) int64, optional
        Condition of a BiGR model; None is the null class.
    item_seeds : uint64 array (B,)
        Needed if the readout draws anything: an item with the same seed gets the same draws in any batch.
    codes : Tensor (B, N, K) or (B, N), optional
        Of images that were encoded before, for a BiGR model.

    Returns
    -------
    dict of name to Tensor
        float32 (B, D) for each layer and pooling, float16 (B, N, D) for "tokens"; uint8 (B, ceil(N K / 8)) packed "bits".
    """
    found: dict[str, Tensor] = {}
    blocks = [layer for layer in readout.resolved_layers if layer != HEAD]
    wanted = {split_layer(layer)[0] for layer in blocks}
    has_head = HEAD in readout.resolved_layers
    if has_head and isinstance(model, BiGRBackbone):
        wanted.add(model.feature_layer)
    numbers = replace(readout, layers=tuple(sorted(wanted)))
    streams: Streams = {}
    with tapped(model, blocks) as inside:
        if isinstance(model, BiGRBackbone):
            if codes is None:
                codes = _codes(model, images, readout, item_seeds)  # (B, N, K)
            if readout.bits:
                found["bits"] = pack_bits(codes)
            if wanted:
                streams = _bigr_streams(model, codes, numbers, labels, item_seeds)
            prefix = model.generator.num_cond_tokens
            class_place = prefix - 1
        else:
            if wanted:
                streams = _timm_streams(model, images, numbers)
            prefix, class_place = getattr(model, "num_prefix_tokens", 0), 0
    for tap, x in inside.items():
        number, _ = split_layer(tap)
        _, class_token, grid = streams[number]
        if x.dim() != 3 or x.shape[1] != prefix + streams[number][0].shape[1]:
            raise ValueError(f"{type(model).__name__} gives {list(x.shape)} at {tap}, which are not its tokens; give whole layers.")
        streams[tap] = x[:, prefix:], None if class_token is None else x[:, class_place], grid
    layered = {}
    for layer in blocks:
        tokens, class_token, grid = streams[layer]
        for pooling in readout.poolings:
            layered[feature_name(layer, pooling)] = pool_tokens(tokens, class_token, pooling, grid)
    if has_head:
        bigr = isinstance(model, BiGRBackbone)
        layered[HEAD] = model.forward_head(streams[model.feature_layer][0] if bigr else model.forward_features(images), pre_logits=True)
        layered[HEAD] = layered[HEAD].flatten(1).float()
    return layered | found


def _check_head(model: nn.Module) -> None:
    """Raise ValueError for a model without timm's head before the logits."""
    if "pre_logits" not in (inspect.signature(model.forward_head).parameters if hasattr(model, "forward_head") else ()):
        raise ValueError(f"{type(model).__name__} has no forward_head(pre_logits=True), which the layer head is; give layers by number.")


def _codes(model: BiGRBackbone, images: Tensor, readout: Readout, item_seeds: np.ndarray | None) -> Tensor:
    if not readout.sample_bits:
        return model.tokenizer.look_up(images)
    assert item_seeds is not None  # whatever draws gives them
    probability = model.tokenizer.bit_probabilities(images)
    drawn = [bernoulli.draw(p, item_generator(readout.seed, s, _BITS)) for p, s in zip(probability, item_seeds, strict=True)]
    return torch.stack(drawn)


def _bigr_streams(model, codes, readout, labels, item_seeds) -> Streams:
    generator = model.generator
    mask = None
    if readout.mask_ratio:
        count = round(readout.mask_ratio * codes.shape[1])
        noise = torch.stack([torch.rand(codes.shape[1], generator=item_generator(readout.seed, s, _MASK)) for s in item_seeds])
        mask = lowest(noise, count).to(codes.device)  # (B, N)
    cond = generator.num_prefix - int(model.shifted)
    streams = generator.hidden_states(codes, labels, mask, list(readout.layers), return_prefix=True, shifted=model.shifted)
    grid = (generator.config.grid_size,) * 2
    return {layer: (x[:, cond:], x[:, cond - 1] if cond else None, grid) for layer, x in zip(readout.layers, streams, strict=True)}


def _timm_streams(model: nn.Module, images: Tensor, readout: Readout) -> Streams:
    order = sorted(readout.resolved_layers, key=int)  # the order in which timm gives them
    prefixed = {"return_prefix_tokens": True} if has_class_token(model) else {}
    maps = model.forward_intermediates(images, indices=order, intermediates_only=True, stop_early=True, **prefixed)
    if len(maps) != len(order):
        raise ValueError(f"{type(model).__name__} gave {len(maps)} intermediates for layers {order}; it cannot be read layer by layer.")
    streams: Streams = {}
    for layer, item in zip(order, maps, strict=True):
        x, prefix = item if prefixed else (item, None)
        tokens = x.flatten(2).transpose(1, 2) if x.dim() == 4 else x  # (B, N, D)
        grid = (x.shape[2], x.shape[3]) if x.dim() == 4 else _grid_like(images, x.shape[1])
        streams[layer] = tokens, None if prefix is None else prefix[:, 0], grid
    return streams


def _grid_like(images: Tensor, count: int) -> tuple[int, int]:
    """Rows and columns of tokens that come without them: in the proportions of the images. Their product is another count if none fit."""
    height, width = images.shape[2:]
    rows = max(1, round(math.sqrt(count * height / width)))
    return rows, max(1, round(rows * width / height))


def item_generator(seed: int, item: int, stream: int) -> torch.Generator:
    """The random numbers of one item, on the CPU so that every device draws the same."""
    state = np.random.SeedSequence([seed, int(item), stream]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))


def check_condition(labels: Tensor | None, model: nn.Module) -> None:
    """Labels that a BiGR model can take as condition; ValueError otherwise."""
    if labels is None:
        return
    if not isinstance(model, BiGRBackbone):
        raise ValueError(f"a class condition can be given to BiGR models only, not to {type(model).__name__}.")
    if model.generator.config.text is not None:
        raise ValueError("a class was given as condition, but this model is conditioned on captions; its features use the null caption.")
    check_labels(labels, model.generator.null_class, model.generator.config.unconditional)
