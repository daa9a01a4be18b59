"""Features on disk: arrays by name, with labels, ids and sources, and a manifest that says what made them.

A store is a folder of shards (`storage.shards`). Shard 3 holds `block5_mean_00003.npy` (one file a feature), `ids_00003.npy`,
`sources_00003.npy`, `positions_00003.npy`, and `labels_00003.npy` if there are labels. Nothing here knows a model.
n items, D features, N tokens, K bits
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
from ..storage.shards import ShardFormat, ShardReader

STORE = ShardFormat(
    kind="bigr_features feature store",
    format=1,
    what="feature store",
    command="bigr extract",
    arrays=("ids", "sources", "positions", "labels"),
    digested=("ids", "labels"),
)
# what must agree between a training and a test set, and between a gallery and its queries
IDENTITY = ("model", "weights_sha256", "preprocessing", "mask_ratio", "condition", "sample_bits", "seed", "dtype")


class FeatureStore(ShardReader):
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
    class_names, skipped, features, labels, positions, verify
        As `ShardReader` has them.

    Raises
    ------
    FileNotFoundError
        If there is no store, or a file of it is missing.
    ValueError
        If the manifest is damaged or another program's, the store is unfinished or empty, or a file is truncated.
    """

    def __init__(self, folder: str | Path):
        super().__init__(folder, STORE)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r}, {len(self)} items, {self.manifest.get('model')}, {', '.join(self.names)})"

    def layer_names(self, pooling: str = "mean") -> list[tuple[int, str]]:
        """Layers stored with a pooling, and the names of their features, by depth."""
        blocks = sorted(layer for layer in self.manifest.get("layers") or [] if isinstance(layer, int))  # taps are no layers of their own
        found = [(layer, f"block{layer}_{pooling}") for layer in blocks]
        return [(layer, name) for layer, name in found if name in self.names]

    @cached_property
    def ids(self) -> np.ndarray:
        """Strings (n,): SHA-256 of each image's pixels, shortened; copies of an image get "-1", "-2", ... in order."""
        return np.array(list(unique_ids(self._joined("ids").astype(str).tolist())))

    @cached_property
    def sources(self) -> np.ndarray:
        """Strings (n,): the path of each image, or its place in a table."""
        return np.char.decode(self._joined("sources"), "utf-8", "surrogateescape")

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


def identity_of(manifest: dict) -> dict:
    """The fields of a manifest that must agree between two stores, or a gallery and its queries."""
    return {field: with_preprocessing(manifest).get(field) for field in IDENTITY}


def with_preprocessing(settings: dict) -> dict:
    """Settings of an older version, which held the preprocessing as the text `transform`, with that text in its place of today."""
    if "transform" not in settings:
        return settings
    return {key: value for key, value in settings.items() if key != "transform"} | {"preprocessing": settings["transform"]}


def unique_ids(ids: list[str]) -> Iterator[str]:
    """The ids, with "-1", "-2", ... after the second, third, ... of equal ones."""
    seen: Counter[str] = Counter()
    for item in ids:
        yield item if not seen[item] else f"{item}-{seen[item]}"
        seen[item] += 1
