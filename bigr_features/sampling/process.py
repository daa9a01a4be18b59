"""Pictures of how an image comes about, from the steps that `on_step` saw.   N = G * G tokens, K bits"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.pixels import to_uint8
from ..functional.inference import evaluating
from ..plots import pictures
from .masked import RevealStep

HIDDEN, KNOWN, NEW = (205, 205, 205), (0, 114, 178), (230, 159, 0)
HEAT_LIMIT = 0.6
ROWS = ("tokens", "entropy", "revealed", "guess")


@dataclass(frozen=True)
class Frame:
    """One image after one step.

    step : 0-based reveal step.
    revealed, hidden : number of tokens revealed in this step, and still hidden after it.
    mean_entropy : mean over the tokens the transcoder saw, in bits of entropy a bit of code.
    cells : uint8 pictures (H, W, 3) by row name.
        "tokens": gray hidden, orange revealed in this step, blue known before. "entropy": of the tokens the transcoder saw, dark 0, bright
        0.6 bits or more. "revealed": decoded image, hidden tokens covered. "guess": decoded image with the most likely bits in hidden
        tokens; None where some hidden token has no probabilities, which is so for orders known beforehand.
    """

    step: int
    revealed: int
    hidden: int
    mean_entropy: float
    cells: dict[str, np.ndarray | None]


def token_entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy (..., N) over the K bits of each token, in bits, on the CPU: 0 is certain, 1 is a coin; NaN stays NaN."""
    p = probabilities.cpu().double()  # some devices have no float64
    return (-torch.special.xlogy(p, p) - torch.special.xlogy(1 - p, 1 - p)).mean(-1) / np.log(2)


@torch.no_grad()
def frames_of(model: nn.Module, steps: Sequence[RevealStep], image: int = 0) -> list[Frame]:
    """One frame a step for one image of the batch; steps in which it revealed nothing are left out.

    Parameters
    ----------
    model : BiGRBackbone
    steps : list of RevealStep
        What `on_step=steps.append` collected.
    """
    steps = [step for step in steps if bool(step.revealed[image].any())]
    if not steps:
        raise ValueError(f"no step revealed a token of image {image}; collect them with on_step=steps.append.")
    return [_frame(model, step, image) for step in steps]


def _frame(model: nn.Module, step: RevealStep, image: int) -> Frame:
    side = model.generator.config.grid_size
    mask, new = step.mask[image], step.revealed[image]
    hidden = mask & ~new
    tokens = np.empty((side * side, 3), dtype=np.uint8)
    tokens[:] = KNOWN
    tokens[hidden.cpu().numpy()] = HIDDEN
    tokens[new.cpu().numpy()] = NEW
    entropy = token_entropy(step.probabilities[image]).reshape(side, side).numpy()
    guess = torch.where(hidden[:, None], (step.probabilities[image] > 0.5).to(step.codes.dtype), step.codes[image])
    with evaluating(model):
        decoded = to_uint8(model.decode(torch.stack([step.codes[image], guess])).clamp(0, 1))
    scale = decoded.shape[1] // side
    cover = hidden.reshape(side, side).cpu().numpy().repeat(scale, 0).repeat(scale, 1)
    known_guess = not bool(step.probabilities[image][hidden].isnan().any())
    cells = {
        "tokens": tokens.reshape(side, side, 3),
        "entropy": pictures.heat(entropy, high=HEAT_LIMIT),
        "revealed": np.where(cover[..., None], np.array(HIDDEN, dtype=np.uint8), decoded[int(known_guess)]),
        "guess": decoded[1] if known_guess else None,
    }
    return Frame(step.step, int(new.sum()), int(hidden.sum()), float(np.nanmean(entropy)), cells)


def reveal_strip(frames: Sequence[Frame], columns: int = 8, side: int = 96) -> Image.Image:
    """Tokens, entropy, revealed part and best guess (rows) at evenly chosen steps (columns), the first and the last among them."""
    if columns < 1:
        raise ValueError(f"columns={columns}; give 1 or more.")
    chosen = sorted({round(i) for i in np.linspace(0, len(frames) - 1, min(columns, len(frames)))})
    shown = [frames[i] for i in chosen]
    rows = [name for name in ROWS if all(frame.cells[name] is not None for frame in shown)]
    return pictures.sheet(
        [[frame.cells[name] for frame in shown] for name in rows],
        columns=[f"step {frame.step + 1}\n+{frame.revealed}, {frame.hidden} left" for frame in shown],
        labels=[_CAPTIONS[name] for name in rows],
        side=side,
    )


_CAPTIONS = {
    "tokens": "tokens\n(orange: new)",
    "entropy": "entropy\n(dark: sure)",
    "revealed": "revealed",
    "guess": "best guess",
}


def reveal_animation(frames: Sequence[Frame], side: int = 128) -> list[Image.Image]:
    """One picture a step for `pictures.save_gif`: tokens, entropy and image side by side."""
    names = [name for name in ROWS if frames[0].cells[name] is not None]
    captions = [_CAPTIONS[name].split("\n")[0] for name in names]
    return [
        pictures.sheet([[frame.cells[name] for name in names]], columns=captions, title=f"step {frame.step + 1}", side=side)
        for frame in frames
    ]


def before_after(
    before: Tensor, masks: Tensor | None, after: Tensor, captions: tuple[str, str, str] = ("given", "to draw", "result"), side: int = 96
) -> Image.Image:
    """A row an image: what was given, what was to be drawn (covered in orange), and the result.

    Parameters
    ----------
    before, after : Tensor (B, C, H, W) in [0, 1]
    masks : Tensor (B, H, W) bool, or None to leave that column out
    """
    given, result = to_uint8(before), to_uint8(after)
    columns: list = [given, result]
    if masks is not None:
        columns.insert(1, [pictures.tint(one, mask) for one, mask in zip(given, masks.cpu().numpy(), strict=True)])
    names = captions if masks is not None else (captions[0], captions[2])
    return pictures.sheet(list(zip(*columns, strict=True)), columns=names, side=side)
