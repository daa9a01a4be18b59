"""Folders of image files: which files are images, which folders are classes, splits, or neither."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ..functional.checks import some
from ..functional.printing import one_line
from .items import Files
from .splits import choose_split, split_of

log = logging.getLogger(__name__)

# What Pillow registers besides pictures: films, and containers of data whose contents it cannot decode.
NO_PICTURES = ("MPEG", "BUFR", "GRIB", "HDF5")
# Pictures that Pillow does not read by itself; listed, so that they are counted as skipped and not left out in silence.
OTHER_SUFFIXES = (
    ".heic", ".heif", ".hif", ".avif", ".jxl", ".jxr", ".jp2", ".svg", ".svgz", ".exr", ".hdr", ".dcm", ".dng", ".cr2", ".cr3", ".nef",
    ".arw", ".orf", ".rw2", ".raf", ".psb", ".xcf",
)  # fmt: skip
# Folders and files of operating systems, storage boxes and archivers, besides the hidden ones, whose names begin with a dot.
SYSTEM_NAMES = {
    "__macosx", "__pycache__", "$recycle.bin", "system volume information", "lost+found", "lost.dir", "found.000", "thumbs.db",
    "ehthumbs.db", "desktop.ini", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@__thumb", "#recycle", "#snapshot", "~snapshot",
    "network trash folder", "temporary items", "icon\r",
}  # fmt: skip


def image_suffixes() -> tuple[str, ...]:
    """Endings, in lower case, of the files that Pillow can read as pictures, with the plugins that are registered; the usual ones first."""
    Image.preinit()  # the usual formats first, as `Image.open` alone would have them: else each JPEG is offered to 24 other readers
    Image.init()
    usual = (".png", ".jpg", ".jpeg", ".webp")
    readable = {*Image.OPEN, "MPO"} - set(NO_PICTURES)  # the JPEG plugin opens MPO files
    return tuple(dict.fromkeys([*usual, *sorted(end for end, kind in Image.registered_extensions().items() if kind in readable)]))


def is_left_out(name: str) -> bool:
    """Whether a file or folder is hidden, or belongs to a system and not to a data set."""
    return name.startswith(".") or name.casefold() in SYSTEM_NAMES


def folder_items(folder: Path, split: str, labelled: bool = True) -> Files:
    """The images of a folder; see `images.open_images`. Without labels, they are those of every folder below."""
    splits, note = splits_of(folder)
    if not splits:
        return _files(folder, split, note, labelled)
    name = choose_split(split, splits, folder)
    items = _files(folder / name, "train", note, labelled)
    items.split = name
    return items


def _files(folder: Path, split: str, note: str, labelled: bool) -> Files:
    """The images of a folder that consists of no splits."""
    if split_of(split) != "train":
        raise ValueError(f"{folder} has no folders of splits, so its only split is 'train', not {split!r}.{note}")
    left_out: list[str] = []
    paths = sorted(image_paths(folder, left_out=left_out), key=lambda path: path.parts)
    if left_out:
        log.info("left out hidden and system folders below %s: %s", one_line(folder), one_line(some(dict.fromkeys(left_out))))
    depth = len(folder.parts)
    loose, suffixes = [path for path in paths if len(path.parts) == depth + 1], image_suffixes()
    if not labelled or len(loose) == len(paths):
        return Files(paths)
    readable = [path for path in loose if path.suffix.lower() in suffixes]
    classes = sorted({path.parts[depth] for path in paths if len(path.parts) > depth + 1})
    if readable:
        raise ValueError(
            f"{folder} has both class folders ({one_line(classes[0])}, ...) and loose images ({one_line(readable[0].name)}, ...); "
            "take all of them without labels (--no-labels; labelled=False in Python), or move the loose ones into a class folder."
        )
    if loose:
        log.warning("left out beside the class folders of %s: %s", one_line(folder), one_line(some(path.name for path in loose)))
    paths = [path for path in paths if len(path.parts) > depth + 1]
    numbers = {name: i for i, name in enumerate(classes)}
    return Files(paths, [numbers[path.parts[depth]] for path in paths], classes)


def splits_of(folder: Path) -> tuple[list[str], str]:
    """Names of the folders of splits that a folder consists of; none if it holds classes. And a note on names not taken for splits.

    Raises
    ------
    ValueError
        If folders of splits lie beside other folders of images, and it cannot be told whether all are classes.
    """
    below = [folder / name for name, is_folder in sorted(_entries(folder)) if is_folder and not is_left_out(name)]
    named = [path for path in below if split_of(path.name)]
    filled = [path for path in named if holds_images(path)]
    if not filled:
        return [], ""
    others = [path for path in below if path not in named and holds_images(path)]
    if not others:
        loose = sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix.lower() in image_suffixes())
        if loose:
            log.warning("left out beside the splits of %s: %s", one_line(folder), one_line(some(loose)))
        return [path.name for path in named], ""
    nested = any(path.is_dir() and holds_images(path) for split in filled for path in split.iterdir())
    listed, beside = (one_line(some(path.name for path in paths)) for paths in (filled, others))
    if len(filled) > 1 or nested:
        raise ValueError(
            f"{one_line(folder)} has folders that are named like splits ({listed}) beside other folders of images ({beside}). If they are "
            f"splits, move the others away, or give one as the source, such as {one_line(filled[0])}; if all are classes, rename {listed}."
        )
    log.info("%s in %s is taken for a class, like %s beside it", listed, one_line(folder), beside)
    return [], f" {listed} is taken for a class, because {beside} lies beside it."


def holds_images(folder: Path) -> bool:
    """Whether there is an image anywhere below."""
    return not is_left_out(folder.name) and next(image_paths(folder), None) is not None


def image_paths(folder: Path, left_out: list[str] | None = None) -> Iterator[Path]:
    """Everything below a folder that is named like an image, readable or not; a folder so named counts if it holds no image.

    Links to folders are followed, except to a folder that they lie in. A folder that cannot be listed is an error, not an empty one.
    Hidden and system entries are left out; the names of such folders are added to `left_out`.
    """
    return _walk(folder, {*image_suffixes(), *OTHER_SUFFIXES}, (), [] if left_out is None else left_out)


def _walk(folder: Path, suffixes: set[str], above: tuple[str, ...], left_out: list[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in above:
        return
    for name, is_folder in _entries(folder):
        if is_left_out(name):
            left_out += [name] if is_folder else []
            continue
        empty = True
        if is_folder:
            for within in _walk(folder / name, suffixes, (*above, real), left_out):
                empty = False
                yield within
        if empty and os.path.splitext(name)[1].lower() in suffixes:
            yield folder / name


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """Names in a folder, and whether they are folders or links to folders, without asking the system once for each."""
    with os.scandir(folder) as entries:
        return [(entry.name, _is_folder(entry)) for entry in entries]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
