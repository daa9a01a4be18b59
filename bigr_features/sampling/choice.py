"""The draw of one class from its logits.   V classes"""

from __future__ import annotations

from torch import Tensor

from ..functional.filtering import draw_index, filtered
from .settings import SamplingSettings


def is_greedy(settings: SamplingSettings) -> bool:
    """Whether the most probable class is taken, so that no random number is needed."""
    return settings.top_k == 1


def choose_classes(logits: Tensor, settings: SamplingSettings, uniform: Tensor | None) -> tuple[Tensor, Tensor]:
    """Indices (...) from logits (..., V), and the probabilities (..., V) they were drawn from.

    `uniform` holds numbers (...) in [0, 1); None where nothing is drawn, which is with top_k 1: then the most probable class is taken.
    """
    probabilities = filtered(logits / settings.temperature, settings.top_k, settings.top_p).softmax(-1)
    if uniform is None:
        return logits.argmax(-1), probabilities
    return draw_index(probabilities, uniform), probabilities
