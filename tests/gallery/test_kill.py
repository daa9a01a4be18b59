"""The promise of whole changes: killed at any moment of add, remove or save, a gallery holds its old state or the new one."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest

from bigr_features import Gallery

from ..train.processes import kill_when, start
from .test_gallery import names, vectors

STEPS = 40
COUNT = 60


def contents(step: int) -> tuple[list[str], np.ndarray]:
    """Ids and vectors after so many changes: every third is an addition of 30, a removal of 20, a rewrite."""
    ids, added = names(COUNT), COUNT
    for i in range(step):
        if i % 3 == 0:
            ids += names(30, added)
            added += 30
        elif i % 3 == 1:
            ids = ids[:5] + ids[25:]
    return ids, vectors(added)[[int(item[4:]) for item in ids]]


def change(folder: Path) -> None:
    """Go on from where the gallery is; `step` in the embedding's place is not needed, for the ids tell."""
    gallery = Gallery(folder / "g")
    step = state_of(gallery)
    (folder / "ready").touch()
    while step < STEPS:
        if step % 3 == 0:
            after = contents(step + 1)
            gallery.add(after[1][-30:], ids=after[0][-30:])
        elif step % 3 == 1:
            gallery.remove(contents(step)[0][5:25])
        else:
            gallery.save()
        step += 1
        (folder / "step").write_text(str(step))


def state_of(gallery: Gallery) -> int:
    """The first step after which the gallery would look like this; everything in it must belong to that one state."""
    ids = gallery.ids.tolist()
    for step in range(STEPS + 1):
        expected = contents(step)
        if ids == expected[0]:
            np.testing.assert_array_equal(gallery.features, expected[1])
            removed = json.loads((gallery.folder / "manifest.json").read_text())["num_removed"]
            return step + 1 if step % 3 == 2 and not removed else step  # a rewrite changes no id
    raise AssertionError(f"{len(ids)} items that belong to no state")


@pytest.mark.parametrize("index", ["flat", "HNSW8"])
def test_killed_twenty_times_the_gallery_is_always_whole(tmp_path, index):
    gallery = Gallery.create(tmp_path / "g", index=index)
    gallery.add(vectors(COUNT), ids=names(COUNT))
    draw, killed, moments = random.Random(index), 0, set()
    (tmp_path / "step").write_text("0")
    for attempt in range(60):
        if killed == 10:
            break
        before = state_of(Gallery(tmp_path / "g"))
        if before == STEPS:
            gallery = Gallery(tmp_path / "g")
            gallery.remove(gallery.ids)
            gallery.add(vectors(COUNT), ids=names(COUNT))
            before = 0
        (tmp_path / "ready").unlink(missing_ok=True)
        process = start(change, tmp_path)
        target, wait = before + draw.randint(0, 3), draw.random() * 0.01
        generation = manifest_of(tmp_path)["generation"]

        def due(attempt=attempt, target=target, wait=wait, generation=generation):
            if not (tmp_path / "ready").exists():
                return False
            if attempt % 2:  # in the middle of writing files that do not count yet
                numbers = [int(path.stem[-6:]) for path in (tmp_path / "g").glob("*_*.*")]
                return max(numbers) > manifest_of(tmp_path)["generation"]
            if int((tmp_path / "step").read_text() or 0) >= target or manifest_of(tmp_path)["generation"] > generation + 3:
                time.sleep(wait)
                return True
            return False

        killed += kill_when(process, due, 60)
        opened = Gallery(tmp_path / "g")
        after = state_of(opened)
        assert after >= before
        moments.add(after % 3)
        opened.search(vectors(1), k=5)
    assert killed == 10
    assert len(moments) > 1, "always killed at the same kind of change"
    Gallery(tmp_path / "g").save()
    named = {entry["file"] for segment in manifest_of(tmp_path)["segments"] for entry in segment["files"].values()}
    assert {path.name for path in (tmp_path / "g").glob("*.npy")} <= named | {"removed"}


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "g" / "manifest.json").read_text())
