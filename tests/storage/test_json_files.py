"""Promises of JSON files: strictly valid, whole, of dataclasses, paths and numpy's values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bigr_features.storage.json_files import json_bytes, plain, write_json


@dataclass
class Inner:
    sizes: tuple[int, ...] = (1, 2)
    path: Path | None = None


@dataclass
class Outer:
    inner: Inner = field(default_factory=Inner)
    rate: float = 0.5
    name: str = "ä"


def test_a_dataclass_becomes_what_json_can_hold():
    found = plain(Outer(Inner(path=Path("a/b"))))
    assert found == {"inner": {"sizes": [1, 2], "path": str(Path("a/b"))}, "rate": 0.5, "name": "ä"}
    assert json.loads(json_bytes(found)) == found


def test_numbers_of_numpy_become_pythons():
    given = {"a": np.float32(0.5), "b": np.arange(3), "c": [np.bool_(True), np.int64(3)], 4: None}
    found = plain(given)
    assert found == {"a": 0.5, "b": [0, 1, 2], "c": [True, 3], "4": None}
    assert type(found["a"]) is float
    assert type(found["c"][1]) is int


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [np.float32("nan")]], ids=str)
def test_what_is_no_number_in_json_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"value": value})
    assert list(tmp_path.iterdir()) == []


def test_other_objects_are_named():
    with pytest.raises(TypeError, match="a set cannot stand in a JSON file"):
        plain({"a": {1}})


def test_the_folder_is_made(tmp_path):
    write_json(tmp_path / "new" / "a.json", Outer())
    assert json.loads((tmp_path / "new" / "a.json").read_text())["rate"] == 0.5
