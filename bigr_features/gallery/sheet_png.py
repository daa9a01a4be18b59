"""Results as one picture.   Q queries, k hits"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .cards import LEGEND, Card, Result, decoded, is_marked

PAPER, INK, FAINT = (255, 255, 255), (30, 30, 30), (235, 235, 235)
SAME, OTHER = (0, 114, 178), (213, 94, 0)  # blue and vermilion, which colour-blind people tell apart
GAP = 8


def draw_sheet(results: Sequence[Result], title: str = "", note: str = "", side: int = 128) -> Image.Image:
    """A contact sheet: a row for each query, which stands at the left."""
    font, small = ImageFont.load_default(size=max(11, side // 9)), ImageFont.load_default(size=max(10, side // 11))
    line = small.getbbox("Ag")[3] + 2
    below = max(len(card.lines) for result in results for card in (result.query, *result.hits)) * line
    cell = (side + GAP, side + below + 2 * GAP)
    note = f"{note}   |   {LEGEND}" if note and is_marked(results) else note or (LEGEND if is_marked(results) else "")
    columns = 1 + max(len(result.hits) for result in results)
    top = GAP + sum(font.getbbox(text)[3] + GAP for text in (title, note) if text)
    width = max(columns * cell[0] + 3 * GAP, *(round(font.getlength(text)) + 2 * GAP for text in (title, note)))
    canvas = Image.new("RGB", (width, top + len(results) * cell[1] + GAP), PAPER)
    pen, y = ImageDraw.Draw(canvas), GAP
    for text in (title, note):
        if text:
            pen.text((GAP, y), text, INK, font=font)
            y += font.getbbox(text)[3] + GAP
    for row, result in enumerate(results):
        y = top + row * cell[1]
        _draw_card(canvas, pen, result.query, (GAP, y), side, small, line)
        pen.line([(cell[0] + GAP + GAP // 2, y), (cell[0] + GAP + GAP // 2, y + cell[1] - 2 * GAP)], fill=(150, 150, 150), width=2)
        for column, card in enumerate(result.hits, 1):
            _draw_card(canvas, pen, card, (column * cell[0] + 2 * GAP, y), side, small, line)
    return canvas


def _draw_card(canvas: Image.Image, pen: ImageDraw.ImageDraw, card: Card, corner: tuple[int, int], side: int, font, line: int) -> None:
    left, top = corner
    pen.rectangle([left, top, left + side - 1, top + side - 1], fill=FAINT)
    picture = decoded(card.picture)
    if picture is not None:
        scale = side / max(picture.size)
        size = tuple(max(1, round(edge * scale)) for edge in picture.size)
        picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
        canvas.paste(picture, (left + (side - size[0]) // 2, top + (side - size[1]) // 2))
    if card.same is not None:
        pen.rectangle([left, top, left + side - 1, top + side - 1], outline=SAME if card.same else OTHER, width=max(2, side // 40))
    for i, text in enumerate(card.lines):
        pen.text((left, top + side + 2 + i * line), _fitting(text, font, side), INK, font=font)


def _fitting(text: str, font, width: int) -> str:
    """The text, its middle left out if it is too long."""
    if font.getlength(text) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and font.getlength(shorter := f"{text[: kept // 2]}...{text[len(text) - (kept - kept // 2) :]}") > width:
        kept -= 1
    return shorter
