"""Arrays to pictures: sheets with captions, PNG with settings inside, GIF.   H x W pixels, C channels

Functions of arrays; they know no model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from ..storage.atomic import replacing

SETTINGS_KEY = "bigr_features"
PAPER, INK = (255, 255, 255), (40, 40, 40)


def heat(values: np.ndarray, low: float = 0.0, high: float = 1.0, missing: tuple[int, int, int] = (235, 235, 235)) -> np.ndarray:
    """Colours (..., 3), uint8, of numbers between low and high (viridis: dark is low); NaN becomes `missing`."""
    import matplotlib

    values = np.asarray(values, dtype=np.float64)
    colors = matplotlib.colormaps["viridis"](np.clip((values - low) / (high - low), 0, 1), bytes=True)[..., :3]
    return np.where(np.isnan(values)[..., None], np.array(missing, dtype=np.uint8), colors)


def tint(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int] = (230, 159, 0), strength: float = 0.75) -> np.ndarray:
    """A uint8 picture (H, W, 3) in which the pixels of mask (H, W) are coloured."""
    mixed = np.round((1 - strength) * _rgb(image) + strength * np.array(color)).astype(np.uint8)
    return np.where(mask[..., None], mixed, _rgb(image))


def enlarge(image: np.ndarray, side: int) -> np.ndarray:
    """A picture (H, W, C) or (H, W) with every pixel repeated, to at least `side` pixels; unchanged if it is that large already."""
    factor = -(-side // max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else image


def sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    *,
    columns: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    side: int = 96,
    gap: int = 4,
) -> Image.Image:
    """A grid of pictures with captions.

    Parameters
    ----------
    rows : lists of uint8 arrays (H, W, 3) or (H, W, 1)
        Cells, enlarged by repeating pixels to one size of at least `side`; None leaves a cell empty. Rows may differ in length.
    columns, labels : list of str, optional
        Captions above the columns (a line break starts a second line) and at the left of the rows.
    title : str, optional
    side, gap : int
        Pixels.

    Raises
    ------
    ValueError
        If there is no cell, or captions do not fit the grid.
    """
    cells = [[None if cell is None else enlarge(_rgb(cell), side) for cell in row] for row in rows]
    width = max((len(row) for row in cells), default=0)
    shapes = [cell.shape for row in cells for cell in row if cell is not None]
    if not shapes:
        raise ValueError("a sheet needs at least one picture.")
    if columns is not None and len(columns) != width:
        raise ValueError(f"{len(columns)} column captions were given for {width} columns.")
    if labels is not None and len(labels) != len(cells):
        raise ValueError(f"{len(labels)} row captions were given for {len(cells)} rows.")
    height, breadth = max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)
    font = ImageFont.load_default(size=max(11, side // 8))
    left = gap + max((_text_size(text, font)[0] for text in labels or [""]), default=0) + (gap if labels else 0)
    head = (_text_size(title, font)[1] + 2 * gap) if title else 0
    top = head + (max(_text_size(text, font)[1] for text in columns) + gap if columns else 0) + gap
    total = (left + width * (breadth + gap), top + len(cells) * (height + gap))
    total = (max(total[0], _text_size(title, font)[0] + 2 * gap) if title else total[0], total[1])
    canvas = Image.new("RGB", total, PAPER)
    pen = ImageDraw.Draw(canvas)
    if title:
        pen.text((gap, gap), title, INK, font=font)
    for column, text in enumerate(columns or []):
        pen.multiline_text((left + column * (breadth + gap) + breadth / 2, top - gap), text, INK, font=font, anchor="md", align="center")
    for index, row in enumerate(cells):
        y = top + index * (height + gap)
        if labels:
            pen.multiline_text((gap, y + height / 2), labels[index], INK, font=font, anchor="lm")
        for column, cell in enumerate(row):
            if cell is not None:
                picture = Image.fromarray(cell).resize((breadth, height), Image.Resampling.NEAREST)
                canvas.paste(picture, (left + column * (breadth + gap), y))
    return canvas


def _rgb(cell: np.ndarray) -> np.ndarray:
    cell = cell[..., None] if cell.ndim == 2 else cell
    return cell.repeat(3, axis=-1) if cell.shape[-1] == 1 else cell


def _text_size(text: str, font) -> tuple[int, int]:
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font=font)
    return round(box[2] + 0.5), round(box[3] + 0.5)


def save_png(path: str | Path, image: Image.Image, settings: dict | None = None) -> None:
    """Write a PNG, whole or not at all, with `settings` as JSON in its text chunk "bigr_features"; `read_settings` gives them back."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} does not end in .png; settings are kept inside PNG files, so give such a name.")
    info = PngImagePlugin.PngInfo()
    if settings is not None:
        info.add_itxt(SETTINGS_KEY, json.dumps(settings, allow_nan=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)


def read_settings(path: str | Path) -> dict:
    """The settings inside a PNG that `save_png` wrote.

    Raises
    ------
    ValueError
        If the file holds none.
    """
    with Image.open(path) as image:
        text = getattr(image, "text", {}).get(SETTINGS_KEY)
    if text is None:
        raise ValueError(f"{path} holds no settings of bigr_features; only PNG files written by it do.")
    return json.loads(text)


def save_gif(path: str | Path, frames: Sequence[Image.Image], milliseconds: int = 250, last: int = 1500) -> None:
    """Write frames as an endless GIF, each shown for `milliseconds`, the last one longer."""
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise ValueError(f"{path} does not end in .gif.")
    if not frames:
        raise ValueError("a GIF needs at least one frame.")
    path.parent.mkdir(parents=True, exist_ok=True)
    durations = [milliseconds] * (len(frames) - 1) + [max(last, milliseconds)]
    with replacing(path) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=list(frames[1:]), duration=durations, loop=0, disposal=2)
