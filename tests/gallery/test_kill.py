"""The promise of whole changes: killed at any moment of any kind of change, a gallery holds its old state or the new one."""

from __future__ import annotations

import functools
import random
import time
from pathlib import Path

import numpy as np
import pytest

from bigr_features import Gallery

from ..processes import kill_when, start
from .test_gallery import names, vectors

STEPS = 100
COUNT = 80
INDEXES = ["flat", "HNSW8", "IVF4,Flat"]
KINDS = ["add", "remove", "update", "compact", "reindex", "replace"]


ROWS = vectors(COUNT + 20 * STEPS)


@functools.cache
def contents(kind: str, step: int) -> dict[str, np.ndarray]:
    """Vectors by id after so many changes of a kind."""
    rows = ROWS
    items = dict(zip(names(COUNT), rows, strict=False))
    if kind == "add":
        items |= dict(zip(names(20 * step, COUNT), rows[COUNT:], strict=False))
    elif kind == "remove":
        for i in range(step):
            items.pop(f"item{i:04d}")
    elif kind == "update":
        for i in range(step):
            items |= {name: rows[COUNT + i + n] for n, name in enumerate(names(10))}
    elif kind == "compact":  # every second change removes one, the others compact
        for i in range((step + 1) // 2):
            items.pop(f"item{i:04d}")
    elif kind == "replace":
        items = {name: row + np.float32(step) for name, row in items.items()}
    return items


def change(job: tuple[Path, str]) -> None:
    """Go on from where the gallery is."""
    folder, kind = job
    gallery = Gallery(folder / "g")
    step = state_of(gallery, kind)
    (folder / "ready").touch()
    while step < limit(kind):
        before, after = contents(kind, step), contents(kind, step + 1)
        new = [name for name in after if name not in before]
        if kind == "add":
            gallery.add(np.stack([after[name] for name in new]), ids=new)
        elif kind == "update":
            changed = names(10)
            gallery.update(changed, np.stack([after[name] for name in changed]))
        elif kind == "replace":
            gallery.replace_vectors(list(after), np.stack(list(after.values())), None, {"model": str(step)}, gallery.settings)
        elif kind == "reindex":
            gallery.reindex(effort=1 + step % 2)
            gallery.compact()
        elif before.keys() == after.keys():
            gallery.compact()
        else:
            gallery.remove(before.keys() - after.keys())
        step += 1
        (folder / "step").write_text(str(step))


def limit(kind: str) -> int:
    return {"remove": COUNT - 20, "compact": 2 * (COUNT - 20)}.get(kind, STEPS)


def state_of(gallery: Gallery, kind: str) -> int:
    """The first step after which the gallery would look like this; everything in it must belong to that one state."""
    found = dict(zip(gallery.ids.tolist(), gallery.features, strict=True))
    for step in range(limit(kind) + 1):
        expected = contents(kind, step)
        if expected.keys() == found.keys() and all((expected[name] == row).all() for name, row in found.items()):
            return step
    raise AssertionError(f"{len(found)} items that belong to no state")


def killed_often(folder: Path, kind: str, index: str, times: int) -> None:
    gallery = Gallery.create(folder / "g", index=index)
    gallery.add(vectors(COUNT), ids=names(COUNT))
    gallery.close()
    draw, killed = random.Random(f"{kind} {index}"), 0
    for _ in range(5 * times):
        if killed == times:
            break
        before = state_of(Gallery(folder / "g"), kind)
        (folder / "ready").unlink(missing_ok=True)
        (folder / "step").write_text("")
        process, target, wait = start(change, (folder, kind)), draw.randint(0, 2), draw.random() * 0.02

        def due(before=before, target=target, wait=wait):
            if not (folder / "ready").exists() or int((folder / "step").read_text() or before) < before + target:
                return False
            time.sleep(wait)
            return True

        killed += kill_when(process, due, 60)
        opened = Gallery(folder / "g", verify=True)
        after = state_of(opened, kind)
        assert after >= before
        assert opened.search(np.stack([opened.features[-1]]), k=1).ids[0, 0] == opened.ids[-1]
    assert killed == times
    Gallery(folder / "g").compact()
    assert len(list((folder / "g").glob("*_*.*"))) == (1 if index == "flat" else 2), "files of killed changes are left"


@pytest.mark.parametrize(("kind", "index"), list(zip(KINDS, INDEXES * 2, strict=True)))
def test_killed_three_times_the_gallery_is_whole(tmp_path, kind, index):
    killed_often(tmp_path, kind, index, 3)


@pytest.mark.slow
@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_twenty_times_the_gallery_is_whole(tmp_path, kind, index):
    killed_often(tmp_path, kind, index, 20)
