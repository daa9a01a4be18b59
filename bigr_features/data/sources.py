"""What a source of images can be: a sample, a folder of images, a table on disk, or a data set on the Hub."""

from __future__ import annotations

from pathlib import Path

from .folders import folder_items, image_suffixes
from .items import Arrays, Files, Items
from .samples import load_sample
from .tables import is_saved, table_files, table_items


def open_items(source: str, split: str, labelled: bool = True) -> Items:
    """The images of a split of whatever `source` names; see `images.open_images`."""
    items = _open(source, split, labelled)
    if not labelled:
        items.labels = items.class_names = None
    return items


def _open(source: str, split: str, labelled: bool) -> Items:
    path = Path(source)
    if source.startswith("sample:"):
        return sample_items(source.removeprefix("sample:"), split)
    if path.is_file():
        return Files([path]) if path.suffix.lower() in image_suffixes() else table_items(source, split)
    if path.is_dir():
        return table_items(source, split) if is_saved(path) or table_files(path) else folder_items(path, split, labelled)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise FileNotFoundError(f"there is no file or folder {source}.")
    return table_items(source, split)


def require_source(source: str, split: str) -> None:
    """Raise FileNotFoundError for a source that is not there, before anything costly is done with it."""
    if not source.startswith("sample:") and not Path(source).exists():
        open_items(source, split)


def sample_items(name: str, split: str) -> Arrays:
    """The images of a sample that needs no download."""
    sample = load_sample(name)
    if split not in ("train", "test"):
        raise ValueError(f"sample:{name} has no split {split!r}; choose train or test.")
    images, labels = getattr(sample, f"{split}_images"), getattr(sample, f"{split}_labels")
    items = Arrays(images, name, labels, sample.class_names)
    items.split = split
    return items
