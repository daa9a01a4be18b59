"""From the tokens of a layer to one vector an image.   B batch, N tokens, D width"""

from __future__ import annotations

import torch
from torch import Tensor

POOLINGS = ("mean", "cls", "max", "concat")
NEED_CLASS_TOKEN = ("cls", "concat")


def pool_tokens(tokens: Tensor, class_token: Tensor | None, pooling: str) -> Tensor:
    """One vector an image, float32.

    Parameters
    ----------
    tokens : Tensor (B, N, D)
        Image tokens, without class or register tokens.
    class_token : Tensor (B, D), optional
        Of BiGR, the condition token.
    pooling : "mean", "cls", "max" or "concat"
        Mean over the tokens; the class token; maximum over the tokens; class token and mean side by side (DINOv2's probe).

    Returns
    -------
    Tensor (B, D), or (B, 2 D) for "concat"

    Raises
    ------
    ValueError
        For another pooling, or one that needs a class token where there is none.
    """
    check_poolings((pooling,), has_class_token=class_token is not None)
    if pooling == "mean":
        return tokens.float().mean(1)
    if pooling == "max":
        return tokens.float().amax(1)
    if pooling == "cls":
        return class_token.float()
    return torch.cat([class_token.float(), tokens.float().mean(1)], dim=1)


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
