"""Arrays to pictures: sheets with captions, PNG with settings inside, GIF.   H x W pixels, C channels

Functions of arrays; they know no model.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from ..storage.atomic import replacing
from .fonts import fitted

SETTINGS_KEY = "bigr_features"
PAPER, INK, FAINT = (255, 255, 255), (40, 40, 40), (235, 235, 235)


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


@dataclass(frozen=True)
class Cell:
    """A picture of a sheet with what stands around it.

    picture : uint8 array (H, W), (H, W, 1) or (H, W, 3), or a Pillow image; None leaves a grey field.
    lines : captions below the picture; one that is too long breaks after a separator, and loses its middle if that is not enough.
    frame : colour of a frame, or None.
    """

    picture: np.ndarray | Image.Image | None
    lines: tuple[str, ...] = ()
    frame: tuple[int, int, int] | None = None


def sheet(
    rows: Sequence[Sequence[np.ndarray | Image.Image | Cell | None]],
    *,
    columns: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    note: str | None = None,
    side: int = 96,
    gap: int = 4,
    shrink: bool = False,
    divide_after: int | None = None,
) -> Image.Image:
    """A grid of pictures with captions.

    Parameters
    ----------
    rows : lists of pictures or Cells
        Pictures are uint8 arrays (H, W), (H, W, 1) or (H, W, 3) or Pillow images. All are scaled to one size, keeping their shape: the
        smallest multiple of at least `side`, by repeating pixels. None leaves a place empty. Rows may differ in length.
    columns, labels : list of str, optional
        Captions above the columns (a line break starts another line, and so does the width of a picture) and at the left of the rows.
    title, note : str, optional
        Lines above everything.
    side, gap : int
        Pixels.
    shrink : bool
        Pictures larger than `side` are made smaller, so that every cell is `side` x `side`.
    divide_after : int, optional
        Draw a vertical line after so many columns.

    Raises
    ------
    ValueError
        If there is no cell, or captions do not fit the grid.
    """
    cells = [[cell if isinstance(cell, Cell | None) else Cell(cell) for cell in row] for row in rows]
    width = max((len(row) for row in cells), default=0)
    known = [cell for row in cells for cell in row if cell is not None]
    if not known or not (shrink or any(cell.picture is not None for cell in known)):
        raise ValueError("a sheet needs at least one picture.")
    if columns is not None and len(columns) != width:
        raise ValueError(f"{len(columns)} column captions were given for {width} columns.")
    if labels is not None and len(labels) != len(cells):
        raise ValueError(f"{len(labels)} row captions were given for {len(cells)} rows.")
    breadth, height = (side, side) if shrink else _common_size(known, side)
    font, small = max(10, side // 9), max(9, side // 12)  # sizes in pixels
    line = _text_size("Ag", small)[1] + 2
    if columns is not None:
        columns = ["\n".join(part for one in text.split("\n") for part in broken(one, font, breadth)) for text in columns]
    texts = {id(cell): [part for text in cell.lines for part in broken(text, small, breadth)] for cell in known}
    below = max(map(len, texts.values())) * line
    left = gap + max((_text_size(text, font)[0] for text in labels or [""]), default=0) + (gap if labels else 0)
    head = sum(_text_size(text, font)[1] + 2 * gap for text in (title, note) if text)
    top = head + (max(_text_size(text, font)[1] for text in columns) + gap if columns else 0) + gap
    step = breadth + gap, height + below + (2 * gap if below else gap)
    total = left + width * step[0] + (2 * gap if divide_after else 0), top + len(cells) * step[1]
    canvas = Image.new("RGB", (max(total[0], *(_text_size(text or "", font)[0] + 2 * gap for text in (title, note))), total[1]), PAPER)
    pen, y = ImageDraw.Draw(canvas), gap
    for text in filter(None, (title, note)):
        _write(pen, (gap, y), text, font)
        y += _text_size(text, font)[1] + 2 * gap
    starts = [left + column * step[0] + (2 * gap if divide_after and column >= divide_after else 0) for column in range(width)]
    for x, text in zip(starts, columns or [], strict=False):
        _write(pen, (x + breadth / 2, top - gap), text, font, anchor="md", align="center")
    for index, row in enumerate(cells):
        y = top + index * step[1]
        if labels:
            _write(pen, (gap, y + height / 2), labels[index], font, anchor="lm")
        if divide_after and len(row) > divide_after:
            x = starts[divide_after] - 3 * gap // 2
            pen.line([(x, y), (x, y + height + below)], fill=(150, 150, 150), width=2)
        for x, cell in zip(starts, row, strict=False):
            if cell is not None:
                _draw_cell(canvas, pen, cell, (x, y), (breadth, height))
                for i, text in enumerate(texts[id(cell)]):
                    _write(pen, (x, y + height + 2 + i * line), text, small)
    return canvas


def _draw_cell(canvas: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell, corner, size: tuple[int, int]) -> None:
    (left, top), (breadth, height) = corner, size
    picture = _as_image(cell.picture)
    if picture is None or picture.size[0] * height != picture.size[1] * breadth:
        pen.rectangle([left, top, left + breadth - 1, top + height - 1], fill=FAINT)
    if picture is not None:
        scale = min(breadth / picture.size[0], height / picture.size[1])
        fitted = max(1, round(picture.size[0] * scale)), max(1, round(picture.size[1] * scale))
        picture = picture.resize(fitted, Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST)
        canvas.paste(picture, (left + (breadth - fitted[0]) // 2, top + (height - fitted[1]) // 2))
    if cell.frame is not None:
        pen.rectangle([left, top, left + breadth - 1, top + height - 1], outline=cell.frame, width=max(2, breadth // 40))


def _common_size(cells: Sequence[Cell], side: int) -> tuple[int, int]:
    """Width and height that hold every picture, each enlarged to at least `side`."""
    sizes = [picture.size for picture in map(_as_image, (cell.picture for cell in cells)) if picture is not None]
    factors = [max(1, -(-side // max(size))) for size in sizes]
    grown = [(width * factor, height * factor) for (width, height), factor in zip(sizes, factors, strict=True)]
    return max(width for width, _ in grown), max(height for _, height in grown)


def _as_image(picture: np.ndarray | Image.Image | None) -> Image.Image | None:
    return Image.fromarray(_rgb(picture)) if isinstance(picture, np.ndarray) else picture


def _rgb(cell: np.ndarray) -> np.ndarray:
    cell = cell[..., None] if cell.ndim == 2 else cell
    return cell.repeat(3, axis=-1) if cell.shape[-1] == 1 else cell


def _write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, **how) -> None:
    text, font = fitted(text, size)
    pen.multiline_text(place, text, INK, font=font, **how)


def _text_size(text: str, size: int) -> tuple[int, int]:
    text, font = fitted(text, size)
    box = ImageDraw.Draw(Image.new("RGB", (1, 1))).multiline_textbbox((0, 0), text, font=font)
    return round(box[2] + 0.5), round(box[3] + 0.5)


def broken(text: str, size: int, width: int) -> list[str]:
    """A caption in one line, or in two that break after a separator (space, / _ - . or a comma); what is still too long loses its middle.

    Parameters
    ----------
    text : str
    size, width : int
        Size of the letters and width of the lines, pixels.
    """
    if _length(text, size) <= width:
        return [text]
    first = ""
    for part in re.findall(r"[^\s/_.,-]*[\s/_.,-]?", text):
        if _length(first + part, size) > width:
            break
        first += part
    if not first.strip():
        return [_shortened(text, size, width)]
    return [first.rstrip(), _shortened(text[len(first) :], size, width)]


def _shortened(text: str, size: int, width: int) -> str:
    """The text, its middle left out if it is too long."""
    if _length(text, size) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and _length(shorter := f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}", size) > width:
        kept -= 1
    return shorter


def _length(text: str, size: int) -> float:
    text, font = fitted(text, size)
    return font.getlength(text)


def save_png(path: str | Path, image: Image.Image, settings: dict | None = None) -> None:
    """Write a PNG, whole or not at all, with `settings` as JSON in its text chunk "bigr_features"; `read_settings` gives them back."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} does not end in .png; settings are kept inside PNG files, so give such a name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(png_bytes(image, settings))


def png_bytes(image: Image.Image, settings: dict | None = None) -> bytes:
    """What `save_png` writes."""
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    if settings is not None:
        info.add_itxt(SETTINGS_KEY, json.dumps(settings, allow_nan=False))
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_settings(path: str | Path | IO[bytes]) -> dict:
    """The settings inside a PNG that `save_png` wrote, or an open file of it.

    Raises
    ------
    ValueError
        If the file holds none.
    """
    with Image.open(path) as image:
        text = getattr(image, "text", {}).get(SETTINGS_KEY)
    if text is None:
        path = path if isinstance(path, str | Path) else "the picture"
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
