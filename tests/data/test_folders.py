"""Promises of folders of images: classes are classes, splits are splits, nothing of a system is a class, no image is lost in silence."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image, features

from bigr_features.data import open_images
from bigr_features.data.folders import image_suffixes, is_left_out
from bigr_features.data.sources import open_items
from bigr_features.data.splits import choose_split, split_of


def fill(folder, count: int = 2, suffix: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.{suffix}")


# ------------------------------------------------------------------------------------------------------------- splits and classes


@pytest.mark.parametrize("name", ["train", "Train", "val", "valid", "validation", "test", "testing", "training", "dev", "test_set"])
def test_a_class_that_is_named_like_a_split_is_a_class(tmp_path, name, caplog):
    caplog.set_level(logging.INFO)
    for label in ("bus", "car", name):
        fill(tmp_path / label)
    items = open_items(str(tmp_path), "train")
    assert items.class_names == tuple(sorted(["bus", "car", name]))
    assert items.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert f"{name} in {tmp_path} is taken for a class, like bus, car" in caplog.text
    with pytest.raises(ValueError, match=f"only split is 'train', not 'test'.*{name} is taken for a class, because bus, car lies beside"):
        open_items(str(tmp_path), "test")


@pytest.mark.parametrize(
    "names",
    [("Train", "Test"), ("TRAIN", "TEST"), ("training", "testing"), ("training_set", "test_set"), ("Train-Images", "Test-Images"),
     ("trainset", "testset"), ("train2017", "test2017"), ("images_train", "images_test")],
)  # fmt: skip
def test_splits_are_recognised_in_any_spelling(tmp_path, names):
    for number, name in enumerate(names):
        for label in ("a", "b"):
            fill(tmp_path / name / label, 2 + number)
    for number, split in enumerate(("train", "test")):
        items = open_items(str(tmp_path), split)
        assert items.class_names == ("a", "b")
        assert len(items) == 2 * (2 + number)
        assert len(open_items(str(tmp_path), names[number])) == len(items)


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION", "dev", "val_images", "Validation_Set"])
def test_validation_has_many_names(tmp_path, name):
    fill(tmp_path / "train" / "a")
    fill(tmp_path / name / "a", 3)
    for asked in ("validation", "val", "valid", name):
        assert len(open_items(str(tmp_path), asked)) == 3
    with pytest.raises(ValueError, match=f"has no split 'test'; it has {min(name, 'train')}, {max(name, 'train')}"):
        open_items(str(tmp_path), "test")


def test_two_folders_of_one_split_must_be_told_apart(tmp_path):
    fill(tmp_path / "val", 1)
    fill(tmp_path / "validation", 2)
    assert len(open_items(str(tmp_path), "val")) == 1
    with pytest.raises(ValueError, match="several splits that 'valid' can mean: val, validation"):
        open_items(str(tmp_path), "valid")


@pytest.mark.parametrize("layout", [("train/a", "train/b", "extra/a"), ("train", "test", "unlabeled"), ("Train/a", "Test/a", "masks")])
def test_what_may_be_splits_or_classes_is_refused(tmp_path, layout):
    for folder in layout:
        fill(tmp_path / folder)
    with pytest.raises(ValueError, match=r"named like splits \(.*rain.*\) beside other folders of images \((extra|unlabeled|masks)\)"):
        open_items(str(tmp_path), "train")


def test_folders_without_images_decide_nothing(tmp_path):
    for label in ("a", "b"):
        fill(tmp_path / label)
    (tmp_path / "train").mkdir()
    assert open_items(str(tmp_path), "train").class_names == ("a", "b")
    fill(tmp_path / "other" / "train" / "a")
    (tmp_path / "other" / "annotations").mkdir()
    (tmp_path / "other" / "annotations" / "a.xml").write_text("")
    assert open_items(str(tmp_path / "other"), "train").class_names == ("a",)


def test_loose_images_beside_splits_are_named(tmp_path, caplog):
    fill(tmp_path / "train" / "a")
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.png")
    assert len(open_items(str(tmp_path), "train")) == 2
    assert "left out beside the splits" in caplog.text
    assert "cover.png" in caplog.text


def test_names_of_splits():
    assert [split_of(name) for name in ("Training", "TEST", "val", "dev-set")] == ["train", "test", "validation", "validation"]
    assert [split_of(name) for name in ("trainer", "train station", "bullet train", "attest", "contest", "", "2017", "train_test")] == [
        None
    ] * 8
    assert choose_split("unlabeled", ["train", "unlabeled"], "x") == "unlabeled"


# ------------------------------------------------------------------------------------------------------------- hidden and of systems


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", ".git", ".thumbnails", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information",
     "lost+found", "#recycle", "@Recycle", "__pycache__", ".Trash-1000"],
)  # fmt: skip
@pytest.mark.parametrize("where", ["", "a", "train"])
def test_hidden_and_system_folders_are_no_classes(tmp_path, name, where, caplog):
    caplog.set_level(logging.INFO)
    for label in ("a", "b"):
        fill(tmp_path / ("train" if where == "train" else "") / label)
    fill(tmp_path / where / name)
    items = open_items(str(tmp_path), "train")
    assert items.class_names == ("a", "b")
    assert len(items) == 4
    assert name in caplog.text


def test_hidden_and_system_files_are_no_images(tmp_path):
    fill(tmp_path / "a")
    for name in ("._0.png", ".hidden.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (tmp_path / "a" / name).write_bytes(b"no image")
        (tmp_path / name).write_bytes(b"no image")
    images = open_images(tmp_path, size=8)
    assert len(images) == 2
    assert not images.skipped


def test_a_hidden_folder_can_be_the_source(tmp_path):
    fill(tmp_path / ".cache" / "set" / "a")
    assert len(open_items(str(tmp_path / ".cache" / "set"), "train")) == 2
    assert not is_left_out("a.b")


# ---------------------------------------------------------------------------------------------------------------------- endings


def test_every_ending_that_pillow_opens_counts():
    Image.init()
    readable = {end for end, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert readable - set(image_suffixes()) == {".mpg", ".mpeg", ".bufr", ".grib", ".h5", ".hdf"}  # films and data
    assert {".mpo", ".jfif", ".tga", ".jp2", ".ico"} <= set(image_suffixes())
    assert ".pdf" not in image_suffixes()  # which Pillow writes only


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [("jfif", "JPEG"), ("JPE", "JPEG"), ("mpo", "MPO"), ("avif", "AVIF"), ("tga", "TGA"), ("jp2", "JPEG2000"), ("ico", "ICO"),
     ("pcx", "PCX"), ("dib", "DIB"), ("Apng", "PNG"), ("pnm", "PPM"), ("sgi", "SGI"), ("dds", "DDS"), ("icns", "ICNS"), ("qoi", "QOI")],
)  # fmt: skip
def test_files_of_every_format_are_read(tmp_path, suffix, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    (tmp_path / "a").mkdir()
    try:
        Image.new("RGB", (32, 32), (200, 30, 30)).save(tmp_path / "a" / f"x.{suffix}", kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {kind}")
    images = open_images(tmp_path, size=16)
    assert images.class_names == ("a",)
    np.testing.assert_allclose(images.read(np.array([0]))[0][0, 8, 8], (200, 30, 30), atol=4)


@pytest.mark.parametrize("suffix", ["heic", "HEIF", "jxl", "svg", "cr2", "dcm", "psd", "wmf"])
def test_pictures_that_cannot_be_read_are_counted(tmp_path, suffix):
    fill(tmp_path / "a")
    fill(tmp_path / "b", 0)
    (tmp_path / "b" / f"x.{suffix}").write_bytes(b"not to be read")
    images = open_images(tmp_path, size=8)
    assert images.class_names == ("a", "b")
    assert len(images) == 2
    assert [problem.name for problem in images.skipped] == [str(tmp_path / "b" / f"x.{suffix}")]
    assert "Error" in images.skipped[0].reason


def test_a_drawing_beside_class_folders_is_no_reason_to_refuse(tmp_path, caplog):
    fill(tmp_path / "a")
    (tmp_path / "logo.svg").write_text("<svg/>")
    assert open_items(str(tmp_path), "train").class_names == ("a",)
    assert "left out beside the class folders" in caplog.text
    assert "logo.svg" in caplog.text


# ------------------------------------------------------------------------------------------------------------------------- names


def test_names_that_steer_a_terminal_are_escaped_in_messages(tmp_path, caplog):
    fill(tmp_path)
    (tmp_path / "a\n1 fake\x1b[31m.png").write_bytes(b"no image")
    images = open_images(tmp_path, size=8)
    assert images.skipped[0].name == str(tmp_path / "a\n1 fake\x1b[31m.png")  # as it is, for programs
    messages = [record.getMessage() for record in caplog.records]
    assert any(r"a\n1 fake\x1b[31m.png" in message for message in messages)
    assert not any("\n" in message or "\x1b" in message for message in messages)
