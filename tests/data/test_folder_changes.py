"""Promises of the comparison of a folder with what was read of it."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from bigr_features.data.folder_changes import compare, stamp_of
from bigr_features.data.item_reader import pixel_id


@pytest.fixture
def folder(tmp_path):
    for number in range(6):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def held(folder) -> list:
    """Rows, ids, sources and stamps as a gallery keeps them."""
    paths = sorted(str(path) for path in folder.iterdir())
    return [(row, pixel_id(Image.open(path)), path, stamp_of(path)) for row, path in enumerate(paths)]


def test_every_kind_of_change_by_hand(folder):
    before = held(folder)
    path = {number: str(folder / f"{number}.png") for number in range(8)}
    os.unlink(path[0])
    Image.new("RGB", (8, 8), (100, 0, 0)).save(path[1])
    os.utime(path[2], ns=(1, 1))  # the same pixels at another time
    (folder / "3.png").write_bytes(b"no image any more")
    Image.new("RGB", (8, 8), (7, 0, 0)).save(path[7])
    plan = compare(before, folder)
    assert (plan.added, plan.changed, plan.same) == ([path[7]], [path[1]], 3)
    assert (plan.gone, plan.stale) == ({path[0]: [before[0][1]]}, {path[1]: [before[1][1]]})
    assert plan.touched == {2: stamp_of(path[2])}
    assert list(plan.unreadable) == [path[3]]
    assert sorted(plan.positions) == [path[1], path[7]]


def test_what_lies_elsewhere_is_no_matter(folder, tmp_path):
    before = [*held(folder), (9, "x", str(tmp_path) + "_other/1.png", None), (10, "y", "sample:digits[3]", None)]
    plan = compare(before, folder)
    assert (plan.same, plan.gone, plan.positions) == (6, {}, {})


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        compare([], tmp_path / "nothing")
    assert stamp_of(str(tmp_path / "nothing")) is None
    assert stamp_of("a\0b") is None
