"""`bigr inpaint`, `bigr outpaint`, `bigr edit` and `bigr enrich`: given pictures, drawn anew in part."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.pixels import to_uint8
from ..functional.printing import one_line
from ..plots import pictures
from ..sampling import editing, regions
from .conditions import Conditions, headings
from .drawing import Session, no_null, session
from .drawing_options import EditConfig, EditingConfig, EnrichConfig, InpaintConfig, OutpaintConfig
from .model_choice import is_grey_trained

log = logging.getLogger(__name__)


def inpaint(config: InpaintConfig) -> None:
    """Run `bigr inpaint`."""
    run = session(config, "inpaint")
    images, masks = read_pictures(config, run, config.mask, config.resize_mask)
    drawn = conditions_of(run, len(config.images))
    options = {"conceal": config.conceal, "blend": config.blend}
    results = run.draw(
        len(images), lambda part, calls: editing.inpaint(run.model, images[part], masks[part], **drawn.of(part), **options, **calls).images
    )
    finish(run, config, images, masks, results, drawn)


def edit(config: EditConfig) -> None:
    """Run `bigr edit`."""
    run = session(config, "edit")
    one, names = _edits(run)
    images, masks = read_pictures(config, run, config.mask, config.resize_mask)
    drawn = one.repeated(len(images))
    rows = torch.arange(len(images)).repeat_interleave(len(one))
    options = {"conceal": config.conceal, "blend": config.blend}
    seeds = (config.seed + rows).tolist()
    results = run.draw(
        len(rows),
        lambda part, calls: editing.edit(run.model, images[rows[part]], masks[rows[part]], **drawn.of(part), **options, **calls).images,
        seeds=seeds,
    )
    cells = np.split(to_uint8(results), len(images))
    given = to_uint8(images)
    sheet = pictures.sheet(
        [[one, pictures.tint(one, mask.numpy()), *own] for one, mask, own in zip(given, masks, cells, strict=True)],
        columns=["given", "to draw", *names],
    )
    files = [f"{stem}_{kind}" for stem in stems(config.images) for kind in _file_names(one)]
    run.save(sheet, results, files, **drawn.facts, mask=config.mask, conceal=config.conceal, blend=config.blend)


def _edits(run: Session) -> tuple[Conditions, list[str]]:
    """What each picture is drawn as, and headings of it."""
    config = run.config
    if run.model.generator.config.text is not None:
        if not config.text:
            raise ValueError("an edit needs a prompt, but none was given; give --text, or use `bigr inpaint`.")
        return Conditions(text=list(config.text), negative=config.negative_text), headings(config.text)
    no_null(run.labels, run, "an edit")
    if run.model.generator.config.unconditional:
        raise ValueError(f"{run.name} was trained without labels, and an edit needs classes; take another model, or `bigr inpaint`.")
    if not run.labels and run.null_class > 20:
        raise ValueError(f"{run.name} has {run.null_class} classes; name those to draw, such as --labels 1 2 3.")
    classes = list(run.labels) or list(range(run.null_class))
    return Conditions(classes), list(map(run.title, classes))


def _file_names(drawn: Conditions) -> list[str]:
    """What tells the results of an edit apart: the class, or the number of the prompt."""
    return [f"class_{label}" for label in drawn.labels] if drawn.labels is not None else [f"text_{i}" for i in range(len(drawn))]


def outpaint(config: OutpaintConfig) -> None:
    """Run `bigr outpaint`."""
    run = session(config, "outpaint")
    grid, size = run.model.generator.config.grid_size, run.model.img_size
    margin = round(grid * (1 - config.keep) / 2) if 0 < config.keep < 1 else 0
    if not 0 < margin < grid / 2:
        raise ValueError(
            f"--keep {config.keep} was given; of {grid} x {grid} tokens it must leave some to keep and some to draw: give a number between "
            f"{1 / grid:.3g} and {1 - 1 / grid:.3g}."
        )
    pixels = margin * size // grid
    images, _ = read_pictures(config, run)
    drawn = conditions_of(run, len(config.images))
    inner = size - 2 * pixels
    if config.shrink:
        parts = torch.nn.functional.interpolate(images, size=(inner, inner), mode="bicubic", antialias=True).clamp(0, 1)
    else:
        parts = images[:, :, pixels : pixels + inner, pixels : pixels + inner]
    results = run.draw(
        len(images), lambda part, calls: editing.outpaint(run.model, parts[part], **drawn.of(part), blend=config.blend, **calls).images
    )
    masks = (~regions.box_mask(size, pixels, pixels, inner, inner)).expand(len(images), size, size)
    canvas = torch.nn.functional.pad(parts, (pixels,) * 4)
    finish(run, config, canvas, masks, results, drawn, keep=config.keep, shrink=config.shrink, before=images)


def enrich(config: EnrichConfig) -> None:
    """Run `bigr enrich`."""
    run = session(config, "enrich")
    size = run.model.img_size
    if not 0 <= config.shrink_to <= size:
        raise ValueError(f"--shrink-to {config.shrink_to} was given; give 1..{size} pixels, or 0 to leave the pictures as they are.")
    asked = conditions_of(run, len(config.images))
    small = [read_small(source, config, run) for source in config.images]

    def draw(part: slice, calls: dict) -> Tensor:
        """One by one, as they may differ in size; the steps of the first are looked at."""
        images = []
        for i in range(len(small))[part]:
            own = {**calls, "seeds": [config.seed + i], "on_step": calls["on_step"] if i == part.start else None}
            images.append(editing.enrich(run.model, small[i], **asked.of(slice(i, i + 1)), num_passes=config.num_passes, **own).images)
        return torch.cat(images)

    results = run.draw(len(small), draw, passes=config.num_passes)
    cells = [[to_uint8(one)[0], result] for one, result in zip(small, to_uint8(results), strict=True)]
    facts = {"num_passes": config.num_passes, "shrink_to": config.shrink_to}
    run.save(pictures.sheet(cells, columns=["given", "enriched"]), results, stems(config.images), **asked.facts, **facts)


def read_pictures(config: EditingConfig, run: Session, mask: str | None = None, resize_mask: bool = False) -> tuple[Tensor, Tensor]:
    """Images (B, C, S, S) in [0, 1] and their pixel masks (B, S, S), of which there are none without `mask`."""
    from ..data.single import crop_mask, open_picture, picture_pixels, read_mask, transparency

    size, channels = run.model.img_size, run.model.in_chans
    images, masks = [], []
    for source in config.images:
        picture = open_picture(source, sample_size=size)
        warn(picture, source, run)
        images.append(picture_pixels(picture, size, channels, source, allow_transparency=mask == "alpha"))
        if mask == "alpha":
            transparent = transparency(picture)
            if transparent is None or not transparent.any():
                raise ValueError(f"--mask alpha was given, but {source} has no transparent pixel to draw anew.")
            masks.append(torch.from_numpy(crop_mask(transparent, size)))
        elif mask is not None:
            named = named_mask(mask, size)
            if named is None and not Path(mask).exists() and not mask.startswith("sample:"):
                words = ", ".join(("center", *regions.SIDES, "box:TOP,LEFT,HEIGHT,WIDTH", "alpha"))
                raise FileNotFoundError(f"--mask {mask} is no region and no file; give one of {words}, or a picture that is bright there.")
            masks.append(named if named is not None else torch.from_numpy(crop_mask(read_mask(mask, picture, source, resize_mask), size)))
    stacked = to_images(np.stack(images))
    return stacked, torch.stack(masks) if masks else torch.empty(0, size, size, dtype=torch.bool)


def warn(picture, source: str, run: Session) -> None:
    """Log what the model does not see of a picture: colours, if it is grey-trained; most pixels, if it is small."""
    from ..data.fitness import described, unseen

    grey = is_grey_trained(run.model, run.name, run.config.weights is not None)
    lost = unseen(picture, grey, run.model.img_size)
    if lost:
        log.warning("%s", one_line(f"{source}: {described(lost, grey, run.model.img_size)}"))


def named_mask(name: str, size: int) -> Tensor | None:
    """The mask (S, S) that a word or box:... stands for; None for anything else."""
    if name == "center":
        return regions.center_mask(size)
    if name in regions.SIDES:
        return regions.side_mask(size, name)
    if name.startswith("box:"):
        numbers = name[4:].split(",")
        if len(numbers) != 4 or not all(number.strip().isdigit() for number in numbers):
            raise ValueError(f"--mask {name} was given; a box is box:TOP,LEFT,HEIGHT,WIDTH in whole pixels of the model's {size} x {size}.")
        return regions.box_mask(size, *(int(number) for number in numbers))
    return None


def read_small(source: str, config: EnrichConfig, run: Session) -> Tensor:
    """Image (1, C, s, s) with s at most the model's size, or --shrink-to."""
    from ..data.single import open_picture, picture_pixels

    picture = open_picture(source, sample_size=run.model.img_size)
    warn(picture, source, run)
    side = min(*picture.size, run.model.img_size)
    side = min(side, config.shrink_to) if config.shrink_to else side
    return to_images(picture_pixels(picture, side, run.model.in_chans, source)[None])


def conditions_of(run: Session, count: int) -> Conditions:
    """A class or a prompt for each picture; the null class or an empty prompt where none was given."""
    captions = run.model.generator.config.text is not None
    if not captions:
        no_null(run.labels, run, "--labels (leave it out to draw without a class)")
    given, name = (len(run.config.text), "prompts") if captions else (len(run.labels), "labels")
    if given not in (0, 1, count):
        raise ValueError(f"{given} {name} were given for {count} pictures; give one for all, or one each.")
    times = 1 if given > 1 else count
    if captions:
        return Conditions(text=(list(run.config.text) or [""]) * times, negative=run.config.negative_text)
    return Conditions((run.labels or [run.null_class]) * times)


def finish(run: Session, config, images: Tensor, masks: Tensor, results: Tensor, drawn: Conditions, before=None, **facts) -> None:
    """Write the sheet of picture, region and result."""
    first = to_uint8(images if before is None else before)
    rows = [
        [given, pictures.tint(one, mask.numpy()), result]
        for given, one, mask, result in zip(first, to_uint8(images), masks, to_uint8(results), strict=True)
    ]
    for name in ("mask", "conceal", "blend"):
        if hasattr(config, name):
            facts[name] = getattr(config, name)
    run.save(pictures.sheet(rows, columns=["given", "to draw", "result"]), results, stems(config.images), **drawn.facts, **facts)


def stems(sources: Sequence[str]) -> list[str]:
    """File names for results: those of the pictures without ending, numbered where two are alike."""
    names = [Path(source).stem if not source.startswith("sample:") else source.replace(":", "_") for source in sources]
    return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]


def to_images(pixels: np.ndarray) -> Tensor:
    """Images (B, C, S, S) in [0, 1] of uint8 pixels (B, S, S, C)."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
