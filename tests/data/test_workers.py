"""Promises of worker processes: what they take can be pickled, however they are started, and they read what one process reads."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from bigr_features.data import open_images
from bigr_features.data.sources import open_items


@pytest.fixture
def sources(tmp_path):
    """A folder, a table and a sample."""
    for i in range(6):
        (tmp_path / "folder" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (40 * i, 0, 0)).save(tmp_path / "folder" / "ab"[i % 2] / f"{i}.png")
    (tmp_path / "folder" / "a" / "broken.png").write_bytes(b"no image")
    return {"folder": str(tmp_path / "folder"), "sample": "sample:digits"}


@pytest.fixture
def table(tmp_path, sources, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    paths = sorted((tmp_path / "folder").rglob("?.png"))
    table = datasets.Dataset.from_dict({"image": [{"bytes": path.read_bytes(), "path": None} for path in paths], "label": [0, 1] * 3})
    table.cast_column("image", datasets.Image()).to_parquet(tmp_path / "d.parquet")
    return str(tmp_path / "d.parquet")


@pytest.mark.parametrize("kind", ["folder", "sample", "table"])
@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_sets_and_items_survive_pickling(kind, memory_limit, sources, table):
    source = (sources | {"table": table})[kind]
    items = open_items(source, "train").first(5)
    again = pickle.loads(pickle.dumps(items))
    assert [again.name(i) for i in range(5)] == [items.name(i) for i in range(5)]
    assert again.listing_sha256() == items.listing_sha256()
    images = open_images(source, size=8, limit=5, memory_limit=memory_limit)
    copied = pickle.loads(pickle.dumps(images))
    for one, other in zip(images.read(np.arange(len(images))), copied.read(np.arange(len(images))), strict=True):
        np.testing.assert_array_equal(one, other)
    assert copied.labels.tolist() == images.labels.tolist()
    assert copied.skipped == images.skipped


# run as a program, as users do: workers that a test module starts would have to import it by its name in `tests`
SCRIPT = '''
import sys

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from bigr_features.data import open_images
from bigr_features.data.images import _Reader
from bigr_features.data.item_reader import ItemReader


def pixels_of(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.resize((4, 4))))


class Both:
    """What a worker of an image set gives, and what one of a reader gives."""

    def __init__(self, images, reader):
        self.images, self.reader = _Reader(images), reader

    def __getitem__(self, chunk):
        return self.images[chunk], self.reader[chunk]


def as_it_is(batch):
    return batch


if __name__ == "__main__":
    method, source = sys.argv[1:]
    chunks = [np.array([0, 1, 2, 3]), np.array([6, 5])]
    images = open_images(source, size=8, memory_limit=0)
    alone = Both(images, ItemReader(source, "train", None, pixels_of))
    loader = DataLoader(alone, batch_size=None, sampler=chunks, num_workers=1, collate_fn=as_it_is, multiprocessing_context=method)
    skipped = 0
    for chunk, ((pixels, readable, problems), batch) in zip(chunks, loader, strict=True):
        (expected_pixels, expected_readable, _), expected = alone[chunk]
        np.testing.assert_array_equal(pixels, expected_pixels)
        np.testing.assert_array_equal(readable, expected_readable)
        assert batch.ids == expected.ids
        assert batch.skipped == expected.skipped
        torch.testing.assert_close(batch.images, expected.images)
        skipped += len(problems)
    print("skipped", skipped)
'''


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_every_kind_read_the_same(method, sources, tmp_path):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    script = tmp_path / "read.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, script, method, sources["folder"]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["skipped", "1"]
