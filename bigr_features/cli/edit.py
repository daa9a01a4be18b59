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
from .drawing import Session, no_null, session
from .drawing_options import EditConfig, EditingConfig, EnrichConfig, InpaintConfig, OutpaintConfig
from .model_choice import is_grey_trained

log = logging.getLogger(__name__)


def inpaint(config: InpaintConfig) -> None:
    """Run `bigr inpaint`."""
    run = session(config, "inpaint")
    config = run.config
    images, masks = read_pictures(config, run)
    labels = labels_of(config, run)
    options = {"conceal": config.conceal, "blend": config.blend}
    results = run.draw(
        len(images), lambda part, calls: editing.inpaint(run.model, images[part], masks[part], labels[part], **options, **calls).images
    )
    finish(run, config, images, masks, results, labels)


def edit(config: EditConfig) -> None:
    """Run `bigr edit`."""
    run = session(config, "edit")
    config = run.config
    no_null(config.labels, run, "an edit")
    if run.model.generator.config.unconditional:
        raise ValueError(f"{config.model} was trained without labels, and an edit needs classes; take another model, or `bigr inpaint`.")
    if not config.labels and run.null_class > 20:
        raise ValueError(f"{config.model} has {run.null_class} classes; name those to draw, such as --labels 1 2 3.")
    classes = list(config.labels) or list(range(run.null_class))
    images, masks = read_pictures(config, run)
    labels = torch.tensor(classes).repeat(len(images))
    rows = torch.arange(len(images)).repeat_interleave(len(classes))
    options = {"conceal": config.conceal, "blend": config.blend}
    seeds = (config.seed + rows).tolist()
    results = run.draw(
        len(rows),
        lambda part, calls: editing.edit(run.model, images[rows[part]], masks[rows[part]], labels[part], **options, **calls).images,
        seeds=seeds,
    )
    cells = np.split(to_uint8(results), len(images))
    given = to_uint8(images)
    sheet = pictures.sheet(
        [[one, pictures.tint(one, mask.numpy()), *own] for one, mask, own in zip(given, masks, cells, strict=True)],
        columns=["given", "to draw", *map(run.title, classes)],
    )
    names = [f"{stem}_class_{label}" for stem in stems(config.images) for label in classes]
    run.save(sheet, results, names, labels=labels.tolist(), mask=config.mask, conceal=config.conceal, blend=config.blend)


def outpaint(config: OutpaintConfig) -> None:
    """Run `bigr outpaint`."""
    run = session(config, "outpaint")
    config = run.config
    grid, size = run.model.generator.config.grid_size, run.model.img_size
    margin = round(grid * (1 - config.keep) / 2) if 0 < config.keep < 1 else 0
    if not 0 < margin < grid / 2:
        raise ValueError(
            f"--keep {config.keep} was given; of {grid} x {grid} tokens it must leave some to keep and some to draw: give a number between "
            f"{1 / grid:.3g} and {1 - 1 / grid:.3g}."
        )
    pixels = margin * size // grid
    images, _ = read_pictures(config, run, wants_mask=False)
    labels = labels_of(config, run)
    inner = size - 2 * pixels
    if config.shrink:
        parts = torch.nn.functional.interpolate(images, size=(inner, inner), mode="bicubic", antialias=True).clamp(0, 1)
    else:
        parts = images[:, :, pixels : pixels + inner, pixels : pixels + inner]
    results = run.draw(
        len(images), lambda part, calls: editing.outpaint(run.model, parts[part], labels[part], blend=config.blend, **calls).images
    )
    masks = (~regions.box_mask(size, pixels, pixels, inner, inner)).expand(len(images), size, size)
    canvas = torch.nn.functional.pad(parts, (pixels,) * 4)
    finish(run, config, canvas, masks, results, labels, keep=config.keep, shrink=config.shrink, before=images)


def enrich(config: EnrichConfig) -> None:
    """Run `bigr enrich`."""
    run = session(config, "enrich")
    config = run.config
    size = run.model.img_size
    if not 0 <= config.shrink_to <= size:
        raise ValueError(f"--shrink-to {config.shrink_to} was given; give 1..{size} pixels, or 0 to leave the pictures as they are.")
    labels = labels_of(config, run)
    small = [read_small(source, config, run) for source in config.images]

    def drawn(part: slice, calls: dict) -> Tensor:
        """One by one, as they may differ in size; the steps of the first are looked at."""
        images = []
        for i in range(len(small))[part]:
            own = {**calls, "seeds": [config.seed + i], "on_step": calls["on_step"] if i == part.start else None}
            images.append(editing.enrich(run.model, small[i], labels[i : i + 1], num_passes=config.num_passes, **own).images)
        return torch.cat(images)

    results = run.draw(len(small), drawn, passes=config.num_passes)
    cells = [[to_uint8(one)[0], result] for one, result in zip(small, to_uint8(results), strict=True)]
    facts = {"num_passes": config.num_passes, "shrink_to": config.shrink_to}
    run.save(pictures.sheet(cells, columns=["given", "enriched"]), results, stems(config.images), labels=labels.tolist(), **facts)


def read_pictures(config: EditingConfig, run: Session, wants_mask: bool = True) -> tuple[Tensor, Tensor | None]:
    """Images (B, C, S, S) in [0, 1] and their pixel masks (B, S, S)."""
    from ..data.single import crop_mask, open_picture, picture_pixels, read_mask, transparency

    size, channels = run.model.img_size, run.model.in_chans
    images, masks = [], []
    for source in config.images:
        picture = open_picture(source, sample_size=size)
        warn(picture, source, run)
        mask = config.mask if wants_mask else "none"
        images.append(picture_pixels(picture, size, channels, source, allow_transparency=mask == "alpha"))
        if mask == "alpha":
            transparent = transparency(picture)
            if transparent is None or not transparent.any():
                raise ValueError(f"--mask alpha was given, but {source} has no transparent pixel to draw anew.")
            masks.append(torch.from_numpy(crop_mask(transparent, size)))
        elif wants_mask:
            named = named_mask(mask, size)
            masks.append(
                named if named is not None else torch.from_numpy(crop_mask(read_mask(mask, picture, source, config.resize_mask), size))
            )
    stacked = to_images(np.stack(images))
    return stacked, torch.stack(masks) if masks else None


def warn(picture, source: str, run: Session) -> None:
    """Log what the model does not see of a picture: colours, if it is grey-trained; most pixels, if it is small."""
    from ..data.fitness import described, unseen

    grey = is_grey_trained(run.model, run.config.model, run.config.weights is not None)
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


def labels_of(config: EditingConfig, run: Session) -> Tensor:
    """One label for each picture; the null class where none was given."""
    no_null(config.labels, run, "--labels (leave it out to draw without a class)")
    count = len(config.images)
    if len(config.labels) not in (0, 1, count):
        raise ValueError(f"{len(config.labels)} labels were given for {count} pictures; give one for all, or one each.")
    labels = list(config.labels) or [run.null_class]
    return torch.tensor(labels * count if len(labels) == 1 else labels)


def finish(run: Session, config, images: Tensor, masks: Tensor, results: Tensor, labels: Tensor, before=None, **facts) -> None:
    """Write the sheet of picture, region and result."""
    first = to_uint8(images if before is None else before)
    rows = [
        [given, pictures.tint(one, mask.numpy()), result]
        for given, one, mask, result in zip(first, to_uint8(images), masks, to_uint8(results), strict=True)
    ]
    for name in ("mask", "conceal", "blend"):
        if hasattr(config, name):
            facts[name] = getattr(config, name)
    run.save(pictures.sheet(rows, columns=["given", "to draw", "result"]), results, stems(config.images), labels=labels.tolist(), **facts)


def stems(sources: Sequence[str]) -> list[str]:
    """File names for results: those of the pictures without ending, numbered where two are alike."""
    names = [Path(source).stem if not source.startswith("sample:") else source.replace(":", "_") for source in sources]
    return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]


def to_images(pixels: np.ndarray) -> Tensor:
    """Images (B, C, S, S) in [0, 1] of uint8 pixels (B, S, S, C)."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
