"""`bigr inpaint`, `bigr outpaint`, `bigr edit` and `bigr enrich`: given pictures, drawn anew in part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from ..data.pixels import to_uint8
from ..plots import pictures
from ..sampling import SamplingSettings, editing, regions
from .drawing import DrawingConfig, Session, no_null, session


@dataclass(frozen=True, kw_only=True)
class EditingConfig(DrawingConfig):
    """Options of every command that takes pictures.

    Parameters
    ----------
    images : tuple of str
        Picture files, at least as large as the model's images and centre-cropped to them; or sample:fashion_mnist:NUMBER.
    labels : tuple of int
        One class for all pictures, or one each; none draws without a class, and guidance has no effect then.
    num_reveal_steps : int, optional
        At most the number of drawn tokens; by default 20, of which those that would draw nothing are skipped.
    """

    images: tyro.conf.Positional[tuple[str, ...]]
    labels: tuple[int, ...] = ()
    num_reveal_steps: int | None = None

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(SamplingSettings)}
        SamplingSettings(**{name: value for name, value in given.items() if value is not None})
        if not self.images:
            raise ValueError("no picture was given; give files, or sample:fashion_mnist:0.")


@dataclass(frozen=True, kw_only=True)
class RegionConfig(EditingConfig):
    """Options of the commands that draw a region.

    Parameters
    ----------
    mask : str
        Region: center, left, right, top, bottom (halves), box:TOP,LEFT,HEIGHT,WIDTH in pixels of the model, alpha (transparent pixels), or
        a file of the picture's size (bright = draw anew).
    conceal : bool
        Hide what is under the mask from the encoder too, which otherwise lets known tokens see a little of it.
    blend : bool
        Fit the drawn region's brightness to its surroundings (needs OpenCV: the extra edit).
    """

    mask: str = "center"
    conceal: bool = False
    blend: bool = False


@dataclass(frozen=True, kw_only=True)
class InpaintConfig(RegionConfig):
    """Draw a region of pictures anew; by default the central square of half the side.

    Parameters
    ----------
    out : str
        PNG with picture, region and result side by side. Settings and seeds are inside.
    """

    out: str = "inpainted.png"


@dataclass(frozen=True, kw_only=True)
class EditConfig(RegionConfig):
    """Draw a region of pictures as something of another class; by default the lower half, once as each class of the model.

    Parameters
    ----------
    out : str
        PNG with picture, region and one result for each class. Settings and seeds are inside.
    labels : tuple of int
        Classes to draw, each for every picture; all classes of the model by default, if it has at most 20.
    """

    out: str = "edited.png"
    mask: str = "bottom"


@dataclass(frozen=True, kw_only=True)
class OutpaintConfig(EditingConfig):
    """Draw the surroundings of the middle of pictures, or of whole pictures that are shrunk first.

    Parameters
    ----------
    out : str
        PNG with picture, what was kept, and result side by side. Settings and seeds are inside.
    keep : float
        Share of the side that is kept in the middle, rounded to whole tokens.
    shrink : bool
        Shrink the whole picture into the middle instead of keeping its middle as it is.
    blend : bool
        Fit the drawn region's brightness to the kept one (needs OpenCV: the extra edit).
    """

    out: str = "outpainted.png"
    keep: float = 0.5
    shrink: bool = False
    blend: bool = False


@dataclass(frozen=True, kw_only=True)
class EnrichConfig(EditingConfig):
    """Give detail to small pictures: enlarge them and draw their tokens anew, a part in each pass.

    Parameters
    ----------
    images : tuple of str
        Picture files of any size, cut to a square and shrunk to the model's size if larger; or sample:fashion_mnist:NUMBER.
    out : str
        PNG with picture and result side by side. Settings and seeds are inside.
    num_passes : int
        2 or more; with more passes the result stays closer to the picture.
    shrink_to : int
        Shrink the pictures to so many pixels a side first, to see the effect; 0 leaves them.
    """

    out: str = "enriched.png"
    num_passes: int = 4
    shrink_to: int = 0


def inpaint(config: InpaintConfig) -> None:
    """Run `bigr inpaint`."""
    run = session(config, "inpaint")
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
        columns=["given", "to draw", *(f"class {label}" for label in classes)],
    )
    names = [f"{stem}_class_{label}" for stem in stems(config.images) for label in classes]
    run.save(sheet, results, names, labels=labels.tolist(), mask=config.mask, conceal=config.conceal, blend=config.blend)


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
        mask = config.mask if wants_mask else "none"
        images.append(picture_pixels(picture, size, channels, source, allow_transparency=mask == "alpha"))
        if mask == "alpha":
            transparent = transparency(picture)
            if transparent is None or not transparent.any():
                raise ValueError(f"--mask alpha was given, but {source} has no transparent pixel to draw anew.")
            masks.append(torch.from_numpy(crop_mask(transparent, size)))
        elif wants_mask:
            named = named_mask(mask, size)
            masks.append(named if named is not None else torch.from_numpy(crop_mask(read_mask(mask, picture, source), size)))
    stacked = to_images(np.stack(images))
    return stacked, torch.stack(masks) if masks else None


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
