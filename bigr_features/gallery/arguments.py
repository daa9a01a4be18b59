"""Checks of what is put into a gallery and asked of it: shapes and values, once, where they enter.   m items, D features, K bits"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..data.labels import check_labels
from ..nearest.checks import check_bits, check_features
from ..nearest.settings import GallerySettings
from ..storage.item_table import json_of


@dataclass
class Rows:
    """Checked items on their way into a gallery.

    labels : int64 (m,), -1 for none.
    features, bits : arrays (m, D) and (m, bytes), or None.
    sources, stamps, metadata, thumbnails : lists of str, str, JSON and bytes, each with None where there is none.
    ids : list of str.
    """

    labels: np.ndarray
    features: np.ndarray | None
    bits: np.ndarray | None
    sources: list[str | None]
    stamps: list[str | None]
    metadata: list[str | None]
    thumbnails: list[bytes | None]
    ids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)


def check_given(settings: GallerySettings, features, bits) -> None:
    """Raise ValueError unless features and bits are given exactly where the settings need them."""
    for name, given, needed in (("features", features is not None, settings.has_features), ("bits", bits is not None, settings.takes_bits)):
        if given != needed:
            made = " (they are made from the features)" if name == "bits" and settings.binarize else ""
            how = f"metric {settings.metric!r}" + (f" with binarize={settings.binarize!r}" if settings.binarize else "")
            raise ValueError(f"{name} are {'given' if given else 'missing'}, but {how} {'takes none' if given else 'needs them'}{made}.")


def new_rows(
    settings: GallerySettings, dim: int | None, num_bits: int | None, features, bits, labels, sources, metadata, thumbnails, stamps
) -> Rows:
    """Checked items, still without ids."""
    check_given(settings, features, bits)
    features = None if features is None else check_features(features, dim)
    bits = None if bits is None else check_bits(bits, num_bits)
    count = len(bits) if features is None else len(features)
    lists = {"sources": sources, "metadata": metadata, "thumbnails": thumbnails, "stamps": stamps}
    for name, values in {"features": features, "bits": bits, "labels": labels, **lists}.items():
        if values is not None and len(values) != count:
            raise ValueError(f"there are {len(values)} {name} for {count} items; give one an item.")
    lists = {name: [None] * count if values is None else list(values) for name, values in lists.items()}
    lists["sources"] = [None if source is None else str(source) for source in lists["sources"]]
    lists["metadata"] = [json_of(metadata, i) for i, metadata in enumerate(lists["metadata"])]
    lists["thumbnails"] = [picture or None for picture in lists["thumbnails"]]
    return Rows(check_labels(labels, count), features, bits, **lists)


def as_list(ids: Iterable[str]) -> list[str]:
    """Ids as a list; TypeError for a single string, which would be taken letter by letter."""
    if isinstance(ids, str):
        raise TypeError(f"ids is one string, {ids!r}; give a list of ids.")
    return [str(item) for item in ids]
