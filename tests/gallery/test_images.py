"""Promises about images: every format is read, upright, with an id of its pixels; a gallery knows the model it was made with."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bigr_features import Gallery
from bigr_features.data.pixels import thumbnail_of
from bigr_features.features.embedder import Embedder
from bigr_features.features.extraction import ExtractionSettings, extract_to_store
from bigr_features.gallery import GallerySettings
from bigr_features.gallery.images import add_images

from .small import CLASSES, NASTY, mixed_folder, picture

NAME = "bigr_nano.fashion_mnist"


@pytest.fixture(scope="module")
def model():
    return timm.create_model(NAME, pretrained=True, num_classes=0).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return mixed_folder(tmp_path_factory.mktemp("images"))


def made(model, where, folder, **fields) -> tuple[Gallery, Embedder]:
    settings = GallerySettings(**fields)
    embedder = Embedder(model, settings, name=NAME)
    gallery = Gallery.create(where, settings, embedding=embedder.description)
    add_images(gallery, embedder, folder, progress=False)
    return gallery, embedder


def test_a_mixed_folder_is_read_whole(model, folder, tmp_path, caplog):
    settings = GallerySettings()
    embedder = Embedder(model, settings, name=NAME)
    gallery = Gallery.create(tmp_path / "g", settings, embedding=embedder.description)
    with caplog.at_level(logging.WARNING):
        report = add_images(gallery, embedder, folder, batch_size=7, progress=False)
    assert len(gallery) == len(report.ids) == 25
    assert [name for name, _ in report.skipped] == [str(folder / "Bag" / "broken.png")]
    assert "broken.png" in caplog.text
    ((copy, first),) = report.duplicates.items()
    assert copy == f"{first}-1"
    assert {gallery.item(item)["source"] for item in (copy, first)} == {str(folder / "Trouser" / name) for name in ("00.png", NASTY)}
    assert gallery.class_names == sorted(CLASSES)
    assert all(item["class_name"] == item["source"].split("/")[-2] for item in gallery.items())


def gallery_name(gallery, item):
    return gallery.item(item)["source"].split("/")[-1]


def test_formats_and_rotation_do_not_matter(model, folder, tmp_path):
    gallery, embedder = made(model, tmp_path / "g", folder)
    for number in (0, 6, 12, 15, 18):  # PNG, lossless WebP, turned by EXIF, RGBA, palette: the same pixels
        hits = gallery.search(**embedder.embed_images([picture(number)]), k=2, embedding=embedder.description)
        assert any(gallery_name(gallery, item).startswith(f"{number:02d}") for item in hits.ids[0])
        assert hits.scores[0, 0] == pytest.approx(1, abs=1e-5)
    query = Image.new("RGB", (20, 20))
    path = tmp_path / "query.png"
    query.save(path)
    by_path, by_image = (embedder.embed_images([image])["features"] for image in (path, query))
    np.testing.assert_array_equal(by_path, by_image)


def test_going_on_adds_what_is_missing_only(model, tmp_path):
    folder = mixed_folder(tmp_path / "images", 9)
    gallery, embedder = made(model, tmp_path / "g", folder)
    ids = gallery.ids.tolist()
    picture(30).save(folder / "Trouser" / "new.png")
    report = add_images(gallery, embedder, folder, progress=False)
    assert (len(report.ids), report.known) == (1, 10)
    assert gallery.ids.tolist() == ids + report.ids
    gallery.remove(report.ids)
    assert add_images(gallery, embedder, folder, progress=False).ids == report.ids


def test_classes_are_joined_by_name(model, tmp_path):
    for name, numbers in (("a", (0, 1)), ("b", (2, 4))):
        for number in numbers:
            (tmp_path / name / CLASSES[number % 3]).mkdir(parents=True, exist_ok=True)
            picture(number).save(tmp_path / name / CLASSES[number % 3] / f"{number}.png")
    gallery, embedder = made(model, tmp_path / "g", tmp_path / "a")
    add_images(gallery, embedder, tmp_path / "b", progress=False)
    (tmp_path / "flat").mkdir()
    picture(6).save(tmp_path / "flat" / "6.png")
    add_images(gallery, embedder, tmp_path / "flat", progress=False)
    add_images(gallery, embedder, tmp_path / "b" / "Bag" / "4.png", progress=False)  # a file by itself is there already
    assert gallery.class_names == ["Bag", "Trouser", "Ankle boot"]
    assert sorted(item["class_name"] or "" for item in gallery.items()) == ["", "Ankle boot", "Bag", "Bag", "Trouser"]
    assert all(item["class_name"] in (None, item["source"].split("/")[-2]) for item in gallery.items())


def test_a_long_addition_is_written_in_parts(model, tmp_path):
    folder = mixed_folder(tmp_path / "images", 12)
    settings = GallerySettings()
    embedder = Embedder(model, settings, name=NAME)
    gallery = Gallery.create(tmp_path / "g", settings)
    add_images(gallery, embedder, folder, batch_size=2, commit_every=4, progress=False, num_workers=1)
    other = Gallery.create(tmp_path / "h", settings)
    add_images(other, embedder, folder, progress=False)
    assert gallery.ids.tolist() == other.ids.tolist()
    np.testing.assert_allclose(gallery.features, other.features, atol=1e-5)
    assert gallery.generation > other.generation + 1


@pytest.mark.parametrize("fields", [
    {"metric": "hamming"}, {"metric": "hamming", "binarize": "itq", "num_bits": 20}, {"metric": "two_stage"},
    {"metric": "two_stage", "binarize": "sign"},
])  # fmt: skip
def test_bits_find_an_image_itself(model, folder, tmp_path, fields):
    gallery, embedder = made(model, tmp_path / "g", folder, **fields)
    number = 15
    hits = gallery.search(**embedder.embed_images([picture(number)]), k=2, embedding=embedder.description)
    assert gallery_name(gallery, hits.ids[0, 0]).startswith(f"{number:02d}")
    assert hits.scores[0, 0] == pytest.approx(1, abs=1e-5)
    if fields == {"metric": "hamming"}:
        assert gallery.num_bits == model.tokenizer.grid_size**2 * model.tokenizer.code_dim
        assert gallery.dim is None


def test_another_layer_model_or_transform_is_refused_by_name(model, folder, tmp_path):
    gallery, embedder = made(model, tmp_path / "g", folder)
    query = embedder.embed_images([picture(0)])
    assert embedder.description["feature"] == "block6_mean"
    other = timm.create_model("bigr_nano", num_classes=0).eval()
    for wrong, word in (
        (Embedder(model, gallery.settings, layer=2, name=NAME), "feature is 'block6_mean' there and 'block2_mean' here"),
        (Embedder(model, gallery.settings, pooling="max", name=NAME), "feature is 'block6_mean' there and 'block6_max' here"),
        (Embedder(other, gallery.settings, layer=6, name=NAME), "weights_sha256"),
        (Embedder(other, gallery.settings, layer=6, name="bigr_nano"), "model is"),
        (Embedder(model, gallery.settings, name=NAME, dtype="bf16"), "dtype is 'fp32' there and 'bf16' here"),
    ):
        with pytest.raises(ValueError, match=f"made in another way: .*{word}"):
            gallery.search(**query, k=1, embedding=wrong.description)
        with pytest.raises(ValueError, match="made in another way"):
            add_images(gallery, wrong, folder, progress=False)
    with pytest.raises(ValueError, match="preprocessing is"):
        gallery.check_embedding(embedder.description | {"preprocessing": "Resize(64)"})


def test_any_timm_model_makes_a_gallery(folder, tmp_path):
    torch.manual_seed(0)
    other = timm.create_model("test_vit", num_classes=0).eval()
    embedder = Embedder(other, GallerySettings(), pooling="cls", name="test_vit")
    gallery = Gallery.create(tmp_path / "g", embedding=embedder.description)
    add_images(gallery, embedder, folder, limit=6, progress=False)
    assert len(gallery) == 6
    with pytest.raises(ValueError, match="can be asked of BiGR models only"):
        Embedder(other, GallerySettings(metric="hamming"))


def test_a_feature_store_becomes_a_gallery_that_images_can_query(model, folder, tmp_path):
    settings = ExtractionSettings(source=str(folder), layers=(2, 6), bits=True)
    store = extract_to_store(model, tmp_path / "store", settings, name=NAME, weights="pretrained", progress=False)
    gallery = Gallery.from_store(tmp_path / "g", store, "block6_mean")
    embedder = Embedder(model, gallery.settings, name=NAME)
    hits = gallery.search(**embedder.embed_images([picture(15)]), k=1, embedding=embedder.description)
    assert gallery_name(gallery, hits.ids[0, 0]).startswith("15")
    assert gallery.ids.tolist() == store.ids.tolist() == made(model, tmp_path / "h", folder)[0].ids.tolist()
    assert gallery.class_names == store.class_names
    np.testing.assert_array_equal(gallery.labels, store.labels)
    codes = Gallery.from_store(tmp_path / "codes", store, metric="hamming")
    assert codes.search(**Embedder(model, codes.settings, name=NAME).embed_images([picture(15)]), k=1).scores[0, 0] == 1
    both = Gallery.from_store(tmp_path / "both", store, "block2_mean", metric="two_stage")
    assert both.num_bits == 1024
    for call, message in (
        (lambda: Gallery.from_store(tmp_path / "x", store), "give one of block2_mean, block6_mean, bits"),
        (lambda: Gallery.from_store(tmp_path / "x", store, "block9_mean"), "has no feature 'block9_mean'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert not (tmp_path / "x").exists()


def test_pictures_for_sheets_are_small_and_upright():
    large = thumbnail_of(Image.effect_noise((600, 300), 40), 96)
    assert Image.open(io.BytesIO(large)).size == (96, 48)
    assert len(large) < 10_000
    tiny = thumbnail_of(picture(0), 96)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(tiny)).convert("L")), np.asarray(picture(0)))


def test_wrong_sources_and_queries_are_named(model, tmp_path):
    settings = GallerySettings()
    embedder = Embedder(model, settings, name=NAME)
    gallery = Gallery.create(tmp_path / "g", settings)
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "x.png").write_bytes(b"no image")
    with pytest.raises(FileNotFoundError, match="holds no image"):
        add_images(gallery, embedder, tmp_path / "empty")
    with pytest.raises(ValueError, match="none of the 1 images"):
        add_images(gallery, embedder, tmp_path / "broken")
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        add_images(gallery, embedder, tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"x\.png cannot be read as an image"):
        embedder.embed_images([tmp_path / "broken" / "x.png"])
    with pytest.raises(FileNotFoundError, match="there is no image file"):
        embedder.embed_images([tmp_path / "nothing.png"])
    with pytest.raises(ValueError, match="there is no query image"):
        embedder.embed_images([])
    with pytest.raises(ValueError, match="layer 12 is out of range"):
        Embedder(model, settings, layer=12)
    assert len(gallery) == 0
