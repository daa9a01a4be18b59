"""Images opened again by what names them: a file, a row of a table, or an image of a sample."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from .item_reader import ID_LENGTH, pixel_id
from .items import reason_of
from .modes import upright
from .sources import open_items

_IN_A_TABLE = re.compile(r"(?P<source>.*)\[(?P<split>[^\[\]]+)\]\[(?P<number>\d+)\]", re.DOTALL)
_IN_A_SAMPLE = re.compile(r"(?P<source>\w+)\[(?P<number>\d+)\]")
_PIXEL_ID = re.compile(f"[0-9a-f]{{{ID_LENGTH}}}(-\\d+)?")


def opened(image: Image.Image | str | Path) -> Image.Image:
    """An image upright and in RGB; FileNotFoundError or ValueError if its file is not there or no image."""
    if isinstance(image, Image.Image):
        return upright(image)
    if not Path(image).is_file():
        raise FileNotFoundError(f"there is no image file {image}.")
    try:
        with Image.open(image) as encoded:
            return upright(encoded)
    except Exception as error:  # decoders raise almost anything on damaged files
        raise ValueError(f"{image} cannot be read as an image ({reason_of(error)}).") from error


def image_of(source: str | None, tables: dict | None = None, item: str = "") -> Image.Image:
    """The image that a source of a gallery names: a file, a row of a table, or an image of a sample.

    `tables` keeps what was opened, for the next call. A sample's name says nothing of its split, so that the id of the pixels decides.
    """
    tables = {} if tables is None else tables
    if source is None:
        raise FileNotFoundError("the gallery knows no source of this image")
    if os.path.exists(source):
        return Image.open(source)
    in_table, in_sample = _IN_A_TABLE.fullmatch(source), _IN_A_SAMPLE.fullmatch(source)
    if in_table:
        places = [(in_table["source"], in_table["split"], int(in_table["number"]))]
    elif in_sample:
        places = [(f"sample:{in_sample['source']}", split, int(in_sample["number"])) for split in ("train", "test")]
    else:
        raise FileNotFoundError("there is no such file any more")
    for table, split, number in places:
        if (table, split) not in tables:
            tables[table, split] = open_items(table, split)
        if number < len(tables[table, split]):
            image = tables[table, split].load(number)
            if (table, split, number) == places[-1] or not item or pixel_id(opened(image)) == item.partition("-")[0]:
                return image
    raise FileNotFoundError("there is no such image in the table any more")


def reopened(items: Iterable[tuple[str, str | None]], tables: dict, lost: dict[str, str]) -> Iterator[tuple[str, Image.Image]]:
    """Images by id and source that can be read and, where the id is one of pixels, are still the same; of the others `lost` says why."""
    for item, source in items:
        try:
            image = opened(image_of(source, tables, item))
        except Exception as error:  # decoders raise almost anything on damaged files
            lost[item] = f"{source}: {reason_of(error)}"
            continue
        if _PIXEL_ID.fullmatch(item) and pixel_id(image) != item.partition("-")[0]:
            lost[item] = f"{source} was changed since it was indexed"
            continue
        yield item, image
