"""Options of the commands that draw pictures: generate, interpolate, inpaint, outpaint, edit and enrich."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ..sampling.settings import SamplingSettings


@dataclass(frozen=True, kw_only=True)
class DrawingConfig(SamplingSettings):
    """Options of every command that draws.

    Parameters
    ----------
    model : str, optional
        A bigr model of timm; by default bigr_nano.fashion_mnist, and with --text bigr_nano_t2i.fashion_mnist.
    weights : Path, optional
        Weights to load instead of the model's own: a file (.safetensors, .pt, .pth, .th, .bin) or the folder of a training or export.
    model_args : tuple of str
        Arguments of timm.create_model, such as depth=4 of a generator that was trained with it.
    text : tuple of str
        A prompt; give the option once for each: --text "a dark bag" --text "a sandal".
    negative_text : str, optional
        What guidance leads away from, in place of drawing without a prompt.
    text_encoder : str, optional
        Folder or name of the text encoder, if it is not where it was when the model was trained.
    out : str
        PNG to write.
    results : Path, optional
        Folder for each image on its own, as PNG with its settings and seed inside.
    strip : Path, optional
        PNG that shows how the first image came about: tokens, entropy, and the image step by step.
    gif : Path, optional
        The same as an animation.
    seed : int
        Image i has seed + i, and depends on nothing else in its batch.
    batch_size : int
        Images in memory at a time.
    precision : str
        fp32, or bf16: half the time with BiGR-L, no gain with bigr_nano. A seed gives another picture in each.
    device : str
        auto (an accelerator if there is one) or a torch device such as cpu.
    threads : int
        CPU threads; 0 for torch's default.
    """

    model: str | None = None
    weights: Path | None = None
    model_args: tuple[str, ...] = ()
    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    negative_text: str | None = None
    text_encoder: str | None = None
    out: str = "out.png"
    results: Path | None = None
    strip: Path | None = None
    gif: Path | None = None
    seed: int = 0
    batch_size: int = 16
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    threads: int = 0


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(DrawingConfig):
    """Draw new images; with no option, a grid of all classes of bigr_nano.fashion_mnist.

    Parameters
    ----------
    out : str
        PNG with the grid: one column per class or prompt. Settings and seeds are inside (PNG text "bigr_features").
    labels : tuple of str
        Classes to draw, by name or number; all classes of the model by default, if it has at most 20.
    num_per_label : int
        Images of each class or prompt. Image i of all has seed + i, and is the same whatever else is drawn.
    unconditional : int
        Draw so many images without a class or prompt instead; 16 by default of a model that was trained without labels.
    preset : str, optional
        exact: the default of every setting. fast: Halton order, fewer steps, and guidance in the second half of them; fastest: fewer still;
        both chosen by Frechet distance to training images on bigr_nano.fashion_mnist. Options named beside a preset go
        before it; exact refuses another order, other steps and another guidance schedule.
    """

    out: str = "generated.png"
    labels: tuple[str, ...] = ()
    num_per_label: int = 2
    unconditional: int = 0
    preset: Literal["exact", "fast", "fastest"] | None = None


@dataclass(frozen=True, kw_only=True)
class InterpolateConfig(DrawingConfig):
    """Draw images between classes, or between prompts, from weighted sums of their embeddings and the same noise.

    Parameters
    ----------
    out : str
        PNG with one row of images for each seed. Settings are inside.
    labels : tuple of str
        Two or more classes, gone through in this order; by default the first two of the model. Two or more --text are gone through alike.
    num_images : int
        Images on the way, the ends included.
    mixture : tuple of float
        One weight per class or prompt: draw this one mixture instead of the way. Weights that do not sum to 1 are divided by their sum.
    num_rows : int
        Rows of images, each from another seed: seed, seed + 1, ...
    """

    out: str = "interpolated.png"
    labels: tuple[str, ...] = ("0", "1")
    num_images: int = 8
    mixture: tuple[float, ...] = ()
    num_rows: int = 2


@dataclass(frozen=True, kw_only=True)
class EditingConfig(DrawingConfig):
    """Options of every command that takes pictures.

    Parameters
    ----------
    images : tuple of str
        Picture files, at least as large as the model's images and centre-cropped to them; or sample:fashion_mnist:NUMBER.
    labels : tuple of str
        One class for all pictures, or one each, by name or number; none draws without a class, and guidance has no effect then. The same
        holds for --text.
    num_reveal_steps : int, optional
        At most the number of drawn tokens; by default 20, of which those that would draw nothing are skipped.
    """

    images: tyro.conf.Positional[tuple[str, ...]]
    labels: tuple[str, ...] = ()
    num_reveal_steps: int | None = None  # type: ignore[assignment]  # None follows from the number of drawn tokens

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
    resize_mask : bool
        Take a mask file of another size than the picture, stretched to it.
    conceal : bool
        Hide what is under the mask from the encoder too, which otherwise lets known tokens see a little of it.
    blend : bool
        Fit the drawn region's brightness to its surroundings (needs OpenCV: the extra edit).
    """

    mask: str = "center"
    resize_mask: bool = False
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
    """Draw a region of pictures as something else; by default the lower half, once as each class of the model, or as each --text.

    Parameters
    ----------
    out : str
        PNG with picture, region and one result for each class. Settings and seeds are inside.
    labels : tuple of str
        Classes to draw, by name or number, each for every picture; all classes of the model by default, if it has at most 20.
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
        Passes over the tokens, 2 or more; with more of them the result stays closer to the picture.
    shrink_to : int
        Pixels per side to which the pictures are shrunk first, to see the effect; 0 leaves them.
    """

    out: str = "enriched.png"
    num_passes: int = 4
    shrink_to: int = 0
