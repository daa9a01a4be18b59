"""Statistics of a reference set, and sets of images, in the `.npz` layout of ADM's evaluator (github.com/openai/guided-diffusion).

A reference has `mu`, `sigma` (pooled features), `mu_s`, `sigma_s` (spatial features) and `arr_0` (images, for precision and recall); a set
of samples has `arr_0` alone. Ours also say which network made them, in a text `bigr_features`, which others do not read. Pickled objects
in such files are never loaded.   n images, H x W pixels, D features
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..storage.atomic import replacing

IDENTITY = "bigr_features"
_DAMAGED = (zipfile.BadZipFile, EOFError, OSError, struct.error, zlib.error, KeyError, NotImplementedError)


@dataclass(frozen=True)
class Reference:
    """What generated images are compared with.

    mean, covariance : (D,), (D, D) of pooled features.
    spatial_mean, spatial_covariance : of spatial features, or None.
    images : uint8 (n, H, W, 3), or None.
    count : images that the statistics are of; None if the file does not say.
    network : what made the features, as `MetricNetwork.identity` gives it; None if the file does not say.
    source : data set, split, size, hash of the pixels; None if the file does not say.
    """

    mean: np.ndarray
    covariance: np.ndarray
    spatial_mean: np.ndarray | None = None
    spatial_covariance: np.ndarray | None = None
    images: np.ndarray | None = None
    count: int | None = None
    network: dict | None = None
    source: dict | None = None


def write_reference(path: str | Path, reference: Reference) -> None:
    """Write a reference in ADM's layout, whole or not at all."""
    path = _npz(path)
    arrays: dict[str, Any] = {"mu": reference.mean, "sigma": reference.covariance}
    if reference.spatial_mean is not None and reference.spatial_covariance is not None:
        arrays |= {"mu_s": reference.spatial_mean, "sigma_s": reference.spatial_covariance}
    if reference.images is not None:
        arrays["arr_0"] = reference.images
    facts = {"count": reference.count, "network": reference.network, "source": reference.source}
    arrays[IDENTITY] = np.array(json.dumps(facts, allow_nan=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def read_reference(path: str | Path) -> Reference:
    """A reference of ADM or of `write_reference`.

    Raises
    ------
    FileNotFoundError
    ValueError
        For a file that is no `.npz` or is damaged, holds pickled objects, has no statistics, or arrays that do not fit one another.
    """
    path = _npz(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; make a reference with `bigr reference DATA --out {path}`.")
    found: dict[str, np.ndarray] = {}
    try:
        if not zipfile.is_zipfile(path):
            raise zipfile.BadZipFile("it is no zip archive")
        with np.load(path, allow_pickle=False) as arrays:
            for name in ("mu", "sigma", "mu_s", "sigma_s", "arr_0", IDENTITY):
                if name in arrays.files:
                    found[name] = arrays[name]
    except ValueError as error:
        raise ValueError(_pickled(path, error)) from error
    except _DAMAGED as error:
        raise ValueError(f"{path} is damaged or no .npz file ({error}); make or download it again.") from error
    if "mu" not in found or "sigma" not in found:
        has = ", ".join(found) or "nothing that is known"
        raise ValueError(f"{path} has no statistics: expected mu and sigma, found {has}. Is it a set of samples, or of another program?")
    for mean, covariance in (("mu", "sigma"), ("mu_s", "sigma_s")):
        if (mean in found) != (covariance in found):
            raise ValueError(f"{path} has only one of {mean} and {covariance}.")
        if mean in found:
            _check_statistics(path, mean, found[mean], found[covariance])
    if "arr_0" in found:
        _check_images(path, found["arr_0"].shape, found["arr_0"].dtype)
    facts = _facts(path, found[IDENTITY]) if IDENTITY in found else {}
    about = {name: facts.get(name) for name in ("count", "network", "source")}
    return Reference(found["mu"], found["sigma"], found.get("mu_s"), found.get("sigma_s"), found.get("arr_0"), **about)


def write_samples(path: str | Path, batches: Iterable[np.ndarray], count: int, labels: np.ndarray | None = None) -> None:
    """Write images as ADM's sample file: `arr_0` uint8 (n, H, W, 3), and `arr_1` the labels; batch by batch, whole or not at all.

    Parameters
    ----------
    batches : iterable of uint8 arrays (b, H, W, 3) or (b, H, W, 1), which is repeated to three channels
    count : int
        n, images in all batches.

    Raises
    ------
    ValueError
        If batches differ in size, or hold another number of images.
    """
    path = _npz(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as file:
            shape, written = None, 0
            for batch in batches:
                batch = np.asarray(batch)
                batch = np.repeat(batch, 3, axis=3) if batch.ndim == 4 and batch.shape[3] == 1 else batch
                _check_images(path, batch.shape, batch.dtype)
                if shape is None:
                    shape = batch.shape[1:]
                    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
                    np.lib.format.write_array_header_1_0(file, header)
                if batch.shape[1:] != shape:
                    raise ValueError(f"images of {batch.shape[1:]} follow images of {shape}; a sample file holds images of one size.")
                file.write(np.ascontiguousarray(batch).tobytes())
                written += len(batch)
            if written != count:
                raise ValueError(f"{written} images were given for a file of {count}.")
        if labels is not None:
            with archive.open("arr_1.npy", "w") as file:
                np.lib.format.write_array(file, np.asarray(labels, dtype=np.int64), allow_pickle=False)


class SampleFile:
    """Images of a `.npz` file, `arr_0` uint8 (n, H, W, 3), read batch by batch.

    Raises
    ------
    FileNotFoundError
    ValueError
        For a file that is no `.npz` or is damaged, pickled objects, or an `arr_0` that is no images.
    """

    def __init__(self, path: str | Path):
        self.path = _npz(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {self.path}.")
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as file:
                self.shape = self._header(file)
        except _DAMAGED as error:
            raise ValueError(f"{self.path} is no set of samples ({error}); expected a .npz with the images in arr_0.") from error

    def __len__(self) -> int:
        return self.shape[0]

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """uint8 arrays (b, H, W, 3), in order."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("arr_0.npy") as file:
                self._header(file)
                for start in range(0, self.shape[0], size):
                    shape = min(size, self.shape[0] - start), *self.shape[1:]
                    content = file.read(int(np.prod(shape)))
                    if len(content) != np.prod(shape):
                        raise EOFError("it ends too early")
                    yield np.frombuffer(content, np.uint8).reshape(shape)
        except _DAMAGED as error:
            raise ValueError(f"{self.path} is damaged ({error}); write or download it again.") from error

    def _header(self, file) -> tuple[int, ...]:
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(file)
        except ValueError as error:
            raise ValueError(f"{self.path} has an arr_0 that is no array ({error}).") from error
        if dtype.hasobject:
            raise ValueError(_pickled(self.path, "arr_0 holds objects"))
        _check_images(self.path, shape, dtype)
        if fortran:
            raise ValueError(f"arr_0 of {self.path} is stored column by column; write it with numpy.savez of a C-ordered array.")
        return shape


def _npz(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise ValueError(f"{path} does not end in .npz, as references and sample files do.")
    return path


def _pickled(path: Path, error) -> str:
    if "ickle" in str(error) or "object" in str(error):
        return f"{path} holds pickled objects, which can run any code when they are loaded; nothing of it was loaded. Save plain arrays."
    return f"{path} is damaged or no .npz file ({error}); make or download it again."


def _check_statistics(path: Path, name: str, mean: np.ndarray, covariance: np.ndarray) -> None:
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or not len(mean) or mean.dtype.kind != "f":
        raise ValueError(f"{path} has {name} of shape {mean.shape} with a covariance of {covariance.shape}; expected (D,) and (D, D).")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{path} has NaN or infinite values in {name} or its covariance.")


def _check_images(path: Path, shape: tuple[int, ...], dtype) -> None:
    if len(shape) != 4 or shape[3] != 3 or dtype != np.uint8 or 0 in shape:
        raise ValueError(f"arr_0 of {path} has shape {shape} and dtype {dtype}; expected uint8 images (n, height, width, 3).")


def _facts(path: Path, text: np.ndarray) -> dict:
    try:
        facts = json.loads(str(text))
        if not isinstance(facts, dict):
            raise ValueError("no dictionary")
    except ValueError as error:
        raise ValueError(f"{path} has a damaged entry {IDENTITY} ({error}); make it again with `bigr reference`.") from error
    return facts
