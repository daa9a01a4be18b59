"""Writing a folder of shards, by any number of processes that need not know of each other.

A shard is done when its marker is there, and the marker is written last; every file appears whole or not at all. So a writer may be
killed at any moment: what is not marked is made again. Each writer has its own shards (`pending`), and whoever finishes last joins the
markers (`join`).   m items of a shard, D features, N tokens, K bits
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ..functional.checks import differences
from ..functional.printing import one_line
from .atomic import create_atomically, write_atomically
from .json_files import json_bytes, plain, write_json
from .manifests import MANIFEST
from .shards import ShardFormat, check_sizes, shard_file

log = logging.getLogger(__name__)

MAY_CHANGE = ("versions", "batch_size")  # between runs; results then differ in the last digits
NOTED = ("precision",)  # what was measured when the folder was begun

MEANINGS = {"listing_sha256": "images of the source were added, removed or changed since (their names, labels, sizes or times differ)"}


class ShardWriter:
    """Begin a folder of shards, or go on with one that was begun with the same settings.

    Parameters
    ----------
    folder : str or Path
        New, empty, or begun with the same settings.
    form : ShardFormat
    settings : dict
        What makes these features these features, as JSON: model, transform, source, ... Kept in the manifest.
        `versions` and `batch_size` may change between runs, with a warning, and what `precision` notes stays that of the first run; every
        other field must be the same.
    num_items : int
        Items of the source, readable or not.
    shard_size : int
        Items a shard.
    labelled : bool
        Whether every item has a label.
    class_names : list of str, optional

    Raises
    ------
    ValueError
        If the folder holds something else, or was begun with other settings; the differing fields are named.
    """

    def __init__(
        self,
        folder: str | Path,
        form: ShardFormat,
        settings: dict,
        *,
        num_items: int,
        shard_size: int,
        labelled: bool,
        class_names: list[str] | tuple[str, ...] | None = None,
    ):
        if num_items < 1 or shard_size < 1:
            raise ValueError(f"num_items={num_items} and shard_size={shard_size}; expected 1 or more of each.")
        self.folder, self._form = Path(folder), form
        self.num_items, self.shard_size, self.labelled = num_items, shard_size, labelled
        self.num_shards = -(-num_items // shard_size)
        self._begin(
            {
                "kind": form.kind,
                "format": form.format,
                **plain(settings),
                "num_items": num_items,
                "shard_size": shard_size,
                "num_shards": self.num_shards,
                "labelled": labelled,
                "class_names": None if class_names is None else list(class_names),
            }
        )

    def _begin(self, manifest: dict) -> None:
        what = self._form.what
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; give a folder for the {what}.")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / MANIFEST).is_file():
            others = [path.name for path in self.folder.iterdir() if not path.name.startswith(".") and path.name != MANIFEST]
            if others and not (self.folder / MANIFEST).is_file():  # another writer may have begun just now
                raise ValueError(f"{self.folder} holds other files ({', '.join(sorted(others)[:3])}); give a new or empty folder.")
        create_atomically(self.folder / MANIFEST, json_bytes({**manifest, "complete": False}))
        self._manifest = self._form.manifest(self.folder)
        fixed = {key: value for key, value in manifest.items() if key not in (*MAY_CHANGE, *NOTED)}
        differing = differences(fixed, {key: self._manifest.get(key) for key in fixed}, "was {theirs} and is now {ours}")
        if differing:
            about = "".join(f" {key}: {text}." for key, text in MEANINGS.items() if self._manifest.get(key) != manifest.get(key))
            raise ValueError(
                f"{self.folder} holds a {what} with other settings: {'; '.join(differing)}.{about} Give another folder, or delete this one."
            )
        for key in MAY_CHANGE:
            if self._manifest.get(key) != manifest.get(key):
                log.warning("the %s was begun with %s %s; its rows may differ in the last digits", what, key, self._manifest.get(key))

    @property
    def manifest(self) -> dict:
        """What the folder was begun with."""
        return self._manifest

    def pending(self, rank: int = 0, world_size: int = 1) -> list[int]:
        """Shards left to this writer: those of number `rank` modulo `world_size` without a marker, or with a damaged file."""
        if not 0 <= rank < world_size:
            raise ValueError(f"rank={rank} of world_size={world_size}; expected 0..{world_size - 1}.")
        return [shard for shard in range(rank, self.num_shards, world_size) if not self._is_done(shard)]

    def _is_done(self, shard: int) -> bool:
        try:
            check_sizes(self.folder, shard, self._marker(shard), self._form)
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, AttributeError) as error:
            log.warning("%s; the shard is made again", error)
            return False
        return True

    def _marker(self, shard: int) -> dict:
        return json.loads(self._marker_file(shard).read_bytes())

    def _marker_file(self, shard: int) -> Path:
        return self.folder / f"shard_{shard:05d}.json"

    def positions(self, shard: int) -> np.ndarray:
        """Positions in the source of the items of a shard, readable or not."""
        return np.arange(shard * self.shard_size, min((shard + 1) * self.shard_size, self.num_items))

    def write(
        self,
        shard: int,
        features: dict[str, np.ndarray],
        arrays: dict[str, np.ndarray | None],
        *,
        skipped: list[dict] | None = None,
        bits: dict[str, tuple[int, int]] | None = None,
    ) -> None:
        """Write a shard and its marker.

        Parameters
        ----------
        shard : int
        features : dict of name to array (m, D)
        arrays : dict of name to array (m,)
            Those of the format; "labels" may be None of a folder without labels.
        skipped : list of dict
            position, name and reason of each item of the shard that could not be read.
        bits : dict of name to (N, K), optional
            Features that hold packed bits, and how many tokens and bits they unpack to.

        Raises
        ------
        ValueError
            If lengths differ, a label is missing, or a feature takes the name of an array of the format.
        """
        if self.labelled and arrays.get("labels", 0) is None:
            raise ValueError(f"shard {shard} has no labels, but the {self._form.what} was begun with labels.")
        names = [name for name in self._form.arrays if name != "labels" or self.labelled]
        own = {name: array for name in names if (array := arrays[name]) is not None}
        if not features or set(features) & set(self._form.arrays):
            raise ValueError(f"features are named {list(features)}; expected one or more, none of them {', '.join(self._form.arrays)}.")
        lengths = {name: len(array) for name, array in (features | own).items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the arrays of shard {shard} differ in length: {lengths}.")
        for path in self.folder.glob(f".*_{shard:05d}.*"):  # halves of an earlier writer of this shard
            path.unlink(missing_ok=True)
        self._marker_file(shard).unlink(missing_ok=True)
        count = next(iter(lengths.values()))
        marker: dict[str, Any] = {"count": count, "files": {}, "features": {}, "skipped": skipped or [], "non_finite": {}}
        for name, array in (features | own).items() if count else ():
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
            content = buffer.getvalue()
            write_atomically(shard_file(self.folder, name, shard), content)
            marker["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, array in features.items() if count else ():
            tokens = (bits or {}).get(name)
            width = array.shape[1] if tokens is None else tokens[0] * tokens[1]
            marker["features"][name] = {"width": width, "dtype": str(array.dtype), **({} if tokens is None else {"bits": list(tokens)})}
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                marker["non_finite"][name] = int((~np.isfinite(array)).any(1).sum())
        write_json(self._marker_file(shard), marker)

    def join(self) -> dict | None:
        """Join the markers and return the manifest; None while shards of other writers are not there.

        Raises
        ------
        ValueError
            If no image could be read, or shards differ in their features.
        """
        undone = [shard for shard in range(self.num_shards) if not self._is_done(shard)]
        if undone:
            log.info("%d of %d shards are left to other writers", len(undone), self.num_shards)
            return None
        markers = [self._marker(shard) for shard in range(self.num_shards)]
        described = [marker["features"] for marker in markers if marker["count"]]
        skipped = [item for marker in markers for item in marker["skipped"]]
        if not described:
            first = skipped[0]
            raise ValueError(f"none of the {self.num_items} images can be read; the first is {one_line(first['name'])}: {first['reason']}.")
        if any(features != described[0] for features in described):
            raise ValueError(
                f"the shards of {self.folder} differ in their features; delete the folder and run `{self._form.command}` again."
            )
        digest = hashlib.sha256()
        for shard, marker in enumerate(markers):
            for name in self._form.digested if marker["count"] else ():
                if name in marker["files"]:
                    digest.update(np.load(shard_file(self.folder, name, shard)).tobytes())
        non_finite: Counter[str] = Counter()
        for marker in markers:
            non_finite.update(marker["non_finite"])
        if non_finite:
            log.warning("features hold NaN or infinite values (feature: items): %s", dict(non_finite))
        manifest = self._manifest | {
            "complete": True,
            "count": sum(marker["count"] for marker in markers),
            "features": described[0],
            "data_sha256": digest.hexdigest(),
            "skipped": skipped,
            "non_finite": dict(non_finite),
            "shards": [{"count": marker["count"], "files": marker["files"]} for marker in markers],
        }
        write_json(self.folder / MANIFEST, manifest)
        return manifest


def ranks_of_environment() -> tuple[int, int]:
    """RANK and WORLD_SIZE as torchrun and accelerate set them; 0 and 1 otherwise."""
    try:
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    except ValueError as error:
        raise ValueError(f"RANK and WORLD_SIZE of the environment are no numbers: {error}.") from error
