"""Tokens in a feature store: float16, read when sliced.   n items, N tokens, D features"""

from __future__ import annotations

import numpy as np

from ..storage.sharded_rows import ShardedRows
from .store import FeatureStore


class TokenRows:
    """Rows (n, N D) on disk as tokens (n, N, D): `tokens[5]`, `tokens[10:20]`, `tokens[indices]`."""

    def __init__(self, rows: ShardedRows, num_tokens: int, width: int):
        self._rows, self.dtype, self.shape = rows, rows.dtype, (len(rows), num_tokens, width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key) -> np.ndarray:
        found = self._rows[key]
        return found.reshape(*found.shape[:-1], *self.shape[1:])


def tokens_of(store: FeatureStore, name: str) -> TokenRows:
    """Tokens (n, N, D) of a store, such as its "block5_tokens".

    Raises
    ------
    ValueError
        If the store has no such feature, or it holds no tokens.
    """
    shapes = store.manifest.get("token_shapes") or {}
    rows = store.features(name)
    if name not in shapes:
        raise ValueError(f"{name} of {store.folder} holds no tokens, but one vector an item; extract with pooling 'tokens'.")
    return TokenRows(rows, *shapes[name])
