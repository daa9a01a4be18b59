"""Arrays by name in a folder of shards: its format, and reading it.

Shard 3 of a folder holds `<name>_00003.npy` for each array and `shard_00003.json`, its done marker with the size and SHA-256 of every
file. `manifest.json` says what made the arrays, and joins the markers once all shards are there; `shard_writer` writes all this.
n items, D features, N tokens, K bits
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .atomic import file_sha256
from .manifests import read_manifest
from .sharded_rows import ShardedRows


@dataclass(frozen=True)
class ShardFormat:
    """What a folder of shards is for.

    kind, format : as the manifest has them.
    what : what messages call such a folder, "feature store" for example.
    command : the command that writes one.
    arrays : names of the arrays beside the features.
    digested : arrays whose bytes identify the items, for `data_sha256`.
    """

    kind: str
    format: int
    what: str
    command: str
    arrays: tuple[str, ...]
    digested: tuple[str, ...]

    @property
    def rerun(self) -> str:
        return f"run the same `{self.command}` command again, and it continues"

    def manifest(self, folder: Path) -> dict:
        """The manifest of a folder; FileNotFoundError or ValueError if it holds nothing of this format."""
        remedy = f"delete the folder and run `{self.command}` again"
        return read_manifest(folder, self.what, kind=self.kind, format=self.format, command=self.command, remedy=remedy)


class ShardReader:
    """A finished folder of shards, opened for reading; arrays stay on disk until they are asked for.

    Parameters
    ----------
    folder : str or Path
    form : ShardFormat

    Attributes
    ----------
    manifest : dict
    names : list of str
        Features.
    class_names : list of str or None
    skipped : list of dict
        Images that could not be read: position, name and reason.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or a file of it is missing.
    ValueError
        If the manifest is damaged or another program's, the folder is unfinished or empty, or a file is truncated.
    """

    def __init__(self, folder: str | Path, form: ShardFormat):
        self.folder, self._form = Path(folder), form
        self.manifest = form.manifest(self.folder)
        if not self.manifest.get("complete"):
            done, total = len(list(self.folder.glob("shard_*.json"))), self.manifest["num_shards"]
            raise ValueError(f"the {form.what} {self.folder} is unfinished ({done} of {total} shards are there); {form.rerun}.")
        self._shards = [(i, shard) for i, shard in enumerate(self.manifest["shards"]) if shard["count"]]
        self._starts = np.cumsum([0, *(shard["count"] for _, shard in self._shards)])
        if not self._shards:
            raise ValueError(f"the {form.what} {self.folder} is empty: no image could be read; see `skipped` in its manifest.json.")
        for i, shard in enumerate(self.manifest["shards"]):
            check_sizes(self.folder, i, shard, form)
        self.names: list[str] = list(self.manifest["features"])
        self.class_names: list[str] | None = self.manifest.get("class_names")
        self.skipped: list[dict] = self.manifest["skipped"]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def features(self, name: str, packed: bool = False) -> ShardedRows:
        """Rows (n, D) of one feature, on disk until sliced or given to `numpy.asarray`.

        Parameters
        ----------
        name : str
            One of `names`. Features of bits have D = N K columns of 0 and 1, token by token, uint8.
        packed : bool
            Bits as they are stored, eight a byte; see `packing.pack_bits`.

        Raises
        ------
        ValueError
            For a feature that is not there.
        """
        if name not in self.manifest["features"]:
            raise ValueError(f"the {self._form.what} {self.folder} has no feature {name!r}; it has {', '.join(self.names)}.")
        entry = self.manifest["features"][name]
        bits = None if packed or "bits" not in entry else tuple(entry["bits"])
        if packed and "bits" not in entry:
            raise ValueError(f"feature {name!r} is not packed; packed=True is for bits.")
        return ShardedRows([self._load(name, i) for i, _ in self._shards], bits)

    @cached_property
    def labels(self) -> np.ndarray | None:
        """int64 (n,), or None."""
        return self._joined("labels") if self.manifest["labelled"] else None

    @cached_property
    def positions(self) -> np.ndarray:
        """int64 (n,): number of each item in its source, unreadable images counted too."""
        return self._joined("positions")

    def verify(self) -> None:
        """Read every file and compare its SHA-256; ValueError naming the first that was changed."""
        for i, shard in enumerate(self.manifest["shards"]):
            for name, entry in shard["files"].items():
                path = shard_file(self.folder, name, i)
                if file_sha256(path) != entry["sha256"]:
                    raise ValueError(f"{path} was changed since it was written; delete it, then {self._form.rerun}.")

    def _load(self, name: str, shard: int) -> np.ndarray:
        return np.load(shard_file(self.folder, name, shard), mmap_mode="r", allow_pickle=False)

    def _joined(self, name: str) -> np.ndarray:
        return np.concatenate([self._load(name, i) for i, _ in self._shards])


def shard_file(folder: Path, name: str, shard: int) -> Path:
    """Where an array of a shard lies."""
    return folder / f"{name}_{shard:05d}.npy"


def check_sizes(folder: Path, shard: int, entry: dict, form: ShardFormat) -> None:
    """Raise FileNotFoundError or ValueError if a file of a shard is missing or has another size than when it was written."""
    for name, file in entry["files"].items():
        path = shard_file(folder, name, shard)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; {form.rerun}.")
        size = path.stat().st_size
        if size != file["bytes"]:
            raise ValueError(f"{path} is truncated or was changed: it has {size} bytes, not {file['bytes']}; {form.rerun}.")
