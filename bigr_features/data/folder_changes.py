"""How a folder of images differs from what was read of it before: added, changed, gone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .item_reader import pixel_id
from .items import reason_of
from .reopened import opened
from .sources import open_items


@dataclass
class Plan:
    """How a folder differs from what a gallery holds of it.

    positions : by path, the number of each image in the folder that is to be read: those `added` and those `changed`.
    added, changed : paths.
    gone : by path, the ids of images whose files are not there any more.
    stale : by path, the ids of images that were changed.
    unreadable : by path, why.
    touched : by row, the stamp of files that are the same though their time is not.
    same : how many are as they were.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    gone: dict[str, list[str]] = field(default_factory=dict)
    stale: dict[str, list[str]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    touched: dict[int, str] = field(default_factory=dict)
    same: int = 0


def compare(sources: Iterable[tuple[int, str, str, str | None]], folder: str | Path, split: str = "train") -> Plan:
    """Compare a folder of images with what a gallery holds of it: row, id, source and stamp of every item.

    Files are known again by size and time of change; where these differ, or were not kept, the pixels are compared.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the folder that the gallery was made of.")
    items, plan, held = open_items(str(folder), split), Plan(), dict[str, list[tuple]]()
    for row, item, source, stamp in sources:
        if source.startswith(f"{folder}{os.sep}"):
            held.setdefault(source, []).append((row, item, stamp))
    for position in range(len(items)):
        name = items.name(position)
        there, stamp = held.pop(name, []), stamp_of(name)
        if any(old == stamp is not None for _, _, old in there) and len(there) == 1:
            plan.same += 1
            continue
        try:
            with items.load(position) as encoded:
                now = pixel_id(opened(encoded))
        except Exception as error:  # decoders raise almost anything on damaged files
            plan.unreadable[name] = reason_of(error)
            continue
        stale = [item for _, item, _ in there if item.partition("-")[0] != now]
        if stale:
            plan.stale[name] = stale
        if len(stale) < len(there):
            plan.same += not stale
            plan.touched |= {row: stamp for row, item, _ in there if item not in stale and stamp is not None}
        else:
            plan.positions[name] = position
            (plan.changed if there else plan.added).append(name)
    plan.gone = {source: [item for _, item, _ in there] for source, there in held.items() if not os.path.exists(source)}
    return plan


def stamp_of(name: str) -> str | None:
    """Size and time of the last change of a file, by which it is known again without being read; None if it is no file."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return None
    return f"{status.st_size} {status.st_mtime_ns}"
