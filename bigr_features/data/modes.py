"""Any picture that Pillow opens as an upright picture in RGB or gray, 8 bits a channel: modes, bit depths, transparency, rotation.

Gray pictures of 9 to 16 bits are scaled by the range of their format, never by the values that happen to be in them; where the range is
not known, the picture is refused. Transparent pictures are laid on white.
"""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, ImageOps

CHANNEL_MODES = {1: "L", 3: "RGB"}
GROUND = "white"  # of transparent pictures
_BITS_PER_SAMPLE = 258  # tag of TIFF
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_DEEP_IN_32_BITS = ("PPM", "PNG")  # formats whose 16-bit gray Pillow may hold in its 32-bit mode I


def upright(image: Image.Image, in_chans: int = 3) -> Image.Image:
    """The decoded picture in RGB or gray, turned upright by its EXIF tag; transparent ones on a white ground.

    Raises
    ------
    ValueError
        For gray values of unknown range: integers of 32 bits, signed ones of 16 bits, or floats outside [0, 1].
    """
    image.load()
    image = turned(eight_bits(image))
    if image.has_transparency_data:
        image = on_ground(image)
    mode = CHANNEL_MODES[in_chans]
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")  # resizing needs full colours, and no palette
    return image if image.mode == mode else image.convert(mode)


def turned(image: Image.Image) -> Image.Image:
    """The picture turned upright by its EXIF tag; itself, not a copy, if it is."""
    return image if image.getexif().get(ExifTags.Base.Orientation, 1) == 1 else ImageOps.exif_transpose(image)


def on_ground(image: Image.Image) -> Image.Image:
    """A picture with an alpha channel or a transparent colour, laid on white, in RGB."""
    image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))  # premultiplied colours convert to these only
    image = image.convert("RGBA")
    colours, alpha = image.convert("RGB"), image.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return colours
    ground = Image.new("RGB", image.size, GROUND)
    ground.paste(colours, mask=alpha)
    return ground


def eight_bits(image: Image.Image) -> Image.Image:
    """A gray picture of more than 8 bits with 8 (and an alpha channel, if it has a transparent value); any other as it is.

    Integers of 9 to 16 bits keep their highest 8; floats are taken to lie between 0 (black) and 1 (white).

    Raises
    ------
    ValueError
        As `upright`.
    """
    if image.mode == "F":
        values = _of_floats(np.asarray(image))
    elif image.mode == "I" or image.mode.startswith("I;16"):
        values = (np.asarray(image) >> (_bits(image) - 8)).astype(np.uint8)
    else:
        return image
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        values = 255 - values
    shallow = Image.fromarray(values)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = Image.fromarray(np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8))
        shallow = Image.merge("LA", (shallow, alpha))
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    if orientation is not None:
        shallow.getexif()[ExifTags.Base.Orientation] = orientation
    return shallow


def _bits(image: Image.Image) -> int:
    """How many bits the range of a gray picture's integers has, by its format."""
    if image.mode.startswith("I;16"):
        given = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0]
        return given if 8 < given <= 16 else 16
    if image.format in _DEEP_IN_32_BITS:
        return 16
    raise ValueError("its gray values are integers of 32 bits or with a sign, whose range is not known; save it with 8 or 16 bits")


def _of_floats(values: np.ndarray) -> np.ndarray:
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"its gray values are floats between {values.min():.4g} and {values.max():.4g}, whose range is not known; "
            "save it with 8 or 16 bits, or with floats in [0, 1]"
        )
    return np.round(values * 255).astype(np.uint8)
