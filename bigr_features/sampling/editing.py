"""Zero-shot uses of one generator: inpaint, outpaint, class-conditional edit, enrich (BiGR, arXiv:2410.14672).

B images, C channels, S side in pixels, N = G * G tokens, K bits.

Each takes the backbone that `timm.create_model` makes, encodes what is known, draws the hidden tokens with its generator, which must be a
masked one, and decodes.
Known tokens are never written, and every hidden token is drawn exactly once. With `seeds`, encoder, generator and decoder run image by
image on a CPU (see `batch_invariant` of `start.begin`), so that an image is the same alone and in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..functional import checks
from ..functional.inference import evaluating, in_chunks
from . import regions
from .noise import Noise, make_noise
from .orders import ranks
from .settings import SamplingSettings
from .start import runs_one_by_one

CHUNK = 64


@dataclass(frozen=True)
class Edited:
    """What an editing function made.

    images : (B, C, S, S) in [0, 1]; outside the pixel mask the original's own pixels, unless composition was turned off.
    decoded : (B, C, S, S), the decoder's whole picture of `codes`, clamped.
    codes : (B, N, K) after drawing.
    known_codes : (B, N, K) of what was given, before drawing.
    token_mask : (B, N) bool, tokens that were drawn.
    pixel_mask : (B, S, S) bool, or None for enrichment.
    """

    images: Tensor
    decoded: Tensor
    codes: Tensor
    known_codes: Tensor
    token_mask: Tensor
    pixel_mask: Tensor | None


@torch.no_grad()
def inpaint(
    model: nn.Module,
    images: Tensor,
    mask,
    labels: int | Tensor | None = None,
    *,
    text: str | list[str] | None = None,
    conceal: bool = False,
    composite: bool = True,
    blend: bool = False,
    num_reveal_steps: int | None = None,
    **settings,
) -> Edited:
    """Draw the masked region of images anew, in keeping with what is around it.

    Parameters
    ----------
    model : BiGRBackbone
    images : Tensor (B, C, S, S) in [0, 1], S the model's size
    mask : Tensor or array (S, S), (B, S, S) or (B, 1, S, S)
        True (1) where to draw anew, a region of any shape; one (S, S) mask holds for all images. A token is drawn if any pixel of it is
        masked.
    labels : int, Tensor (B,) or None
        Class of what is drawn. None is the null class, for which guidance has no effect.
    text : str, list of str, or None
        What is drawn, of a model of captions: one prompt for all images, or one each.
    conceal : bool
        Replace masked pixels by the mean of the others before encoding. The encoder sees beyond the edges of a token: without this, known
        tokens next to the mask hold a trace of what was behind it; with it, they hold a trace of the filling.
    composite : bool
        Give back the original's own pixels outside the mask; False gives the decoder's picture everywhere.
    blend : bool
        Fit the drawn region's brightness to its surroundings by OpenCV (extra "edit").
    num_reveal_steps : int, optional
        20 by default. An image that hides fewer tokens than there are steps skips some; a number above the largest number of hidden tokens
        in the batch is refused.
    **settings
        negative_text, generator or seeds, on_step, batch_invariant, and the fields of `SamplingSettings`; see `sample_codes`.

    Raises
    ------
    TypeError, ValueError
        For images or masks of another size, an empty mask, one that leaves no token known, more steps than hidden tokens, labels out of
        range, or settings that make no sense.
    """
    images = _check_images(model, images)
    masks = regions.pixel_masks(mask, len(images), model.img_size)
    return _draw(model, images, masks, _condition(model, labels, text, len(images)), conceal, composite, blend, num_reveal_steps, settings)


@torch.no_grad()
def edit(
    model: nn.Module, images: Tensor, mask, labels: int | Tensor | None = None, *, text: str | list[str] | None = None, **options
) -> Edited:
    """Draw the masked region of images anew as something of another class; everything else as in `inpaint`.

    Parameters
    ----------
    labels : int or Tensor (B,)
        Class of what is drawn. The null class is refused, as it asks for nothing.
    text : str or list of str
        What is drawn, of a model of captions, in place of labels; a prompt without a word is refused.
    """
    if model.generator.config.text is None or labels is not None:
        refuse_null(model, labels, "edit", "use inpaint to fill the region without a class")
    elif text is None or any(not prompt.strip() for prompt in ([text] if isinstance(text, str) else text)):
        raise ValueError("an empty prompt was given, or none, but edit needs one; use inpaint to fill the region without a prompt.")
    return inpaint(model, images, mask, labels, text=text, **options)


@torch.no_grad()
def outpaint(
    model: nn.Module,
    images: Tensor,
    labels: int | Tensor | None = None,
    *,
    text: str | list[str] | None = None,
    offset: tuple[int, int] | None = None,
    composite: bool = True,
    blend: bool = False,
    num_reveal_steps: int | None = None,
    **settings,
) -> Edited:
    """Draw the surroundings of images that are smaller than the model's.

    The image is set into a canvas of the model's size; tokens that it does not cover wholly are drawn. What the encoder sees of them are
    the image's edge pixels, repeated.

    Parameters
    ----------
    images : Tensor (B, C, h, w) in [0, 1]
        h and w at most the model's side S, one of them smaller, covering at least one token wholly.
    offset : (int, int), optional
        Row and column of the image's upper left pixel in the canvas; by default it lies in the middle.

    Other parameters, and errors, are those of `inpaint`.
    """
    size = model.img_size
    _check_batch(model, images)
    height, width = images.shape[2:]
    if height > size or width > size or (height == size and width == size):
        raise ValueError(f"images are {height} x {width}; outpainting to {size} x {size} needs smaller ones. Crop or shrink them first.")
    top, left = offset if offset is not None else ((size - height) // 2, (size - width) // 2)
    known = regions.box_mask(size, top, left, height, width)
    margins = (left, size - left - width, top, size - top - height)
    canvas = F.pad(images.to(_device(model)), margins, mode="replicate")
    masks = (~known).expand(len(images), size, size)
    return _draw(model, canvas, masks, _condition(model, labels, text, len(images)), False, composite, blend, num_reveal_steps, settings)


@torch.no_grad()
def enrich(
    model: nn.Module,
    images: Tensor,
    labels: int | Tensor | None = None,
    *,
    text: str | list[str] | None = None,
    num_passes: int = 4,
    num_reveal_steps: int | None = None,
    on_pass: Callable[[int, Tensor, Tensor], None] | None = None,
    **settings,
) -> Edited:
    """Give detail to low-resolution images: enlarge them bicubically, then re-draw their tokens, a part in each pass.

    Parameters
    ----------
    images : Tensor (B, C, h, w) in [0, 1]
        h and w at most the model's side.
    num_passes : int
        The tokens are dealt at random into so many parts, 2 or more; each pass hides and draws one part, given all others. After the
        last pass every token has been drawn exactly once. More passes change less.
    num_reveal_steps : int, optional
        Steps in each pass, at most the tokens of a part.
    on_pass : callable, optional
        Called after each pass with its number, mask (B, N) and the codes (B, N, K).

    Other parameters, and errors, are those of `inpaint`. `images` of the result is the decoder's picture.
    """
    _check_batch(model, images)
    size, tokens = model.img_size, model.generator.config.num_tokens
    if max(images.shape[2:]) > size:
        raise ValueError(f"images are {images.shape[2]} x {images.shape[3]}, larger than the model's {size} x {size}; shrink them first.")
    if not 2 <= num_passes <= tokens:
        raise ValueError(
            f"num_passes={num_passes}; give 2..{tokens}. One pass would hide all {tokens} tokens and keep nothing of the image; "
            "use generate for that."
        )
    images = F.interpolate(images.to(_device(model)), size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    settings, chunk, noise = _prepare(model, len(images), settings)
    known = in_chunks(model.encode, model.tokenizer.normalize(images), chunk)
    condition = _condition(model, labels, text, len(images))
    part = ranks(noise.uniform(known.shape[:2], known.device)) * num_passes // tokens  # (B, N), 0..num_passes - 1
    codes = known
    for index in range(num_passes):
        mask = part == index
        steps = _reveal_steps(mask, num_reveal_steps)
        codes = model.generator.generate(**condition, codes=codes, mask=mask, num_reveal_steps=steps, generator=noise, **settings)
        if on_pass is not None:
            on_pass(index, mask, codes)
    decoded = _decode(model, codes, chunk)
    return Edited(decoded, decoded, codes, known, torch.ones_like(part, dtype=torch.bool), None)


def _draw(model, images, masks, condition, conceal, composite, blend, num_reveal_steps, settings) -> Edited:
    """Encode, draw the tokens that `masks` (B, S, S) touches, decode, and put the result into the original."""
    if blend and not composite:
        raise ValueError("blend=True fits the drawn region to the original around it, which composite=False leaves out; choose one.")
    masks = masks.to(images.device)
    hidden = regions.token_masks(masks, model.generator.config.grid_size)
    steps = _reveal_steps(hidden, num_reveal_steps)
    settings, chunk, noise = _prepare(model, len(images), settings)
    checks.check_pixels(images)
    known = in_chunks(model.encode, model.tokenizer.normalize(regions.conceal(images, masks) if conceal else images), chunk)
    codes = model.generator.generate(**condition, codes=known, mask=hidden, num_reveal_steps=steps, generator=noise, **settings)
    decoded = _decode(model, codes, chunk)
    if blend:
        result = regions.blend_seams(images, decoded, masks)
    else:
        result = regions.composite(images, decoded, masks) if composite else decoded
    return Edited(result, decoded, codes, known, hidden, masks)


def _prepare(model: nn.Module, batch: int, settings: dict) -> tuple[dict, int, Noise]:
    """Settings without their source of noise, how many images run at a time, and the noise. Wrong settings are named before any work."""
    settings = dict(settings)
    noise = make_noise(batch, settings.pop("generator", None), settings.pop("seeds", None))
    calls = ("on_step", "batch_invariant", "negative_text")
    SamplingSettings(**{name: value for name, value in settings.items() if name not in calls})
    one_by_one = noise.per_image and runs_one_by_one(settings.get("batch_invariant"), _device(model))
    return settings, 1 if one_by_one else CHUNK, noise


def _reveal_steps(hidden: Tensor, num_reveal_steps: int | None) -> int:
    """Steps for a batch; the default does not look at the batch, so that an image is the same in any."""
    most = int(hidden.sum(1).max())
    if num_reveal_steps is None:
        return SamplingSettings.num_reveal_steps
    if num_reveal_steps > most:
        raise ValueError(
            f"num_reveal_steps={num_reveal_steps}, but at most {most} tokens of an image are drawn; give 1..{most}, or leave it out."
        )
    return num_reveal_steps


def _condition(model: nn.Module, labels: int | Tensor | None, text, batch: int) -> dict:
    """Keywords of `generate` for a batch: labels, or captions."""
    if text is None and model.generator.config.text is None:
        return {"labels": _labels(model, labels, batch)}
    return {"labels": labels, "text": text}


def _labels(model: nn.Module, labels: int | Tensor | None, batch: int) -> Tensor:
    """Labels (B,) on the model's device; one label holds for all images, None is the null class."""
    null = model.generator.null_class
    given = torch.as_tensor(null if labels is None else labels, device=_device(model))
    checks.check_labels(given, null, model.generator.config.unconditional)
    given = given.expand(batch) if given.dim() == 0 else given
    if tuple(given.shape) != (batch,):
        raise ValueError(f"labels have shape {tuple(given.shape)}; expected one label for all, or ({batch},), one an image.")
    return given


def refuse_null(model: nn.Module, labels, what: str, instead: str) -> None:
    """An error if there is no label, or one is the null class."""
    null = model.generator.null_class
    if labels is None or bool((torch.as_tensor(labels) == null).any()):
        given = "no label" if labels is None else f"label {null}, the null class,"
        raise ValueError(f"{given} was given, but {what} needs a class of 0..{null - 1}; {instead}.")


def _check_masked(model: nn.Module) -> None:
    """An error for a causal generator."""
    if model.generator.config.causal:
        raise ValueError(
            "editing draws tokens in keeping with all that is known around them, but this model's generator is causal: it draws each token "
            "from those before it only. Take a masked model (bigr_*, *_cat_mask)."
        )


def _check_images(model: nn.Module, images: Tensor) -> Tensor:
    _check_masked(model)
    return checks.check_image_batch(images, model.in_chans, model.img_size, model.img_size).to(_device(model))


def _check_batch(model: nn.Module, images: Tensor) -> None:
    """A batch of images of any size, pixels in [0, 1]."""
    _check_masked(model)
    height, width = images.shape[-2:] if images.dim() == 4 else (model.img_size, model.img_size)
    checks.check_image_batch(images, model.in_chans, height, width)
    checks.check_pixels(images)


def _decode(model: nn.Module, codes: Tensor, chunk: int) -> Tensor:
    with evaluating(model):
        return model.tokenizer.denormalize(in_chunks(model.decode, codes, chunk)).clamp(0, 1)


def _device(model: nn.Module) -> torch.device:
    return model.generator.class_embedding.weight.device
