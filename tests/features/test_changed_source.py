"""Promises of a store whose source was changed: it is noticed, nothing is mixed, and the message says what to do."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bigr_features.features.extraction import Extraction, ExtractionSettings, extract_to_store


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("bigr_nano", num_classes=0, depth=1, width=32, num_heads=2)


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        (tmp_path / "d" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "d" / "ab"[i % 2] / f"{i}.png")
    return tmp_path / "d"


def replaced(folder):
    shutil.copy(folder / "b" / "1.png", folder / "a" / "0.png")


def replaced_with_its_time(folder):
    shutil.copy2(folder / "b" / "1.png", folder / "a" / "0.png")


def of_another_size_at_the_same_time(folder):
    path = folder / "a" / "2.png"
    times = path.stat()
    Image.new("L", (32, 32)).save(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def touched(folder):
    os.utime(folder / "a" / "4.png", ns=(0, 10**18))


def removed(folder):
    (folder / "b" / "5.png").unlink()


def added(folder):
    Image.new("L", (32, 32)).save(folder / "b" / "9.png")


def renamed(folder):
    (folder / "b" / "5.png").rename(folder / "b" / "6.png")


def moved_to_another_class(folder):
    (folder / "b" / "5.png").rename(folder / "a" / "5.png")


CHANGES = [
    replaced, replaced_with_its_time, of_another_size_at_the_same_time, touched, removed, added, renamed, moved_to_another_class,
]  # fmt: skip


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_source_is_refused(model, folder, tmp_path, change, finished):
    settings = ExtractionSettings(source=str(folder), shard_size=2, batch_size=2)
    if finished:
        extract_to_store(model, tmp_path / "s", settings, progress=False)
    else:
        Extraction(model, tmp_path / "s", settings).run([0, 1], progress=False)
    before = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    change(folder)
    with pytest.raises(
        ValueError, match=r"listing_sha256 was .*were added, removed or changed since.*Give another folder, or delete this one"
    ):
        extract_to_store(model, tmp_path / "s", settings, progress=False)
    assert {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()} == before


def test_the_same_source_goes_on(model, folder, tmp_path):
    settings = ExtractionSettings(source=str(folder), shard_size=2, batch_size=2)
    Extraction(model, tmp_path / "s", settings).run([0], progress=False)
    os.utime(folder / "a")  # of the folder, not of a picture
    (folder / "notes.txt").write_text("no picture")
    assert len(extract_to_store(model, tmp_path / "s", settings, progress=False)) == 6


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_changed_table_is_refused(model, folder, tmp_path, monkeypatch, kind):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "t").mkdir()

    def write(order):
        paths = sorted(folder.rglob("*.png"))
        rows = {"image": [{"bytes": paths[i].read_bytes(), "path": None} for i in order], "label": [0] * 6}
        datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(tmp_path / "t" / "train-0.parquet")

    write([0, 1, 2, 3, 4, 5])
    settings = ExtractionSettings(source=str(tmp_path / "t" / "train-0.parquet" if kind == "file" else tmp_path / "t"))
    extract_to_store(model, tmp_path / "s", settings, progress=False)
    assert len(extract_to_store(model, tmp_path / "s", settings, progress=False)) == 6
    write([1, 0, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="were added, removed or changed since"):
        extract_to_store(model, tmp_path / "s", settings, progress=False)


def test_images_without_a_label_are_listed_and_the_others_keep_theirs(model, folder, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = {
        "image": [{"bytes": path.read_bytes(), "path": None} for path in sorted(folder.rglob("*.png"))],
        "label": [0, 1, None, 2, -1, 1],
    }
    datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(tmp_path / "d.parquet")
    settings = ExtractionSettings(source=str(tmp_path / "d.parquet"), condition="label")
    store = extract_to_store(model, tmp_path / "s", settings, progress=False)
    assert store.labels.tolist() == [0, 1, 2, 1]
    assert store.positions.tolist() == [0, 1, 3, 5]
    assert [item["position"] for item in store.skipped] == [2, 4]
    assert all("no label" in item["reason"] for item in store.skipped)
