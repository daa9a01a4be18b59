"""Promises of images with captions: listings, tables and text files give each image its captions, and what is missing is named."""

from __future__ import annotations

import json
import logging

import datasets
import numpy as np
import pytest
from PIL import Image

from bigr_features.data import open_images
from bigr_features.data.sources import open_items


def save(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 * i + 5, np.uint8)).save(folder / name)


ROWS = [("b.png", "a dark bag"), ("a.png", "a boot"), ("b.png", "a handbag"), ("c.png", "")]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "json"])
def test_a_listing_gives_each_image_its_captions(tmp_path, suffix, caplog):
    save(tmp_path, ["a.png", "b.png", "c.png"])
    path = tmp_path / f"set.{suffix}"
    if suffix in ("csv", "tsv"):
        mark = "," if suffix == "csv" else "\t"
        path.write_text("\n".join(mark.join(row) for row in [("image", "caption"), *ROWS]), encoding="utf-8-sig")
    else:
        rows = [{"image": "b.png", "caption": ["a dark bag", "a handbag"]}, {"image": "a.png", "caption": "a boot"}, {"image": "c.png"}]
        path.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    with caplog.at_level(logging.WARNING):
        images = open_images(path, size=8, in_chans=1, captioned=True)
    assert images.captions == [("a dark bag", "a handbag"), ("a boot",)]
    assert images.read(np.arange(2))[0][:, 0, 0, 0].tolist() == [15, 5]
    assert "1 of 3 images" in caplog.text
    assert "no caption" in caplog.text
    assert len(open_images(path, size=8, in_chans=1)) == 3  # without captions all are read


def test_columns_are_found_by_name_or_named(tmp_path):
    save(tmp_path, ["a.png"])
    (tmp_path / "set.csv").write_text("file_name,story,text\na.png,one,two\n")
    assert open_items(str(tmp_path / "set.csv"), "train", captioned=True).captions == [("two",)]
    assert open_items(str(tmp_path / "set.csv"), "train", captioned=True, caption_column="story").captions == [("one",)]
    with pytest.raises(ValueError, match="no column 'tale' of captions; its columns are file_name, story, text"):
        open_items(str(tmp_path / "set.csv"), "train", captioned=True, caption_column="tale")
    (tmp_path / "set.csv").write_text("file_name,story\na.png,one\n")
    with pytest.raises(ValueError, match=r"no column of captions; its columns are file_name, story.*--caption-column"):
        open_items(str(tmp_path / "set.csv"), "train", captioned=True)
    (tmp_path / "set.csv").write_text("where,caption\na.png,one\n")
    with pytest.raises(ValueError, match=r"no column of images .*; its columns are where, caption"):
        open_items(str(tmp_path / "set.csv"), "train", captioned=True)


def test_text_files_beside_images_hold_a_caption_a_line(tmp_path):
    save(tmp_path, ["x/a.png", "y/b.png"])
    (tmp_path / "x" / "a.txt").write_text("a dark bag\n\n  a \x07handbag \n")
    (tmp_path / "y" / "b.txt").write_text("a boot")
    assert open_images(tmp_path, size=8, captioned=True).captions == [("a dark bag", "a handbag"), ("a boot",)]
    (tmp_path / "x" / "a.txt").write_text("\n")
    (tmp_path / "y" / "b.txt").unlink()
    with pytest.raises(ValueError, match=r"no image of .* has a caption: there is no text in, for one, .*a\.txt"):
        open_images(tmp_path, size=8, captioned=True)
    with pytest.raises(ValueError, match=r"--caption-column text was given, but .* is a folder of images"):
        open_images(tmp_path, size=8, captioned=True, caption_column="text")


def test_a_table_has_a_column_of_captions_one_or_several_an_image(tmp_path):
    pictures = [Image.fromarray(np.full((8, 8), 20 * i, np.uint8)) for i in range(3)]
    texts = [["a dark bag", "a handbag"], ["a boot"], []]
    features = datasets.Features({"image": datasets.Image(), "captions": datasets.List(datasets.Value("string"))})
    datasets.Dataset.from_dict({"image": pictures, "captions": texts}, features=features).to_parquet(tmp_path / "set.parquet")
    images = open_images(tmp_path / "set.parquet", size=8, captioned=True)
    assert images.captions == [("a dark bag", "a handbag"), ("a boot",)]
    with pytest.raises(ValueError, match="no column 'text' of captions; its columns are image, captions"):
        open_images(tmp_path / "set.parquet", size=8, captioned=True, caption_column="text")


def test_unreadable_images_take_their_captions_with_them(tmp_path):
    save(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "set.csv").write_text("image,caption\na.png,one\nb.png,two\nc.png,three\n")
    assert open_images(tmp_path / "set.csv", size=8, captioned=True).captions == [("one",), ("three",)]
    lazy = open_images(tmp_path / "set.csv", size=8, captioned=True, memory_limit=0)
    assert lazy.captions == [("one",), ("two",), ("three",)]


def test_files_that_are_no_listing_are_named(tmp_path):
    save(tmp_path, ["a.png"])
    for name, text, message in [
        ("set.jsonl", "{", "cannot be read as jsonl"),
        ("set.json", '{"image": 1}', "holds no list of objects"),
        ("set.jsonl", '{"image": 3, "caption": "x"}', "names no image in its column 'image'"),
        ("set.csv", "image,caption\n", "lists no image"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            open_images(tmp_path / name, size=8, captioned=True)
    (tmp_path / "set.csv").write_text("image,caption\nz.png,one\n")
    with pytest.raises(FileNotFoundError, match=r"none of the 1 images that .* lists is there"):
        open_images(tmp_path / "set.csv", size=8, captioned=True)
    (tmp_path / "set.csv").write_text("image,caption\na.png,\n")
    with pytest.raises(ValueError, match=r"none of the 1 images .* has a caption"):
        open_images(tmp_path / "set.csv", size=8, captioned=True)
    with pytest.raises(ValueError, match="has no splits, so its only split is 'train', not 'test'"):
        open_images(tmp_path / "set.csv", "test", size=8, captioned=True)
    with pytest.raises(ValueError, match="sample:fashion_mnist has no captions"):
        open_images("sample:fashion_mnist", size=32, captioned=True)


def test_a_changed_listing_or_image_is_noticed(tmp_path):
    save(tmp_path, ["a.png", "b.png"])
    (tmp_path / "set.csv").write_text("image,caption\na.png,one\nb.png,two\n")
    before = open_items(str(tmp_path / "set.csv"), "train").listing_sha256()
    assert open_items(str(tmp_path / "set.csv"), "train", captioned=True).listing_sha256() == before
    (tmp_path / "set.csv").write_text("image,caption\na.png,another\nb.png,two\n")
    assert open_items(str(tmp_path / "set.csv"), "train").listing_sha256() != before


def test_very_long_captions_pass(tmp_path):
    save(tmp_path, ["a.png"])
    (tmp_path / "set.csv").write_text("image,caption\na.png," + "bag " * 100_000 + "\n")
    assert len(open_items(str(tmp_path / "set.csv"), "train", captioned=True).captions[0][0]) == 399_999
