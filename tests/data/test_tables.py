"""Promises of tables: the pictures are those of the column that holds them, labels are what a column of classes holds, and it is said."""

from __future__ import annotations

import io
import itertools
import logging

import numpy as np
import pytest
from PIL import Image

from bigr_features.data import open_images
from bigr_features.data.labels import class_indices

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def encoded(value: int) -> dict:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write(path, how: str, columns: dict) -> str:
    """A table whose images are given as the gray value that fills them: {"image": [10, 20], ...}; other columns are taken as they are."""
    if how == "plain":
        plain = {name: [encoded(v[0]) if isinstance(v, tuple) else v for v in values] for name, values in columns.items()}
        pq.write_table(pa.table(plain), path)
    elif how == "bytes":
        plain = {name: [encoded(v[0])["bytes"] if isinstance(v, tuple) else v for v in values] for name, values in columns.items()}
        pq.write_table(pa.table(plain), path)
    else:
        table = datasets.Dataset.from_dict(
            {name: [encoded(v[0]) if isinstance(v, tuple) else v for v in values] for name, values in columns.items()}
        )
        for name, values in columns.items():
            if isinstance(values[0], tuple):
                table = table.cast_column(name, datasets.Image())
        table.save_to_disk(path) if how == "saved" else table.to_parquet(path)
    return str(path)


PICTURES, MASKS = [(100,), (140,)], [(0,), (0,)]

# ----------------------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("how", ["typed", "saved", "plain", "bytes"])
@pytest.mark.parametrize("name", ["image", "img", "Image", "picture", "photo"])
@pytest.mark.parametrize("masks_first", [True, False])
def test_the_column_of_pictures_is_read_wherever_it_stands(tmp_path, how, name, masks_first):
    columns = {"mask": MASKS, "depth": MASKS, name: PICTURES} if masks_first else {name: PICTURES, "mask": MASKS}
    images = open_images(write(tmp_path / "d.parquet", how, columns | {"label": [0, 1]}), size=8)
    assert images.read(np.arange(2))[0].mean((1, 2, 3)).tolist() == [100, 140]
    assert images.labels.tolist() == [0, 1]


@pytest.mark.parametrize("how", ["typed", "plain", "bytes"])
def test_several_columns_without_a_usual_name_are_refused(tmp_path, how):
    source = write(tmp_path / "d.parquet", how, {"mask": MASKS, "left_eye": PICTURES})
    with pytest.raises(ValueError, match=r"several columns of images \(mask, left_eye\).*rename that one to 'image'"):
        open_images(source, size=8)


def test_the_only_column_of_images_may_have_any_name(tmp_path):
    source = write(tmp_path / "d.parquet", "typed", {"key": [b"a", b"b"], "scan": PICTURES})
    assert open_images(source, size=8).read(np.arange(2))[0].mean((1, 2, 3)).tolist() == [100, 140]


def test_the_more_usual_name_comes_first(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for i, order in enumerate(itertools.permutations(["image", "img", "photo"])):
        columns = {name: PICTURES if name == "image" else MASKS for name in order}
        images = open_images(write(tmp_path / f"{i}.parquet", "typed", columns), size=8)
        assert images.read(np.arange(2))[0].max() == 140
    assert "the images are those of column 'image', not of" in caplog.text


def test_no_column_of_images_lists_the_columns(tmp_path):
    with pytest.raises(ValueError, match="no column of images; its columns are text, number"):
        open_images(write(tmp_path / "d.parquet", "plain", {"text": ["a"], "number": [1]}), size=8)


def test_rows_without_an_image_are_skipped_with_the_reason(tmp_path):
    images = open_images(write(tmp_path / "d.parquet", "plain", {"image": [(100,), None, (140,)], "label": [0, 1, 1]}), size=8)
    assert images.labels.tolist() == [0, 1]
    assert [problem.reason for problem in images.skipped] == ["ValueError: the row holds no image"]


# ------------------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("name", ["label", "labels", "class", "cls", "target", "category", "Label", "class_id", "fine_label"])
def test_columns_of_labels_by_their_usual_names(tmp_path, name):
    images = open_images(write(tmp_path / "d.parquet", "plain", {"image": PICTURES, name: [1, 0]}), size=8)
    assert images.labels.tolist() == [1, 0]


def test_an_unknown_column_is_not_taken_and_the_columns_are_listed(tmp_path, caplog):
    images = open_images(write(tmp_path / "d.parquet", "plain", {"image": PICTURES, "species": [1, 0], "weight": [0.5, 2]}), size=8)
    assert images.labels is None
    assert "without labels: none of its other columns (species, weight) is one of labels. Rename the right one to 'label'" in caplog.text


def test_the_only_column_whose_type_is_a_class_is_taken_by_any_name(tmp_path):
    typed = datasets.Features(
        {"image": datasets.Image(), "species": datasets.ClassLabel(names=["ant", "bee"]), "n": datasets.Value("int64")}
    )
    table = datasets.Dataset.from_dict({"image": [encoded(9), encoded(8)], "species": [1, 0], "n": [7, 7]}, features=typed)
    table.to_parquet(tmp_path / "d.parquet")
    images = open_images(tmp_path / "d.parquet", size=8)
    assert images.labels.tolist() == [1, 0]
    assert images.class_names == ("ant", "bee")


def test_a_column_that_only_may_be_labels_must_hold_classes(tmp_path, caplog):
    images = open_images(write(tmp_path / "d.parquet", "plain", {"image": PICTURES, "target": [0.5, 0.7], "cls": [0, 1]}), size=8)
    assert images.labels.tolist() == [0, 1]
    images = open_images(write(tmp_path / "e.parquet", "plain", {"image": PICTURES, "target": [0.5, 0.7]}), size=8)
    assert images.labels is None
    assert "not taken for labels: column 'target'" in caplog.text
    images = open_images(write(tmp_path / "f.parquet", "plain", {"image": PICTURES, "categories": [[1], [0, 1]]}), size=8)
    assert images.labels is None
    with pytest.raises(ValueError, match=r"column 'label' of .* holds no class indices but, for one, 0\.5"):
        open_images(write(tmp_path / "g.parquet", "plain", {"image": PICTURES, "label": [1, 0.5]}), size=8)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("missing", [-1, None])
def test_images_without_a_label_are_skipped_where_others_have_one(tmp_path, missing, in_memory, caplog):
    source = write(tmp_path / "d.parquet", "plain", {"image": [(i,) for i in range(6)], "label": [0, missing, 2, 1, missing, 0]})
    images = open_images(source, size=8, memory_limit=(1 << 30) * in_memory)
    assert images.labels.tolist() == [0, 2, 1, 0]
    assert images.read(np.arange(4))[0].mean((1, 2, 3)).tolist() == [0, 2, 3, 5]
    assert [problem.name[-3:] for problem in images.skipped] == ["[1]", "[4]"]
    assert "no label" in images.skipped[0].reason
    assert "2 of 6 labels" in caplog.text
    assert len(open_images(source, size=8, limit=2)) == 2


@pytest.mark.parametrize("missing", [-1, None])
def test_a_table_whose_labels_are_all_missing_has_none(tmp_path, missing, caplog):
    images = open_images(write(tmp_path / "d.parquet", "plain", {"image": PICTURES, "label": [missing] * 2}), size=8)
    assert images.labels is None
    assert len(images) == 2
    assert "all 2 labels" in caplog.text


@pytest.mark.parametrize(
    ("values", "names", "labels", "classes"),
    [
        ([2, 0, 1], None, [2, 0, 1], None),
        ([2, -1, 1], ["a", "b", "c"], [2, -1, 1], ("a", "b", "c")),
        ([1.0, float("nan"), 0.0], None, [1, -1, 0], None),  # as pandas writes integers with gaps
        ([True, None, False], None, [1, -1, 0], None),
        (["dog", "cat", "dog"], None, [1, 0, 1], ("cat", "dog")),
        (["dog", "", None], None, [0, -1, -1], ("dog",)),
        ([-1, 1, -1], ["no", "yes"], [-1, 1, -1], ("no", "yes")),
    ],
)
def test_labels_by_hand(values, names, labels, classes):
    found, found_classes = class_indices(values, names, "column 'label'")
    assert found.dtype == np.int64
    assert found.tolist() == labels
    assert found_classes == classes


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, -5, -7], "2 negative labels, such as -5 in row 1"),
        ([-1, 1, 1, -1], "-1 and 1: is -1 a class, or a missing label"),
        ([0, 0.5], "holds no class indices but, for one, 0.5"),
        ([[0], [1, 2]], r"holds no class indices but, for one, \[0\]"),
        ([0, "cat"], "holds no class indices but, for one, 'cat'"),
    ],
)
def test_values_that_are_no_class_indices(values, message):
    with pytest.raises(ValueError, match=message):
        class_indices(values, None, "column 'label'")
