"""Tables with a column of images, read by the `datasets` library: parquet, arrow, saved data sets, and data sets on the Hub."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
from PIL import Image

from ..functional.checks import some
from ..functional.printing import one_line
from .folders import is_left_out
from .hub import cache_named, hub_tables
from .items import Items, stamp_of
from .labels import class_indices
from .splits import choose_split

log = logging.getLogger(__name__)

IMAGE_COLUMNS = ("image", "img", "picture", "photo", "images", "imgs", "pictures", "photos", "pixels", "jpg", "jpeg", "png", "webp")
LABEL_COLUMNS = (
    "label", "labels", "class", "fine_label", "cls", "target", "targets", "category", "class_id", "class_idx", "class_index", "class_label",
    "label_id", "label_idx", "category_id", "classes", "categories", "class_name", "label_name", "y",
)  # fmt: skip
SURE_LABELS = ("label", "labels", "class", "fine_label")
TABLE_SUFFIXES = {".parquet": "parquet", ".arrow": "arrow"}
SAVED = ("state.json", "dataset_dict.json")  # of `Dataset.save_to_disk`


class TableItems(Items):
    """Rows of a column of images, called SOURCE[SPLIT][0], ..."""

    def __init__(self, table, column: str, source: str, split: str, labels=None, class_names=None):
        super().__init__(len(table), labels, class_names)
        self.table, self.column, self.source, self.split = table, column, source, split

    def values(self, column: str) -> list:
        """What another column holds, of every row of the table."""
        return list(self.table[column])

    def _load(self, place: int) -> Image.Image:
        entry = self.table[place][self.column]
        if entry is None:
            raise ValueError("the row holds no image")
        return Image.open(io.BytesIO(entry["bytes"]) if entry["bytes"] is not None else entry["path"])

    def _name(self, place: int) -> str:
        return f"{self.source}[{self.split}][{place}]"

    def _source_stamp(self) -> list:
        path = Path(self.source)
        if path.is_file():
            return stamp_of(path)
        return [[file.relative_to(path).as_posix(), *stamp_of(file)] for file in sorted(table_files(path))] if path.is_dir() else []


def table_items(source: str, split: str) -> TableItems:
    """The images of a split of a table; see `images.open_images`."""
    with cache_named(source):
        return _read_table(source, split)


def _read_table(source: str, split: str) -> TableItems:
    try:
        import datasets
    except ImportError as error:
        raise ImportError("reading parquet, arrow and Hub data sets needs `datasets`: pip install bigr-features[train]") from error
    path = Path(source)
    if is_saved(path):
        loaded = datasets.load_from_disk(source)
        tables = loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    elif path.is_file():
        kind = TABLE_SUFFIXES.get(path.suffix.lower())
        if kind is None:
            raise ValueError(f"{source} is no image data set that can be opened; give a folder, or a .parquet or .arrow file.")
        tables = {split: datasets.load_dataset(kind, data_files=source, split="train")}
    else:
        tables = datasets.load_dataset(source) if path.is_dir() else hub_tables(source)
    split = choose_split(split, list(tables), source)
    table = tables[split]
    column = image_column(table, source)
    labels, names = labels_of(table, column, source)
    return TableItems(table.cast_column(column, datasets.Image(decode=False)), column, source, split, labels, names)


def is_saved(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` wrote a folder."""
    return folder.is_dir() and any((folder / name).exists() for name in SAVED)


def table_files(folder: Path) -> list[Path]:
    """Parquet and arrow files of a folder and the folders in it."""
    found = [path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.suffix.lower() in TABLE_SUFFIXES]
    return [path for path in found if not any(map(is_left_out, path.relative_to(folder).parts))]


def image_column(table, source: str) -> str:
    """The column of a table that holds the pictures.

    Raises
    ------
    ValueError
        If no column holds images, or several do and none has a usual name.
    """
    kinds = {name: _kind_of_images(feature) for name, feature in table.features.items()}
    usual = sorted((name for name in kinds if name.lower() in IMAGE_COLUMNS), key=_rank(IMAGE_COLUMNS))
    found = next(filter(None, ([name for name in kinds if kinds[name] == kind] for kind in ("image", "struct", "bytes"))), [])
    chosen = next((name for name in usual if kinds[name] in ("image", "struct", "bytes")), None)
    chosen = chosen or (found[0] if len(found) == 1 else None)
    if chosen is None and found:
        raise ValueError(
            f"{source} has several columns of images ({one_line(some(found, 8))}), and it cannot be told which one holds the pictures; "
            "rename that one to 'image'."
        )
    chosen = chosen or next((name for name in usual if kinds[name] == "path"), None)
    if chosen is None:
        raise ValueError(f"{source} has no column of images; its columns are {one_line(', '.join(table.column_names))}.")
    others = [name for name in found if name != chosen]
    if others:
        log.info("%s: the images are those of column %r, not of %s", one_line(source), chosen, one_line(some(others, 8)))
    return chosen


def _kind_of_images(feature) -> str | None:
    """What a column holds: images by their type, structs of bytes and path, bytes, or what may be paths."""
    import datasets

    if isinstance(feature, datasets.Image):
        return "image"
    if isinstance(feature, dict):  # a table that was not written by `datasets`
        return "struct" if "bytes" in feature and set(feature) <= {"bytes", "path"} else None
    return {"binary": "bytes", "large_binary": "bytes", "string": "path", "large_string": "path"}.get(getattr(feature, "dtype", ""))


def labels_of(table, image: str, source: str) -> tuple[np.ndarray | None, tuple[str, ...] | None]:
    """Labels of the rows and names by label: of a column with the name of one, or else the only one whose type is a class; see `labels`.

    Raises
    ------
    ValueError
        If a column is called label or labels, and holds no class indices.
    """
    import datasets

    typed = [name for name, feature in table.features.items() if isinstance(feature, datasets.ClassLabel)]
    named = [name for name in table.column_names if name.lower() in LABEL_COLUMNS and name != image]
    named = sorted(named, key=lambda name: (name not in typed and not _is_scalar(table.features[name]), *_rank(LABEL_COLUMNS)(name)))
    for column in named or (typed if len(typed) == 1 else []):
        try:
            found = class_indices(list(table[column]), getattr(table.features[column], "names", None), f"column {column!r} of {source}")
        except ValueError as error:
            if column.lower() in SURE_LABELS:
                raise
            log.warning("not taken for labels: %s", one_line(error))
            continue
        others = [name for name in dict.fromkeys([*named, *typed]) if name != column]
        if others:
            log.info("%s: the labels are those of column %r, not of %s", one_line(source), column, one_line(some(others, 8)))
        return found
    others = [name for name in table.column_names if name != image]
    if others:
        log.warning(
            "%s is taken without labels: none of its other columns (%s) is one of labels. Rename the right one to 'label'; "
            "columns with class indices or names are looked for under %s.",
            one_line(source), one_line(", ".join(others)), ", ".join(LABEL_COLUMNS),
        )  # fmt: skip
    return None, None


def _is_scalar(feature) -> bool:
    return str(getattr(feature, "dtype", "")).startswith(("int", "uint", "float", "bool", "string", "large_string", "null"))


def _rank(names: tuple[str, ...]):
    """Sorts names by their place in a list, those in lower case first among equals."""
    return lambda name: (names.index(name.lower()) if name.lower() in names else len(names), name.lower() != name, name)
