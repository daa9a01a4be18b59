"""Taps inside the blocks of a model: what attention adds, and what the feed-forward computes within.

A layer is named by its number (5: the stream after block 5) or by a number and a tap ("5.attention", "5.ffn").
B batch, S tokens with those of prefix, D width
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ..backbones.backbone import BiGRBackbone

TAPS = ("attention", "ffn")


def split_layer(layer: int | str) -> tuple[int, str | None]:
    """Number and tap of a layer: (5, "ffn") of "5.ffn", (5, None) of 5 or "5".

    Raises
    ------
    ValueError
        If it is named in another way.
    """
    number, dot, tap = str(layer).partition(".")
    if not number.removeprefix("-").isdecimal() or (dot and tap not in TAPS):
        raise ValueError(
            f"layer {layer!r} is unknown; give a number such as 5, a tap inside a block, such as 5.attention or 5.ffn, or head."
        )
    return int(number), tap or None


def join_layer(number: int, tap: str | None) -> int | str:
    """A layer as `split_layer` takes it apart."""
    return number if tap is None else f"{number}.{tap}"


def check_taps(model: nn.Module, layers: Sequence[int | str]) -> None:
    """Raise ValueError naming the first tap that the model lacks."""
    for layer in layers:
        number, tap = split_layer(layer)
        if tap is not None:
            _place(model, number, tap)


@contextmanager
def tapped(model: nn.Module, layers: Sequence[int | str]) -> Iterator[dict[str, Tensor]]:
    """A dictionary that holds, after a pass of the model, what went through each tap among the layers, (B, S, D)."""
    found: dict[str, Tensor] = {}
    handles = []
    for layer in layers:
        number, tap = split_layer(layer)
        if tap is None:
            continue
        module, at_input = _place(model, number, tap)

        def keep_input(module, args, name=layer):
            found[name] = args[0]

        def keep_output(module, args, output, name=layer):
            found[name] = output

        handles.append(module.register_forward_pre_hook(keep_input) if at_input else module.register_forward_hook(keep_output))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _place(model: nn.Module, number: int, tap: str) -> tuple[nn.Module, bool]:
    """The module of a tap, and whether its input is meant: the last map of a feed-forward takes its hidden features."""
    if isinstance(model, BiGRBackbone):
        block = model.generator.trunk.blocks[number]
        return (block.attention, False) if tap == "attention" else (block.feed_forward.down, True)
    blocks = getattr(model, "blocks", None)
    block = blocks[number] if isinstance(blocks, nn.ModuleList | nn.Sequential) and len(blocks) > number else None
    module = getattr(block, "attn", None) if tap == "attention" else getattr(getattr(block, "mlp", None), "fc2", None)
    if not isinstance(module, nn.Module) or not hasattr(model, "num_prefix_tokens"):
        raise ValueError(
            f"{type(model).__name__} has no tap {number}.{tap}: attention and ffn are read inside blocks of BiGR models and of timm's "
            "vision transformers (blocks with attn and mlp.fc2); give whole layers by their numbers."
        )
    return module, tap == "ffn"
