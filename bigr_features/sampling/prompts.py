"""Prompts as the condition of a batch: how many there must be, and what guidance leads away from.   B images"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from .captions import Captions

Text = str | Sequence[str] | Captions


def images_wanted(settings: dict) -> dict[str, int]:
    """How many images each of the settings of a sampler that says so asks for, by the name of the setting."""
    found = {name: len(settings[name]) for name in ("seeds", "codes") if settings.get(name) is not None}
    if settings.get("batch_size") is not None:
        found["batch_size"] = settings["batch_size"]
    return found


def batch_captions(model: nn.Module, text: Text | None, negative: Text | None, counts: dict[str, int]) -> Captions:
    """Captions of a batch.

    Parameters
    ----------
    model : BiGR of captions
    text : str, list of str, Captions or None
        A single str holds for all images; None is the null caption for all.
    negative : the same
    counts : dict of int
        Images that settings ask for, by their names.

    Raises
    ------
    ValueError
        If the numbers of prompts, and of what else says how many images there are, do not agree; or none says it.
    """
    count = next(iter(counts.values()), None)
    if text is None:
        if count is None:
            raise ValueError("no prompt was given, so the number of images is unknown; give text, or a batch_size for images without.")
        captions = model.null_captions(count)
    else:
        captions = model.captions(text)
        if isinstance(text, str) and count is not None:
            captions = captions.repeated(count)
    for name, wanted in counts.items():
        if wanted != len(captions):
            raise ValueError(
                f"{len(captions)} prompts were given, but {name} asks for {wanted} images; give one prompt an image, or one text for all."
            )
    if negative is None:
        return captions
    away = model.captions(negative)
    if len(away) == 1:
        away = away.repeated(len(captions))
    if len(away) != len(captions):
        raise ValueError(f"{len(away)} negative prompts were given for {len(captions)} images; give one for all, or one each.")
    return replace(captions, negative=away)
