"""Data sets and transforms: small samples in memory, and one way to open any folder, file or Hub data set of images.

n images, S side in pixels, C channels
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

log = logging.getLogger(__name__)

SAMPLES = ("fashion_mnist", "digits")
VIEWS = {"center": 1, "flip": 2, "ten_crop": 10}
TEN_CROP_MARGIN = 1.1
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
_CHANNEL_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Sample:
    """A small labelled image set in memory, with the split that its source made.

    train_images, test_images : uint8 arrays (n, height, width), grayscale.
    train_labels, test_labels : int64 arrays (n,).
    class_names : names by label.
    source : where the images come from, and their licence.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str


def load_sample(name: str) -> Sample:
    """Real images that need no download.

    Parameters
    ----------
    name : "fashion_mnist" or "digits"
        4,000 + 2,000 images of 28 x 28 that ship with this package (of each class the first 400 of the training and the first
        200 of the test split of Fashion-MNIST), or scikit-learn's 1,797 handwritten digits of 8 x 8, of which each class's
        last fifth is the test split.

    Raises
    ------
    ValueError
        For another name.
    """
    if name == "fashion_mnist":
        with np.load(str(files("bigr_features") / "assets" / "fashion_mnist_sample" / "images.npz")) as arrays:
            train = arrays["train_images"], arrays["train_labels"].astype(np.int64)
            test = arrays["test_images"], arrays["test_labels"].astype(np.int64)
        classes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
        return Sample(name, *train, *test, classes, "Fashion-MNIST (sample), Zalando SE, MIT, arXiv:1708.07747")
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)
        labels = digits.target.astype(np.int64)
        is_test = np.zeros(len(labels), dtype=bool)
        for label in range(10):
            members = np.flatnonzero(labels == label)
            is_test[members[-len(members) // 5 :]] = True
        train, test = (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])
        return Sample(name, *train, *test, tuple("0123456789"), "Optical Recognition of Handwritten Digits, UCI, CC BY 4.0")
    raise ValueError(f"there is no sample {name!r}; choose one of {', '.join(SAMPLES)}.")


# ------------------------------------------------------------------------------------------------------- one image to pixels


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The centre crop of ADM (github.com/openai/guided-diffusion), for any size of image.

    Halve with a box filter while the short side is at least twice `size`, bring the short side to `size` with a bicubic filter
    (which also enlarges), and cut the central square.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def read_pixels(image: Image.Image, size: int, in_chans: int = 3) -> np.ndarray:
    """uint8 pixels (S, S, C): turned upright by its EXIF tag, converted to RGB or gray, centre-cropped."""
    mode = _CHANNEL_MODES[in_chans]
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # 16-bit gray: Pillow would clip it to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("P", "1", "I", "F", "CMYK", "LAB", "HSV", "YCbCr", "PA", "La", "LA"):
        image = image.convert("RGB")  # resizing needs full colours, and no palette
    if image.mode != mode:
        image = image.convert(mode)
    return np.asarray(center_crop(image, size)).reshape(size, size, in_chans)


def views_of(pixels: np.ndarray, size: int, views: str = "center") -> np.ndarray:
    """The crops and flips that count as separate views of an image.

    Parameters
    ----------
    pixels : array (n, S', S', C)
        Square images of side `side_for(size, views)`.
    size : int
        Side S of a view.
    views : "center", "flip" or "ten_crop"
        The image; the image and its mirror image; the four corners and the centre of an image that is 1.1 times as large, then
        the mirror images of the five (arXiv:2406.06525).

    Returns
    -------
    array (n, V, S, S, C)
    """
    margin = pixels.shape[1] - size
    if views == "ten_crop":
        middle = round(margin / 2)
        corners = [(0, 0), (0, margin), (margin, 0), (margin, margin), (middle, middle)]
        crops = [pixels[:, top : top + size, left : left + size] for top, left in corners]
    else:
        crops = [pixels]
    if views != "center":
        crops += [crop[:, :, ::-1] for crop in crops]
    return np.stack(crops, axis=1)


def side_for(size: int, views: str) -> int:
    """Side of the square that `views_of` cuts its views from.

    Raises
    ------
    ValueError
        For unknown views.
    """
    if views not in VIEWS:
        raise ValueError(f"views={views!r} is unknown; choose one of {', '.join(VIEWS)}.")
    return int(size * TEN_CROP_MARGIN) if views == "ten_crop" else size


# -------------------------------------------------------------------------------------------------------------- a whole split


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read: where it is, and why."""

    name: str
    reason: str


@dataclass
class ImageSet:
    """The readable images of one split.

    source, split : what was opened.
    size, in_chans : S and C.
    labels : int64 array (n,), or None.
    class_names : names by label, or None.
    skipped : images that could not be read. Complete if the pixels are in memory; otherwise it grows as images are read.
    """

    source: str
    split: str
    size: int
    in_chans: int
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    skipped: list[Skipped] = field(default_factory=list)
    _pixels: np.ndarray | None = field(default=None, repr=False)
    _items: _Items | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self._pixels) if self._pixels is not None else len(self._items)

    @property
    def in_memory(self) -> bool:
        """Whether every image is decoded already."""
        return self._pixels is not None

    def read(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of images, without those that cannot be read, which are listed in `skipped`.

        Returns
        -------
        pixels : uint8 array (r, S, S, C)
        readable : bool array (m,), of which r are True
        """
        readable = np.ones(len(indices), dtype=bool)
        if self._pixels is not None:
            return self._pixels[indices], readable
        pixels = np.empty((len(indices), self.size, self.size, self.in_chans), dtype=np.uint8)
        filled = 0
        for position, index in enumerate(indices):
            problem = self._items.read_into(int(index), pixels[filled])
            if problem is None:
                filled += 1
            else:
                readable[position] = False
                self._note(problem)
        return pixels[:filled], readable

    def _note(self, problem: Skipped) -> None:
        if problem not in self.skipped:
            self.skipped.append(problem)
            log.warning("skipped %s: %s", problem.name, problem.reason)

    def read_many(self, chunks: Iterable[np.ndarray], num_workers: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """What `read` gives for each array of indices; worker processes read ahead unless the pixels are in memory."""
        if self._pixels is not None or num_workers == 0:
            yield from map(self.read, chunks)
            return
        from torch.utils.data import DataLoader

        for pixels, readable, problems in DataLoader(_Reader(self), batch_size=None, sampler=chunks, num_workers=num_workers):
            for problem in problems:
                self._note(problem)
            yield pixels, readable


class _Reader:
    """Map from an array of indices to their pixels, for worker processes."""

    def __init__(self, images: ImageSet):
        self.images = images

    def __getitem__(self, indices):
        self.images.skipped = []
        pixels, readable = self.images.read(indices)
        return pixels, readable, self.images.skipped


def open_images(
    source: str | Path,
    split: str = "train",
    *,
    size: int,
    in_chans: int = 3,
    limit: int | None = None,
    memory_limit: int = 2 << 30,
) -> ImageSet:
    """Images of a split, as squares of `size` pixels, from wherever they are.

    Parameters
    ----------
    source : str or Path
        "sample:fashion_mnist" or "sample:digits"; a folder or file of parquet or arrow; a folder that `Dataset.save_to_disk` wrote;
        a folder of images (a subfolder for each class, or flat, which means no labels; with a folder for each split above, or none);
        otherwise the id of a data set on the Hugging Face Hub.
    split : str
        "train", "test", ... A folder without splits counts as "train".
    size, in_chans : int
        Side in pixels, and 3 (RGB; gray is repeated) or 1 (gray).
    limit : int, optional
        Take the first images only.
    memory_limit : int
        If the decoded images take at most so many bytes, they are decoded now, once; otherwise each time they are read.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no image in it.
    ValueError
        For a split that does not exist, labels that are no integers, or when no image can be read.
    """
    if in_chans not in _CHANNEL_MODES:
        raise ValueError(f"in_chans={in_chans}, but images have 3 channels (RGB) or 1 (gray).")
    items = _open_items(str(source), split)
    if limit is not None:
        items = items.first(limit)
    items.size, items.in_chans = size, in_chans
    if len(items) == 0:
        raise FileNotFoundError(
            f"{source} (split {split!r}) holds no image; give a folder with {', '.join(IMAGE_SUFFIXES[:4])}, ... files."
        )
    images = ImageSet(str(source), split, size, in_chans, items.labels, items.class_names, _items=items)
    if len(items) * size * size * in_chans <= memory_limit:
        pixels, readable = images.read(np.arange(len(items)))
        if not readable.any():
            first = images.skipped[0]
            raise ValueError(f"none of the {len(items)} images of {source} can be read; the first is {first.name}: {first.reason}.")
        images._pixels, images._items = pixels, None
        images.labels = items.labels[readable] if items.labels is not None else None
    if images.skipped:
        log.warning("%d of %d images of %s cannot be read and are skipped", len(images.skipped), len(items), source)
    return images


class _Items:
    """Encoded images by number: `load(i)` gives a Pillow image, `name(i)` says where it is."""

    size: int
    in_chans: int

    def __init__(self, count: int, load: Callable, name: Callable, labels=None, class_names=None):
        self.count, self.load, self.name = count, load, name
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.class_names = None if class_names is None else tuple(class_names)

    def __len__(self) -> int:
        return self.count

    def first(self, limit: int) -> _Items:
        labels = None if self.labels is None else self.labels[:limit]
        return _Items(min(limit, self.count), self.load, self.name, labels, self.class_names)

    def read_into(self, i: int, pixels: np.ndarray) -> Skipped | None:
        try:
            pixels[:] = read_pixels(self.load(i), self.size, self.in_chans)
        except Exception as error:  # decoders raise almost anything on damaged files
            return Skipped(self.name(i), f"{type(error).__name__}: {error}".replace("\n", " ")[:300])
        return None


def _open_items(source: str, split: str) -> _Items:
    path = Path(source)
    if source.startswith("sample:"):
        return _sample_items(source.removeprefix("sample:"), split)
    if path.is_file():
        return _table_items(source, split)
    if path.is_dir():
        if any((path / name).exists() for name in ("state.json", "dataset_dict.json")) or _has(path, (".parquet", ".arrow")):
            return _table_items(source, split)
        return _folder_items(path, split)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise FileNotFoundError(f"there is no file or folder {source}.")
    return _table_items(source, split)


def _has(folder: Path, suffixes: tuple[str, ...]) -> bool:
    return any(path.suffix in suffixes for pattern in ("*", "*/*") for path in folder.glob(pattern))


def _sample_items(name: str, split: str) -> _Items:
    sample = load_sample(name)
    if split not in ("train", "test"):
        raise ValueError(f"sample:{name} has no split {split!r}; choose train or test.")
    images, labels = getattr(sample, f"{split}_images"), getattr(sample, f"{split}_labels")
    return _Items(len(images), lambda i: Image.fromarray(images[i]), lambda i: f"{name}[{i}]", labels, sample.class_names)


def _folder_items(folder: Path, split: str) -> _Items:
    splits = [path.name for path in folder.iterdir() if path.is_dir() and path.name in ("train", "test", "val", "validation")]
    if splits:
        if split not in splits:
            raise ValueError(f"{folder} has no split {split!r}; it has {', '.join(sorted(splits))}.")
        folder = folder / split
    elif split != "train":
        raise ValueError(f"{folder} has no folders of splits, so its only split is 'train', not {split!r}.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
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
    return _Items(len(paths), lambda i: Image.open(paths[i]), lambda i: str(paths[i]), labels, classes or None)


def _table_items(source: str, split: str) -> _Items:
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

    return _Items(len(table), load, lambda i: f"{source}[{split}][{i}]", labels, names)


def _image_column(table, source: str) -> str:
    import datasets

    found = [name for name, feature in table.features.items() if isinstance(feature, datasets.Image)]
    found = found or [name for name in ("image", "img") if name in table.column_names]
    if not found:
        raise ValueError(f"{source} has no column of images; its columns are {', '.join(table.column_names)}.")
    return found[0]
