"""What a source of images can be: a sample, a folder of images, a table on disk, or a data set on the Hub."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .pixels import read_pixels
from .samples import load_sample

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read: where it is, and why."""

    name: str
    reason: str


class Items:
    """Encoded images by number: `load(i)` gives a Pillow image, `name(i)` says where it is."""

    size: int
    in_chans: int

    def __init__(self, count: int, load: Callable, name: Callable, labels=None, class_names=None):
        self.count, self.load, self.name = count, load, name
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.class_names = None if class_names is None else tuple(class_names)

    def __len__(self) -> int:
        return self.count

    def first(self, limit: int) -> Items:
        labels = None if self.labels is None else self.labels[:limit]
        return Items(min(limit, self.count), self.load, self.name, labels, self.class_names)

    def read_into(self, i: int, pixels: np.ndarray) -> Skipped | None:
        try:
            pixels[:] = read_pixels(self.load(i), self.size, self.in_chans)
        except Exception as error:  # decoders raise almost anything on damaged files
            return Skipped(self.name(i), reason_of(error))
        return None


def reason_of(error: Exception) -> str:
    """One line that says why an image could not be read, the same in every run."""
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(error).__name__}: {error}")
    return text.replace("\n", " ")[:300]


def open_items(source: str, split: str) -> Items:
    """The images of a split of whatever `source` names; see `images.open_images`."""
    path = Path(source)
    if source.startswith("sample:"):
        return _sample_items(source.removeprefix("sample:"), split)
    if path.is_file():
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        return Items(1, lambda _: _open_file(path), lambda _: str(path)) if is_image else _table_items(source, split)
    if path.is_dir():
        if any((path / name).exists() for name in ("state.json", "dataset_dict.json")) or _has(path, (".parquet", ".arrow")):
            return _table_items(source, split)
        return _folder_items(path, split)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise FileNotFoundError(f"there is no file or folder {source}.")
    return _table_items(source, split)


def _has(folder: Path, suffixes: tuple[str, ...]) -> bool:
    return any(path.suffix in suffixes for pattern in ("*", "*/*") for path in folder.glob(pattern))


def _sample_items(name: str, split: str) -> Items:
    sample = load_sample(name)
    if split not in ("train", "test"):
        raise ValueError(f"sample:{name} has no split {split!r}; choose train or test.")
    images, labels = getattr(sample, f"{split}_images"), getattr(sample, f"{split}_labels")
    return Items(len(images), lambda i: Image.fromarray(images[i]), lambda i: f"{name}[{i}]", labels, sample.class_names)


def _folder_items(folder: Path, split: str) -> Items:
    splits = [path.name for path in folder.iterdir() if path.is_dir() and path.name in ("train", "test", "val", "validation")]
    if splits:
        if split not in splits:
            raise ValueError(f"{folder} has no split {split!r}; it has {', '.join(sorted(splits))}.")
        folder = folder / split
    elif split != "train":
        raise ValueError(f"{folder} has no folders of splits, so its only split is 'train', not {split!r}.")
    paths = sorted(_image_paths(folder))
    classes = sorted({path.relative_to(folder).parts[0] for path in paths if path.parent != folder})
    labels = None
    if classes:
        loose = [path for path in paths if path.parent == folder]
        if loose:
            raise ValueError(
                f"{folder} has both class folders ({classes[0]}, ...) and loose images ({loose[0].name}, ...); "
                "move the loose ones into a class folder, or all images into one folder for a set without labels."
            )
        labels = [classes.index(path.relative_to(folder).parts[0]) for path in paths]
    return Items(len(paths), lambda i: _open_file(paths[i]), lambda i: str(paths[i]), labels, classes or None)


def _image_paths(folder: Path, above: tuple[str, ...] = ()) -> list[Path]:
    """Everything below a folder that is named like an image, readable or not; a folder so named counts if it holds no image.

    Links to folders are followed, except to a folder that they lie in. A folder that cannot be listed is an error, not an empty one.
    """
    real = os.path.realpath(folder)
    if real in above:
        return []
    paths = []
    for path in folder.iterdir():
        within = _image_paths(path, (*above, real)) if path.is_dir() else []
        paths += within
        if not within and path.suffix.lower() in IMAGE_SUFFIXES:
            paths.append(path)
    return paths


def _open_file(path: Path) -> Image.Image:
    if path.is_symlink() and not path.exists():
        raise FileNotFoundError("a link to a file that does not exist")
    if path.exists() and not path.is_file():
        raise OSError("a folder" if path.is_dir() else "no regular file")
    return Image.open(path)


def _table_items(source: str, split: str) -> Items:
    """A table with a column of images, read by the `datasets` library."""
    try:
        import datasets
    except ImportError as error:
        raise ImportError("reading parquet, arrow and Hub data sets needs `datasets`: pip install bigr-features[train]") from error
    path = Path(source)
    if path.is_dir() and any((path / name).exists() for name in ("state.json", "dataset_dict.json")):
        loaded = datasets.load_from_disk(source)
        tables = loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    elif path.is_file():
        kind = {".parquet": "parquet", ".arrow": "arrow"}.get(path.suffix)
        if kind is None:
            raise ValueError(f"{source} is no image data set that can be opened; give a folder, or a .parquet or .arrow file.")
        tables = {split: datasets.load_dataset(kind, data_files=source, split="train")}
    else:
        try:
            tables = datasets.load_dataset(source)
        except datasets.exceptions.DatasetNotFoundError as error:
            raise FileNotFoundError(
                f"{source} is neither a local folder nor a data set on the Hub that can be reached ({error})."
            ) from error
    if split not in tables:
        raise ValueError(f"{source} has no split {split!r}; it has {', '.join(tables)}.")
    table = tables[split]
    column = _image_column(table, source)
    names = None
    label_column = next((name for name in ("label", "labels", "class", "fine_label") if name in table.column_names), None)
    labels = table[label_column] if label_column is not None else None
    if labels is not None:
        names = getattr(table.features[label_column], "names", None)
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"column {label_column!r} of {source} holds no class indices; one integer an image is expected.")
        if labels.size and labels.min() < 0:  # test splits on the Hub mark missing labels by -1
            labels = names = None
    table = table.cast_column(column, datasets.Image(decode=False))

    def load(i: int) -> Image.Image:
        entry = table[i][column]
        return Image.open(io.BytesIO(entry["bytes"]) if entry["bytes"] is not None else entry["path"])

    return Items(len(table), load, lambda i: f"{source}[{split}][{i}]", labels, names)


def _image_column(table, source: str) -> str:
    import datasets

    found = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
    found = found or [name for name in ("image", "img") if name in table.column_names]
    if not found:
        raise ValueError(f"{source} has no column of images; its columns are {', '.join(table.column_names)}.")
    return found[0]
