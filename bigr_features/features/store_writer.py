"""Writing a feature store, shard by shard, by any number of processes that need not know of each other.   m items of a shard, D features"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..storage.shard_writer import ShardWriter
from .store import STORE, FeatureStore


class StoreWriter(ShardWriter):
    """Begin a store, or go on with one that was begun with the same settings; see `ShardWriter`.

    Parameters
    ----------
    folder : str or Path
        New, empty, or a store of the same settings.
    settings : dict
        What makes these features these features, as JSON: model, weights_sha256, preprocessing, source, ... Kept in the manifest.
    **sizes
        num_items, shard_size, labelled and class_names.
    """

    def __init__(self, folder: str | Path, settings: dict, **sizes):
        super().__init__(folder, STORE, settings, **sizes)

    def write_shard(
        self,
        shard: int,
        features: dict[str, np.ndarray],
        *,
        ids: list[str],
        sources: list[str],
        positions: np.ndarray,
        labels: np.ndarray | None = None,
        skipped: list[dict] | None = None,
        bits: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        """Write a shard and its marker.

        Parameters
        ----------
        shard : int
        features : dict of name to array (m, D)
        ids, sources : list of str, length m
            ids are given without suffix; the reader tells copies apart.
        positions : int64 array (m,)
        labels : int64 array (m,), optional
        skipped, bits
            As in `ShardWriter.write`.

        Raises
        ------
        ValueError
            If lengths differ, a label is missing, or a feature takes the name of an array of the store.
        """
        arrays = {
            "ids": np.array(ids, dtype="S"),
            "sources": np.array([source.encode("utf-8", "surrogateescape") for source in sources], dtype="S"),
            "positions": np.asarray(positions, dtype=np.int64),
            "labels": None if labels is None else np.asarray(labels, dtype=np.int64),
        }
        self.write(shard, features, arrays, skipped=skipped, bits=bits)

    def finish(self) -> FeatureStore | None:
        """Join the markers and open the store; None while shards of other writers are not there.

        Raises
        ------
        ValueError
            If no image could be read, or shards differ in their features.
        """
        return None if self.join() is None else FeatureStore(self.folder)
