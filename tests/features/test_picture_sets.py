"""Promises of the sets of pictures that metrics read: one size, every class, and no file passed over in silence."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from bigr_features.evaluate.reference import write_samples
from bigr_features.features.picture_sets import PictureSet, Pixels
from bigr_features.features.sample_folder import SampleFolder, classes_in_turn

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """12 pictures of 3 classes, 20 x 20."""
    for i in range(12):
        path = tmp_path / "set" / f"class {i // 4}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "set"


def all_of(pictures: PictureSet, size: int = 5) -> tuple[np.ndarray, np.ndarray]:
    parts = list(pictures.batches(size))
    return np.concatenate([part for part, _ in parts]), np.concatenate([numbers for _, numbers in parts])


def test_a_limited_set_is_spread_over_its_classes(folder):
    pictures = PictureSet(folder, limit=3)
    assert pictures.labels.tolist() == [0, 1, 2]
    assert all_of(pictures)[0].shape == (3, 20, 20, 3)
    assert PictureSet(folder, limit=100).labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("limit", [None, 4])
def test_a_sample_file_holds_the_same_pictures_as_its_folder(folder, tmp_path, limit):
    whole, _ = all_of(PictureSet(folder))
    write_samples(tmp_path / "s.npz", [whole], 12)
    for size in (None, 16):
        one, two = (PictureSet(source, size=size, limit=limit) for source in (folder, tmp_path / "s.npz"))
        np.testing.assert_array_equal(all_of(one)[0], all_of(two)[0])
    hashes = []
    for size in (1, 7):
        pixels = Pixels()
        for batch, _ in PictureSet(folder, limit=limit).batches(size):
            pixels.update(batch)
        hashes.append(pixels.facts())
    assert hashes[0] == hashes[1]
    assert hashes[0]["images"] == (limit or 12)


@pytest.mark.parametrize("shape", [(20, 24), (24, 20), (10, 10)])
def test_pictures_of_several_sizes_are_refused_unless_resized(folder, shape):
    Image.fromarray(np.zeros((*shape, 3), np.uint8)).save(folder / "class 1" / "odd.png")
    with pytest.raises(ValueError, match=rf"odd.png is {shape[1]} x {shape[0]} but the first picture is 20 x 20"):
        all_of(PictureSet(folder))
    assert all_of(PictureSet(folder, size=20))[0].shape == (13, 20, 20, 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_every_kind_of_picture_is_read_as_rgb(folder, mode):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).convert(mode).save(folder / "class 1" / "other.png")
    assert all_of(PictureSet(folder))[0].shape == (13, 20, 20, 3)


def test_unreadable_pictures_are_left_out_with_a_warning_or_refused(folder, caplog):
    (folder / "class 0" / "1.png").write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        pictures = PictureSet(folder)
        found, numbers = all_of(pictures)
    assert len(found) == 11
    assert list(numbers) == [0, *range(2, 12)]
    assert "1.png" in caplog.text
    with pytest.raises(ValueError, match=r"1.png cannot be read .*delete or replace it"):
        all_of(PictureSet(folder, strict=True))


def test_empty_and_missing_sources_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no image"):
        PictureSet(tmp_path / "empty")
    with pytest.raises(ValueError, match="limit=0"):
        PictureSet(tmp_path / "empty", limit=0)
    with pytest.raises(FileNotFoundError):
        PictureSet(str(tmp_path / "nothing"))


FACTS = {"model": "m", "settings": {"scale": (1.0, 2.0)}, "seed": 3}


def painted(labels, seeds):
    """A picture (1, 6, 6) that depends on its own label and seed only."""
    labels = np.zeros(len(seeds), int) if labels is None else labels
    return np.stack([np.random.default_rng([seed, label]).random((1, 6, 6)) for seed, label in zip(seeds, labels, strict=True)])


@pytest.mark.parametrize("labelled", [True, False])
def test_samples_that_were_stopped_go_on_and_are_the_same(tmp_path, labelled):
    labels = classes_in_turn(23, 3) if labelled else None
    whole = SampleFolder(tmp_path / "whole", FACTS)
    assert whole.draw(painted, labels, 23, seed=3, batch_size=4) == 23
    begun = SampleFolder(tmp_path / "begun", FACTS)

    def killed(own, seeds):
        if seeds[0] > 12:
            raise KeyboardInterrupt
        return painted(own, seeds)

    with pytest.raises(KeyboardInterrupt):
        begun.draw(killed, labels, 23, seed=3, batch_size=5)
    begun.path(2, None if labels is None else 2).unlink()
    again = SampleFolder(tmp_path / "begun", FACTS)
    assert again.draw(painted, labels, 23, seed=3, batch_size=7) == 14
    assert again.draw(painted, labels, 23, seed=3) == 0
    for one in sorted((tmp_path / "whole").rglob("*.png")):
        assert one.read_bytes() == (tmp_path / "begun" / one.relative_to(tmp_path / "whole")).read_bytes()
    np.testing.assert_array_equal(again.read(labels, range(23)), whole.read(labels, range(23)))
    assert again.draw(painted, classes_in_turn(30, 3) if labelled else None, 30, seed=3) == 7  # more of the same


def test_a_folder_of_samples_is_a_data_set(tmp_path):
    samples, labels = SampleFolder(tmp_path / "s", FACTS), classes_in_turn(8, 4)
    samples.draw(painted, labels, 8)
    pictures = PictureSet(tmp_path / "s")
    assert pictures.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    np.testing.assert_array_equal(all_of(pictures)[0], samples.read(labels, range(8))[np.argsort(labels, kind="stable")])


@pytest.mark.parametrize("change", [{"model": "n"}, {"seed": 4}, {"settings": {"scale": (1.0, 2.5)}}, {"more": 1}])
def test_samples_of_other_settings_are_refused(tmp_path, change):
    SampleFolder(tmp_path, FACTS)
    with pytest.raises(ValueError, match=f"holds samples of other {next(iter(change))}"):
        SampleFolder(tmp_path, FACTS | change)


def test_a_folder_of_something_else_and_a_damaged_sample_are_named(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ValueError, match="is not empty and holds no samples"):
        SampleFolder(tmp_path / "other", FACTS)
    samples = SampleFolder(tmp_path / "s", FACTS)
    samples.draw(painted, None, 3)
    samples.path(1, None).write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"000001.png cannot be read .*delete it and run the command again"):
        samples.read(None, range(3))
