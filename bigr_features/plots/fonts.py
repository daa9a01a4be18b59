"""Fonts for texts in pictures, such as file names in any script: a character is drawn, or escaped, but never a box."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont


def fitted(text: str, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text as it can be drawn, and the font to draw it with.

    Parameters
    ----------
    text : str
    size : int
        Pixels.

    Returns
    -------
    text : str
        Characters that no font here has are written as their escapes, such as \\u65e5.
    font : ImageFont.FreeTypeFont
        DejaVu Sans, which comes with matplotlib and has Latin, Greek, Cyrillic and symbols; a font of the system where that has what
        DejaVu lacks.
    """
    needed = {ord(character) for character in text if not character.isspace()}
    own = _characters(_dejavu())
    if needed <= own:
        return text, _font(_dejavu(), size)
    for path in _system_fonts():
        if needed <= _characters(path):
            return text, _font(path, size)
    drawable = "".join(c if c.isspace() or ord(c) in own else c.encode("unicode_escape").decode("ascii") for c in text)
    return drawable, _font(_dejavu(), size)


@lru_cache(maxsize=1)
def _dejavu() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


@lru_cache(maxsize=256)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=256)
def _characters(path: str) -> frozenset[int]:
    """Code points that a font has; none of a file that cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[str, ...]:
    """Fonts of the system, those that are made for many scripts first."""
    from matplotlib.font_manager import findSystemFonts

    found = sorted(findSystemFonts())
    broad = ("notosanscjk", "unifont", "arialunicode", "noto", "droidsansfallback", "wqy")
    return tuple(sorted(found, key=lambda path: next((i for i, name in enumerate(broad) if name in Path(path).name.lower()), len(broad))))
