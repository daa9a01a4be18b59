"""Features on disk: arrays by name, with labels, ids and sources, and a manifest that says what made them.

A store is a folder of shards of `shard_size` items each. Shard 3 holds `block5_mean_00003.npy` (one file a feature),
`ids_00003.npy`, `sources_00003.npy`, `positions_00003.npy`, `labels_00003.npy` if there are labels, and `shard_00003.json`, its done
marker with the size and SHA-256 of every file. `manifest.json` joins the markers once all shards are there; `store_writer` writes all
this. Nothing here knows a model.   n items, D features, N tokens, K bits
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from ..functional.checks import differences
from ..storage.atomic import file_sha256
from ..storage.manifests import read_manifest
from ..storage.sharded_rows import ShardedRows

KIND = "bigr_features feature store"
FORMAT = 1
# what must agree between a training and a test set, and between a gallery and its queries
IDENTITY = ("model", "weights_sha256", "preprocessing", "mask_ratio", "condition", "sample_bits", "seed", "dtype")
RERUN = "run the same `bigr extract` command again, and it continues"


class FeatureStore:
    """A finished store, opened for reading; arrays stay on disk until they are asked for.

    Parameters
    ----------
    folder : str or Path

    Attributes
    ----------
    manifest : dict
        model, weights_sha256, layers, poolings, preprocessing, mask_ratio, condition, sample_bits, dtype, versions, source, split,
        skipped, ... and `shards`.
    names : list of str
        Features, such as "block5_mean", "block5_cls" or "bits".
    class_names : list of str or None
    skipped : list of dict
        Images that could not be read: position, name and reason.

    Raises
    ------
    FileNotFoundError
        If there is no store, or a file of it is missing.
    ValueError
        If the manifest is damaged or another program's, the store is unfinished or empty, or a file is truncated.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.manifest = read_store_manifest(self.folder)
        if not self.manifest.get("complete"):
            done, total = len(list(self.folder.glob("shard_*.json"))), self.manifest["num_shards"]
            raise ValueError(f"the store {self.folder} is unfinished ({done} of {total} shards are there); {RERUN}.")
        self._shards = [(i, shard) for i, shard in enumerate(self.manifest["shards"]) if shard["count"]]
        self._starts = np.cumsum([0, *(shard["count"] for _, shard in self._shards)])
        if not self._shards:
            raise ValueError(f"the store {self.folder} is empty: none of its images could be read; see `skipped` in its manifest.json.")
        for i, shard in enumerate(self.manifest["shards"]):
            check_sizes(self.folder, i, shard)
        self.names: list[str] = list(self.manifest["features"])
        self.class_names: list[str] | None = self.manifest.get("class_names")
        self.skipped: list[dict] = self.manifest["skipped"]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r}, {len(self)} items, {self.manifest.get('model')}, {', '.join(self.names)})"

    def features(self, name: str, packed: bool = False) -> ShardedRows:
        """Rows (n, D) of one feature, on disk until sliced or given to `numpy.asarray`.

        Parameters
        ----------
        name : str
            One of `names`. "bits" has D = N K columns of 0 and 1, token by token, uint8.
        packed : bool
            Bits as they are stored, eight a byte; see `packing.pack_bits`.

        Raises
        ------
        ValueError
            For a feature that the store does not hold.
        """
        if name not in self.manifest["features"]:
            raise ValueError(f"the store {self.folder} has no feature {name!r}; it has {', '.join(self.names)}.")
        entry = self.manifest["features"][name]
        bits = None if packed or "bits" not in entry else tuple(entry["bits"])
        if packed and "bits" not in entry:
            raise ValueError(f"feature {name!r} is not packed; packed=True is for bits.")
        return ShardedRows([self._load(name, i) for i, _ in self._shards], bits)

    def layer_names(self, pooling: str = "mean") -> list[tuple[int, str]]:
        """Layers stored with a pooling, and the names of their features, by depth."""
        blocks = sorted(layer for layer in self.manifest.get("layers") or [] if isinstance(layer, int))  # taps are no layers of their own
        found = [(layer, f"block{layer}_{pooling}") for layer in blocks]
        return [(layer, name) for layer, name in found if name in self.names]

    @cached_property
    def labels(self) -> np.ndarray | None:
        """int64 (n,), or None."""
        return self._joined("labels") if self.manifest["labelled"] else None

    @cached_property
    def ids(self) -> np.ndarray:
        """Strings (n,): SHA-256 of each image's pixels, shortened; copies of an image get "-1", "-2", ... in order."""
        return np.array(list(unique_ids(self._joined("ids").astype(str).tolist())))

    @cached_property
    def sources(self) -> np.ndarray:
        """Strings (n,): the path of each image, or its place in a table."""
        return np.char.decode(self._joined("sources"), "utf-8", "surrogateescape")

    @cached_property
    def positions(self) -> np.ndarray:
        """int64 (n,): number of each item in its source, unreadable images counted too."""
        return self._joined("positions")

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what must agree between two stores to be used together: model, weights, transform, axes, precision; not the data."""
        return hashlib.sha256(json.dumps(self._identity(), sort_keys=True).encode()).hexdigest()

    def _identity(self) -> dict:
        return identity_of(self.manifest)

    def check_compatible(self, other: FeatureStore) -> None:
        """Raise ValueError naming each field in which the two stores differ, or the features whose width differs."""
        ours, theirs = self._identity(), other._identity()
        differing = differences(theirs, ours)
        for name in self.names:
            widths = [store.manifest["features"].get(name, {}).get("width") for store in (self, other)]
            if None not in widths and widths[0] != widths[1]:
                differing.append(f"{name} has {widths[0]} columns there and {widths[1]} here")
        if differing:
            raise ValueError(
                f"the stores {self.folder} and {other.folder} were made in different ways: {'; '.join(differing)}. "
                "Extract both with the same model, preprocessing and settings."
            )

    def verify(self) -> None:
        """Read every file and compare its SHA-256; ValueError naming the first that was changed."""
        for i, shard in enumerate(self.manifest["shards"]):
            for name, entry in shard["files"].items():
                path = shard_file(self.folder, name, i)
                if file_sha256(path) != entry["sha256"]:
                    raise ValueError(f"{path} was changed since it was written; delete it, then {RERUN}.")

    def _load(self, name: str, shard: int) -> np.ndarray:
        return np.load(shard_file(self.folder, name, shard), mmap_mode="r", allow_pickle=False)

    def _joined(self, name: str) -> np.ndarray:
        return np.concatenate([self._load(name, i) for i, _ in self._shards])


def identity_of(manifest: dict) -> dict:
    """The fields of a manifest that must agree between two stores, or a gallery and its queries."""
    return {field: with_preprocessing(manifest).get(field) for field in IDENTITY}


def with_preprocessing(settings: dict) -> dict:
    """Settings of an older version, which held the preprocessing as the text `transform`, with that text in its place of today."""
    if "transform" not in settings:
        return settings
    return {key: value for key, value in settings.items() if key != "transform"} | {"preprocessing": settings["transform"]}


def shard_file(folder: Path, name: str, shard: int) -> Path:
    """Where an array of a shard lies."""
    return folder / f"{name}_{shard:05d}.npy"


def read_store_manifest(folder: Path) -> dict:
    """The manifest, if the folder holds a store of this format; FileNotFoundError or ValueError otherwise."""
    remedy = "delete the folder and extract again"
    return read_manifest(folder, "feature store", kind=KIND, format=FORMAT, command="bigr extract", remedy=remedy)


def check_sizes(folder: Path, shard: int, entry: dict) -> None:
    """Raise FileNotFoundError or ValueError if a file of a shard is missing or has another size than when it was written."""
    for name, file in entry["files"].items():
        path = shard_file(folder, name, shard)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; {RERUN}.")
        size = path.stat().st_size
        if size != file["bytes"]:
            raise ValueError(f"{path} is truncated or was changed: it has {size} bytes, not {file['bytes']}; {RERUN}.")


def unique_ids(ids: list[str]) -> Iterator[str]:
    """The ids, with "-1", "-2", ... after the second, third, ... of equal ones."""
    seen: Counter[str] = Counter()
    for item in ids:
        yield item if not seen[item] else f"{item}-{seen[item]}"
        seen[item] += 1
