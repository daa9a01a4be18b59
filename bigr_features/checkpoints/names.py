"""Renaming state-dict keys by templates in which # stands for a block's number."""

from __future__ import annotations

import re

from torch import Tensor


def rename(key: str, names: list[tuple[str, str]], to_official: bool) -> str | None:
    """The key's other name by the first template (ours, official) that fits, or None."""
    for pair in names:
        source, target = pair if to_official else pair[::-1]
        pattern = re.escape(source).replace(r"\#", r"(\d+)") + r"(\.[\w.]+)?"
        match = re.fullmatch(pattern, key)
        if match:
            *numbers, rest = match.groups()
            return (target.replace("#", numbers[0]) if numbers else target) + (rest or "")
    return None


def renamed(state: dict[str, Tensor], names: list[tuple[str, str]], to_official: bool) -> dict[str, Tensor]:
    """Tensors under their other names; those that no template fits keep theirs."""
    return {rename(key, names, to_official) or key: value for key, value in state.items()}


# names of the trunk, which BiGR, LlamaGen and ELM share
TRUNK_NAMES = [
    ("class_embedding.weight", "cls_embedding.embedding_table.weight"),
    ("trunk.blocks.#.attention.qkv", "layers.#.attention.wqkv"),
    ("trunk.blocks.#.attention.proj", "layers.#.attention.wo"),
    ("trunk.blocks.#.attention_norm", "layers.#.attention_norm"),
    ("trunk.blocks.#.feed_forward.gate", "layers.#.feed_forward.w1"),
    ("trunk.blocks.#.feed_forward.up", "layers.#.feed_forward.w3"),
    ("trunk.blocks.#.feed_forward.down", "layers.#.feed_forward.w2"),
    ("trunk.blocks.#.feed_forward_norm", "layers.#.ffn_norm"),
    ("trunk.norm", "norm"),
]
