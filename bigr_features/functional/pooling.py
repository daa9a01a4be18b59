"""From the tokens of a layer to one vector an image, and what such a feature is called.   B batch, N tokens, D width"""

from __future__ import annotations

import math
import re

import torch
import torch.nn.functional as F
from torch import Tensor

POOLINGS = ("mean", "cls", "max", "concat", "quarters", "tokens")
NEED_CLASS_TOKEN = ("cls", "concat")
HEAD = "head"  # what a model gives its classifier: the layer, and the name of its feature
_NAME = re.compile(rf"block(\d+)(?:\.(\w+?))?_({'|'.join(POOLINGS)})")


def feature_name(layer: int | str, pooling: str) -> str:
    """Name of a layer's pooled tokens, such as "block5_mean", or "block5.ffn_mean" of a tap inside block 5; "head" of the head."""
    return HEAD if layer == HEAD else f"block{layer}_{pooling}"


def layer_and_pooling(name: str) -> tuple[int | str | None, str | None]:
    """5 and "mean" of "block5_mean", 5 and "ffn mean" of "block5.ffn_mean", "head" and None of "head"; else None and None."""
    if name == HEAD:
        return HEAD, None
    found = _NAME.fullmatch(name)
    return (int(found[1]), f"{found[2]} {found[3]}" if found[2] else found[3]) if found else (None, None)


def pool_tokens(tokens: Tensor, class_token: Tensor | None, pooling: str, grid: tuple[int, int] | None = None) -> Tensor:
    """One vector an image, float32; or all tokens, float16.

    Parameters
    ----------
    tokens : Tensor (B, N, D)
        Image tokens, without class or register tokens.
    class_token : Tensor (B, D), optional
        Of BiGR, the condition token.
    pooling : "mean", "cls", "max", "concat", "quarters" or "tokens"
        Mean over the tokens; the class token; maximum over the tokens; class token and mean side by side (DINOv2's probe); the means
        over the four quarters of the token grid side by side, which keep where things are (spatial pyramid, Lazebnik et al. 2006,
        level 1). Of a grid with an odd side the quarters share its middle. "tokens" keeps all.
    grid : (int, int), optional
        Rows and columns of the token grid; a square by default.

    Returns
    -------
    Tensor (B, D), (B, 2 D) for "concat", or (B, 4 D) for "quarters": upper left, upper right, lower left, lower right

    Raises
    ------
    ValueError
        For another pooling, one that needs a class token where there is none, or "quarters" of tokens that are no such grid.
    """
    check_poolings((pooling,), has_class_token=class_token is not None)
    if pooling == "tokens":
        if tokens.dim() != 3 or tokens.shape[1] < 2:
            raise ValueError(f"pooling='tokens' needs several tokens, but the layer gives {list(tokens.shape[1:])} an image; use mean.")
        return tokens.half()
    if pooling == "mean":
        return tokens.float().mean(1)
    if pooling == "max":
        return tokens.float().amax(1)
    if pooling == "quarters":
        return _quarters(tokens.float(), grid)
    assert class_token is not None  # the other poolings take it
    if pooling == "cls":
        return class_token.float()
    return torch.cat([class_token.float(), tokens.float().mean(1)], dim=1)


def _quarters(tokens: Tensor, grid: tuple[int, int] | None) -> Tensor:
    count = tokens.shape[1]
    if grid is None:
        grid = math.isqrt(count), math.isqrt(count)
        if grid[0] ** 2 != count or grid[0] < 2:
            raise ValueError(f"pooling='quarters' needs a square grid of tokens, 2 x 2 or larger, but there are {count}; use mean.")
    if grid[0] * grid[1] != count or min(grid) < 2:
        raise ValueError(
            f"pooling='quarters' needs a grid of tokens, 2 x 2 or larger, but there are {count} as {grid[0]} x {grid[1]}; use mean."
        )
    maps = tokens.transpose(1, 2).unflatten(2, grid)  # (B, D, rows, columns)
    return F.adaptive_avg_pool2d(maps, 2).flatten(2).transpose(1, 2).flatten(1)  # (B, 4 D)


def check_poolings(poolings: tuple[str, ...], has_class_token: bool) -> None:
    """Raise ValueError naming a pooling that does not exist, is given twice, or needs a class token that the model lacks."""
    if not poolings:
        raise ValueError(f"no pooling was given; choose one or more of {', '.join(POOLINGS)}.")
    for pooling in poolings:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r} is unknown; choose one or more of {', '.join(POOLINGS)}.")
        if pooling in NEED_CLASS_TOKEN and not has_class_token:
            raise ValueError(f"pooling={pooling!r} needs a class token, which this model does not give; choose mean or max.")
    if len(set(poolings)) < len(poolings):
        raise ValueError(f"a pooling is given twice: {', '.join(poolings)}.")
