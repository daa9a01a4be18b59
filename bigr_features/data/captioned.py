"""Images with captions: listings (.csv, .tsv, .jsonl, .json), columns of tables, and text files beside images.   n images"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..functional.checks import some
from ..functional.printing import one_line
from ..functional.words import cleaned
from .items import Files, Items, Skipped, stamp_of
from .splits import split_of
from .tables import TableItems

log = logging.getLogger(__name__)

LISTINGS = {".csv": ",", ".tsv": "\t", ".jsonl": None, ".json": None}
PATH_COLUMNS = ("file_name", "image", "image_path", "path", "filename", "filepath", "file_path", "file", "img", "image_file")
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "prompt", "prompts", "description", "descriptions", "sentences")
NO_CAPTION = "it has no caption"
MOST_CHARACTERS = 10_000_000  # of a field of a .csv


class ListedFiles(Files):
    """Image files that a listing names; it counts as changed when the listing does."""

    def __init__(self, paths: list[Path], listing: Path):
        super().__init__(paths)
        self.listing = listing

    def _source_stamp(self) -> list:
        return stamp_of(self.listing)


def is_listing(path: Path) -> bool:
    """Whether a path names a file that lists images."""
    return path.suffix.lower() in LISTINGS and path.is_file()


def listed_items(path: Path, split: str, captioned: bool, column: str | None = None) -> Items:
    """The images of a listing, each once, in the order of their first rows; paths are taken from the listing's folder.

    Several rows of an image, or a list in a field, are several captions of it.

    Raises
    ------
    ValueError
        For a file that cannot be read, or lacks the column of images or captions: the columns are listed.
    """
    if split_of(split) != "train":
        raise ValueError(f"{path} has no splits, so its only split is 'train', not {split!r}.")
    rows = _rows(path)
    if not rows:
        raise ValueError(f"{path} lists no image.")
    columns = list(dict.fromkeys(name for row in rows for name in row))
    image = next((name for name in PATH_COLUMNS if name in columns), None)
    if image is None:
        raise ValueError(
            f"{path} has no column of images ({some(PATH_COLUMNS, 20)}); its columns are {one_line(', '.join(map(str, columns)))}."
        )
    chosen = caption_column(columns, column, str(path), image) if captioned else None
    found: dict[str, list[str]] = {}
    for row in rows:
        name = row.get(image)
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"a row of {path} names no image in its column {image!r}: {one_line(str(row))[:200]}.")
        found.setdefault(name, []).extend(texts_of(row.get(chosen)) if chosen else [])
    paths = [path.parent / name for name in found]
    missing = [one for one in paths if not one.exists()]
    if len(missing) == len(paths):
        raise FileNotFoundError(f"none of the {len(paths)} images that {path} lists is there; the first is {one_line(missing[0])}.")
    items = ListedFiles(paths, path)
    return items.with_captions([tuple(texts) for texts in found.values()]) if captioned else items


def _rows(path: Path) -> list[dict]:
    """Rows of a listing as dictionaries."""
    delimiter = LISTINGS[path.suffix.lower()]
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if delimiter is not None:
                csv.field_size_limit(MOST_CHARACTERS)
                return [
                    {name: value for name, value in row.items() if name is not None} for row in csv.DictReader(file, delimiter=delimiter)
                ]
            text = file.read()
        content = json.loads(text) if path.suffix.lower() == ".json" else [json.loads(line) for line in text.splitlines() if line.strip()]
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix.lower()[1:]} ({type(error).__name__}: {one_line(error)}).") from error
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise ValueError(f'{path} holds no list of objects; one object an image is expected, such as {{"image": ..., "caption": ...}}.')
    return content


def caption_column(columns: Iterable[str], wanted: str | None, source: str, image: str) -> str:
    """The column of captions: the one asked for, or the first with a usual name.

    Raises
    ------
    ValueError
        If there is none; the columns are listed.
    """
    columns = list(columns)
    listed = one_line(", ".join(map(str, columns)))
    if wanted is not None:
        if wanted not in columns:
            raise ValueError(f"{source} has no column {wanted!r} of captions; its columns are {listed}.")
        return wanted
    names = {str(name).lower(): name for name in columns if name != image}
    found = next((names[name] for name in CAPTION_COLUMNS if name in names), None)
    if found is None:
        raise ValueError(f"{source} has no column of captions; its columns are {listed}. Name the right one by --caption-column.")
    return found


def texts_of(value) -> list[str]:
    """Captions in a field: a text, or a list of texts, or objects with one; blank ones are left out."""
    if isinstance(value, dict):
        value = next((value[name] for name in (*CAPTION_COLUMNS, "raw") if name in value), None)
    if isinstance(value, list | tuple | np.ndarray):
        return [text for one in value for text in texts_of(one)]
    text = cleaned(value) if isinstance(value, str) else ""
    return [text] if text else []


def with_captions(items: Items, source: str, column: str | None) -> Items:
    """Items with the captions of their table's column, or of the .txt file beside each image.

    Raises
    ------
    ValueError
        For a table without such a column, files without any text beside them, and samples.
    """
    if isinstance(items, TableItems):
        chosen = caption_column(items.table.column_names, column, source, items.column)
        return items.with_captions([tuple(texts_of(value)) for value in items.values(chosen)])
    if not isinstance(items, Files):
        raise ValueError(f"{source} has no captions; give a listing, a table with a column of captions, or images with .txt files.")
    if column is not None:
        raise ValueError(f"--caption-column {column} was given, but {source} is a folder of images, whose captions are .txt files.")
    texts = [_lines(path.with_suffix(".txt")) for path in items.paths]
    if not any(texts):
        raise ValueError(
            f"no image of {source} has a caption: there is no text in, for one, {one_line(items.paths[0].with_suffix('.txt'))}. Write one "
            "a line there, or give a .csv or .jsonl file that lists images and captions."
        )
    return items.with_captions(texts)


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    return tuple(text for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines() if (text := cleaned(line)))


def described(items: Items, source: str) -> tuple[Items, list[Skipped]]:
    """The items that have a caption, and those that are skipped because they have none.

    Raises
    ------
    ValueError
        If none has one.
    """
    has = np.array([bool(texts) for texts in items.captions or ()], dtype=np.bool_)
    if not has.any():
        raise ValueError(f"none of the {len(items)} images of {source} has a caption.")
    silent = [Skipped(items.name(int(i)), NO_CAPTION) for i in np.flatnonzero(~has)]
    if silent:
        log.warning(
            "%d of %d images of %s are skipped: no caption; the first is %s", len(silent), len(items), one_line(source), silent[0].name
        )
    return (items.take(np.flatnonzero(has)) if silent else items), silent
