"""Promises of `bigr_features.data`: one loader for every source, one definition of the crop, and nothing lost in silence."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bigr_features.data import center_crop, load_sample, open_images, read_pixels, side_for, sources, views_of


def picture(width: int, height: int, seed: int = 0, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values).convert(mode)


@pytest.fixture
def folder(tmp_path):
    """Two classes of three readable images each."""
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(3):
            picture(40 + i, 30, seed=i).save(tmp_path / label / f"{i}.png")
    return tmp_path


def spoil(path, how: str) -> None:
    content = picture(40, 40).tobytes() if how == "garbage" else path.read_bytes()[:60]
    path.write_bytes(content)


# ------------------------------------------------------------------------------------------------------------------ the crop


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 64))
def test_crop_is_a_square_of_the_asked_size(width, height, size):
    assert center_crop(picture(width, height), size).size == (size, size)


def test_crop_equals_the_steps_of_adm():
    image, size = picture(203, 150), 32
    halved = image.resize((101, 75), Image.Resampling.BOX)  # 75 >= 64, so once more
    halved = halved.resize((50, 37), Image.Resampling.BOX)
    small = halved.resize((round(50 * 32 / 37), 32), Image.Resampling.BICUBIC)
    left = (small.width - size) // 2
    expected = np.asarray(small)[:size, left : left + size]
    np.testing.assert_array_equal(np.asarray(center_crop(image, size)), expected)


def test_crop_enlarges_small_images():
    image = picture(28, 28)
    expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(read_pixels(image, 32), expected)


# ------------------------------------------------------------------------------------------------------------- kinds of files


def test_exif_rotation_is_respected(tmp_path):
    upright = Image.new("RGB", (40, 40))
    upright.paste((255, 0, 0), (0, 0, 40, 20))  # red above
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pixels = open_images(tmp_path, size=40).read(np.array([0]))[0][0]
    assert pixels[5, :, 0].min() > 200
    assert pixels[35, :, 0].max() < 60


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    suffix = {"CMYK": "tif", "YCbCr": "jpg"}.get(mode, "png")
    picture(36, 36, mode=mode).save(tmp_path / f"image.{suffix}")
    images = open_images(tmp_path, size=32)
    assert images.read(np.array([0]))[0].shape == (1, 32, 32, 3)
    assert not images.skipped


def test_gray_is_repeated_and_can_stay_gray(tmp_path):
    gray = picture(32, 32, mode="L")
    gray.save(tmp_path / "gray.png")
    rgb = open_images(tmp_path, size=32).read(np.array([0]))[0][0]
    np.testing.assert_array_equal(rgb, np.asarray(gray)[..., None].repeat(3, axis=2))
    one = open_images(tmp_path, size=32, in_chans=1).read(np.array([0]))[0][0]
    np.testing.assert_array_equal(one[..., 0], np.asarray(gray))


def test_sixteen_bit_gray_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    pixels = open_images(tmp_path, size=32).read(np.array([0]))[0][0]
    np.testing.assert_array_equal(pixels[..., 0], ramp >> 8)


# ------------------------------------------------------------------------------------------------------------- kinds of sources


def test_class_folders_give_labels_in_alphabetical_order(folder):
    images = open_images(folder, size=16)
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_flat_folder_has_no_labels(tmp_path):
    picture(20, 20).save(tmp_path / "a.png")
    assert open_images(tmp_path, size=16).labels is None


def test_split_folders(folder, tmp_path_factory):
    top = tmp_path_factory.mktemp("splits")
    folder.rename(top / "train")
    assert len(open_images(top, "train", size=16)) == 6
    with pytest.raises(ValueError, match="has no split 'test'; it has train"):
        open_images(top, "test", size=16)
    folder.mkdir()


def test_folder_without_splits_is_the_training_split(folder):
    with pytest.raises(ValueError, match="only split is 'train'"):
        open_images(folder, "validation", size=16)


def test_loose_images_beside_class_folders_are_refused(folder):
    picture(20, 20).save(folder / "loose.png")
    with pytest.raises(ValueError, match=r"loose\.png"):
        open_images(folder, size=16)


@pytest.fixture(scope="module")
def table():
    datasets = pytest.importorskip("datasets")
    sample = load_sample("fashion_mnist")
    encoded = []
    for image in sample.train_images[:12]:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        encoded.append({"bytes": buffer.getvalue(), "path": None})
    encoded[5] = {"bytes": b"not an image", "path": None}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(sample.class_names))})
    labels = [int(label) for label in sample.train_labels[:12]]
    return datasets.Dataset.from_dict({"image": encoded, "label": labels}, features=features)


@pytest.mark.parametrize("kind", ["parquet folder", "parquet file", "saved"])
def test_tables(table, tmp_path, monkeypatch, kind):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = tmp_path / "data"
    if kind == "saved":
        table.save_to_disk(source)
    else:
        source.mkdir()
        table.to_parquet(source / "train-00000-of-00001.parquet")
        source = source if kind == "parquet folder" else source / "train-00000-of-00001.parquet"
    images = open_images(source, "train", size=28)
    sample = load_sample("fashion_mnist")
    kept = [i for i in range(12) if i != 5]
    assert images.labels.tolist() == sample.train_labels[kept].tolist()
    assert images.class_names == sample.class_names
    np.testing.assert_array_equal(images.read(np.arange(11))[0][..., 0], sample.train_images[kept])
    assert [problem.name for problem in images.skipped] == [f"{source}[train][5]"]
    if kind != "parquet file":  # a file is whatever split it is called
        with pytest.raises(ValueError, match="has no split 'test'; it has train"):
            open_images(source, "test", size=28)


@pytest.mark.parametrize("name", ["digits", "fashion_mnist"])
def test_samples(name):
    sample = load_sample(name)
    images = open_images(f"sample:{name}", "test", size=sample.test_images.shape[1], in_chans=1)
    np.testing.assert_array_equal(images.read(np.arange(len(images)))[0][..., 0], sample.test_images)
    np.testing.assert_array_equal(images.labels, sample.test_labels)


# ---------------------------------------------------------------------------------------------------------------- corrupt files


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("how", ["truncated", "garbage"])
def test_corrupt_images_are_skipped_and_listed(folder, how, in_memory, num_workers):
    spoil(folder / "cat" / "1.png", how)
    images = open_images(folder, size=16, memory_limit=(1 << 30) * in_memory)
    assert images.in_memory == in_memory
    read = list(images.read_many([np.arange(len(images))], num_workers))
    assert len(read[0][0]) == 5
    assert [problem.name for problem in images.skipped] == [str(folder / "cat" / "1.png")]
    assert "Error" in images.skipped[0].reason
    if in_memory:
        assert images.labels.tolist() == [0, 0, 1, 1, 1]
    else:
        assert read[0][1].tolist() == [True, False, True, True, True, True]


def test_memory_and_disk_give_the_same_pixels(folder):
    memory, disk = (open_images(folder, size=16, memory_limit=limit) for limit in (1 << 30, 0))
    order = np.array([5, 0, 3, 3])
    np.testing.assert_array_equal(memory.read(order)[0], disk.read(order)[0])


def test_all_corrupt_is_an_error(folder):
    for path in folder.rglob("*.png"):
        spoil(path, "garbage")
    with pytest.raises(ValueError, match="none of the 6 images"):
        open_images(folder, size=16)


def test_empty_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no image"):
        open_images(tmp_path, size=16)


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        open_images(tmp_path / "nowhere", size=16)


def test_other_errors_say_what_is_possible(folder):
    with pytest.raises(ValueError, match="in_chans=4"):
        open_images(folder, size=16, in_chans=4)
    with pytest.raises(ValueError, match="there is no sample 'cifar'"):
        open_images("sample:cifar", size=16)
    (folder / "notes.txt").write_text("")
    with pytest.raises(ValueError, match="no image data set"):
        open_images(folder / "notes.txt", size=16)


# ------------------------------------------------------------------------------------------------------------------------ views


def test_flip_view_is_the_mirror_image():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    views = views_of(pixels, 8, "flip")
    assert views.shape == (2, 2, 8, 8, 3)
    np.testing.assert_array_equal(views[:, 0], pixels)
    np.testing.assert_array_equal(views[:, 1], pixels[:, :, ::-1])


def test_ten_crop_by_hand():
    side = side_for(20, "ten_crop")
    assert side == 22
    pixels = np.arange(22 * 22, dtype=np.int64).reshape(1, 22, 22, 1)
    views = views_of(pixels, 20, "ten_crop")[0, ..., 0]
    assert views.shape == (10, 20, 20)
    assert [int(view[0, 0]) for view in views[:5]] == [0, 2, 44, 46, 23]
    np.testing.assert_array_equal(views[5:], views[:5, :, ::-1])


def test_unknown_views_are_refused():
    with pytest.raises(ValueError, match="views='five' is unknown"):
        side_for(20, "five")


def test_a_source_that_is_not_there_is_said_without_opening_one_that_is(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(sources, "open_items", lambda source, split: opened.append(source))
    for present in ("sample:digits", str(tmp_path)):
        sources.require_source(present, "train")
    assert opened == []
    sources.require_source(str(tmp_path / "absent"), "train")
    assert opened == [str(tmp_path / "absent")]
