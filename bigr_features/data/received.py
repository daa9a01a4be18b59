"""A picture that somebody sent, as bytes: nothing about it is believed before it is looked at."""

from __future__ import annotations

import io
import warnings

from PIL import Image

from .items import reason_of
from .modes import upright

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # none that runs another program, as EPS does
MOST_PIXELS = 50_000_000


def received_picture(content: bytes, name: str = "the picture", most_pixels: int = MOST_PIXELS) -> Image.Image:
    """An upright picture in RGB; of an animation, its first frame.

    Parameters
    ----------
    content : bytes
        PNG, JPEG, WebP, BMP, GIF, TIFF or PPM.
    name : str
        What errors call it.
    most_pixels : int
        Width times height, read from the header: a larger picture is refused before it is decoded.

    Raises
    ------
    ValueError
        If it is no picture, too large, damaged, or of gray values whose range is not known.
    """
    if not content:
        raise ValueError(f"{name} is empty; give a picture.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is the stricter one
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ValueError(f"{name} has more than {most_pixels:,} pixels; give a smaller one.") from None
    except Exception:  # decoders raise almost anything on what is no image
        raise ValueError(f"{name} is no picture that can be read; give {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.") from None
    if image.width * image.height > most_pixels:
        raise ValueError(f"{name} has {image.width} x {image.height} pixels; at most {most_pixels:,} are read. Give a smaller one.")
    try:
        return upright(image)
    except Exception as error:
        raise ValueError(f"{name} cannot be read as a picture ({reason_of(error)}).") from error
