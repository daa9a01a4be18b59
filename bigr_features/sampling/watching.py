"""What somebody who watches a sampler sees after each step: the picture so far, what is new in it, and how sure it is.

N = G * G tokens, K bits.  Of every sampler: masked bits, masked classes, one token after the other
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.pixels import to_uint8
from ..functional.inference import evaluating
from .autoregressive import TokenStep
from .categorical import DrawStep
from .process import HIDDEN, frames_of


@dataclass(frozen=True)
class View:
    """One image of a batch after a step.

    step : 0-based.
    picture : uint8 (S, S, 3), decoded; hidden tokens show the most likely bits, or are grey where the sampler does not know them yet.
    revealed : int array, tokens that were fixed in this step.
    hidden : int array, tokens that are still to be drawn.
    confidence : float array, as long as `revealed`, 0 (a coin) to 1 (certain): the mean of |2p - 1| over bits, or the mean probability of
        the classes drawn.
    codes : (N, K) or (N,), as they are after the step; of hidden tokens they mean nothing.
    """

    step: int
    picture: np.ndarray
    revealed: np.ndarray
    hidden: np.ndarray
    confidence: np.ndarray
    codes: Tensor


@torch.no_grad()
def view_of(model: nn.Module, step: Any, image: int = 0) -> View | None:
    """What a step did to one image; None if it revealed nothing of it.

    Parameters
    ----------
    model : BiGRBackbone
    step : RevealStep, DrawStep or TokenStep
        What `on_step` was given.
    """
    if isinstance(step, TokenStep):
        return _of_token(model, step, image)
    new = step.revealed[image]
    if not bool(new.any()):
        return None
    hidden = step.mask[image] & ~new
    if isinstance(step, DrawStep):
        sure = step.probabilities[image].float().mean(-1)
        picture = _decoded(model, step.codes[image])
    else:
        sure = (2 * step.probabilities[image] - 1).abs().mean(-1)
        cells = frames_of(model, [step], image)[0].cells
        picture = cells["guess"] if cells["guess"] is not None else cells["revealed"]
    return View(step.step, _rgb(picture), *_places(new, hidden), _numbers(sure[new]), step.codes[image].cpu())


def _of_token(model: nn.Module, step: TokenStep, image: int) -> View:
    codes, tokens = step.codes[image], model.generator.config.num_tokens
    places = torch.arange(tokens)
    hidden = places > step.step
    drawn = step.probabilities[image].float()
    sure = (2 * drawn - 1).abs().mean() if step.logits is None else drawn.amax(-1).mean()  # of classes: of the most probable ones
    side = model.generator.config.grid_size
    picture = _rgb(_decoded(model, codes)).copy()
    scale = picture.shape[0] // side
    picture[hidden.reshape(side, side).numpy().repeat(scale, 0).repeat(scale, 1)] = HIDDEN
    return View(step.step, picture, *_places(places == step.step, hidden), _numbers(sure[None]), codes.cpu())


def _decoded(model: nn.Module, codes: Tensor) -> np.ndarray:
    with evaluating(model):
        return to_uint8(model.tokenizer.denormalize(model.decode(codes[None])).clamp(0, 1))[0]


def _places(new: Tensor, hidden: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return np.flatnonzero(new.cpu().numpy()), np.flatnonzero(hidden.cpu().numpy())


def _numbers(values: Tensor) -> np.ndarray:
    return np.round(values.cpu().double().numpy(), 4)


def _rgb(picture: np.ndarray) -> np.ndarray:
    return picture.repeat(3, axis=2) if picture.shape[2] == 1 else picture
