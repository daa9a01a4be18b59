"""Promises about the life of a gallery: it follows its folder and its model, keeps ids, knows copies, and says why."""

from __future__ import annotations

import json
import logging
import os

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bigr_features import Gallery
from bigr_features.data.reopened import image_of
from bigr_features.features.embedder import Embedder
from bigr_features.features.explanation import explain
from bigr_features.features.similarity import token_grid, token_similarity
from bigr_features.gallery import GallerySettings
from bigr_features.gallery.duplicates import find_duplicates
from bigr_features.gallery.images import add_images
from bigr_features.gallery.lifecycle import SIDE, plan_sync, reembed, sync

from .small import picture
from .test_gallery import names, vectors


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=0).eval()


@pytest.fixture(scope="module")
def other():
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=0).eval()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(8):
        picture(i).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def gallery(tmp_path, photos, model):
    return Gallery.from_folder(photos, model, out=tmp_path / "g", progress=False)


def sources(gallery: Gallery) -> dict[str, str]:
    return {os.path.basename(item["source"]): item["id"] for item in gallery.items()}


# ------------------------------------------------------------------------------------------------------------------------ sync


def test_a_folder_that_changed_is_followed(gallery, photos):
    before = sources(gallery)
    picture(20).save(photos / "new.png")
    picture(21).save(photos / "3.png")
    (photos / "4.png").unlink()
    (photos / "broken.png").write_bytes(b"no image")
    os.utime(photos / "5.png")  # touched, not changed
    plan = plan_sync(gallery, photos)
    assert plan.added == [str(photos / "new.png")]
    assert plan.changed == [str(photos / "3.png")]
    assert plan.gone == {str(photos / "4.png"): [before["4.png"]]}
    assert list(plan.unreadable) == [str(photos / "broken.png")]
    assert plan.same == 6
    assert sources(gallery) == before, "a plan wrote something"
    report = sync(gallery, gallery.embedder, photos, plan, progress=False)
    assert len(report.ids) == 2
    after = sources(gallery)
    assert set(after) == {"0.png", "1.png", "2.png", "3.png", "5.png", "6.png", "7.png", "new.png"}
    assert after["3.png"] != before["3.png"]
    assert all(after[name] == before[name] for name in ("0.png", "5.png", "7.png"))
    again = plan_sync(gallery, photos)
    assert (again.added, again.changed, again.gone, again.same, again.touched) == ([], [], {}, 8, {})
    fresh = Gallery.from_folder(photos, gallery.embedder.model, progress=False)
    assert sorted(fresh.ids) == sorted(gallery.ids)


def test_an_interrupted_sync_goes_on(gallery, photos, monkeypatch):
    picture(21).save(photos / "3.png")
    (photos / "4.png").unlink()
    plan = plan_sync(gallery, photos)
    monkeypatch.setattr(Gallery, "remove", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sync(gallery, gallery.embedder, photos, plan, progress=False)
    monkeypatch.undo()
    assert len(gallery) == 9, "the old image of 3.png is still there beside the new one"
    plan = plan_sync(gallery, photos)
    assert (plan.added, plan.changed) == ([], [])
    sync(gallery, None, photos, plan)
    assert len(gallery) == 7
    assert plan_sync(gallery, photos).same == 7


def test_files_that_only_another_split_holds_are_not_gone(tmp_path, model):
    for split in ("train", "test"):
        (tmp_path / "d" / split).mkdir(parents=True)
        picture(3 if split == "train" else 4).save(tmp_path / "d" / split / "a.png")
    gallery = Gallery.from_folder(tmp_path / "d", model, split="test", progress=False)
    add_images(gallery, gallery.embedder, tmp_path / "d", "train", progress=False)
    assert not plan_sync(gallery, tmp_path / "d", "train").gone
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        plan_sync(gallery, tmp_path / "nowhere")


def test_images_without_stamps_are_known_by_their_pixels(tmp_path, photos, model):
    gallery = Gallery.from_folder(photos, model, out=tmp_path / "h", progress=False)
    bare = Gallery.create(tmp_path / "bare", embedding=gallery.embedding)
    bare.add(gallery.features, ids=gallery.ids.tolist(), sources=[item["source"] for item in gallery.items()])
    plan = plan_sync(bare, photos)
    assert (plan.same, len(plan.touched)) == (8, 8)
    sync(bare, None, photos, plan)
    assert not plan_sync(bare, photos).touched


# --------------------------------------------------------------------------------------------------------------------- reindex


def test_another_model_embeds_the_same_images_under_the_same_ids(gallery, other, photos, tmp_path):
    ids, items = gallery.ids.tolist(), list(gallery.items())
    pictures = [gallery.thumbnail(item) for item in ids]
    reader = Gallery(gallery.folder)
    embedder = Embedder.of(other, gallery.settings)
    assert reembed(gallery, embedder, progress=False) == []
    assert gallery.ids.tolist() == ids
    assert list(gallery.items()) == items
    assert [gallery.thumbnail(item) for item in ids] == pictures
    assert gallery.embedding["model"] == embedder.name
    assert not (gallery.folder / SIDE).exists()
    fresh = Gallery.from_folder(photos, other, progress=False)
    np.testing.assert_allclose(gallery.features, fresh.features, atol=1e-5)
    assert reader.search_ids(ids[:1], k=3).ids.shape == (1, 3)
    assert reader.dim != gallery.dim
    with pytest.raises(ValueError, match="made in another way"):
        gallery.search(**embedder.embed_images([picture(0)]), embedding=reader.embedding, k=1)


def test_reindexing_goes_on_and_the_old_vectors_serve_until_it_is_done(gallery, other, monkeypatch):
    embedder = Embedder.of(other, gallery.settings)
    calls = []
    embed = Embedder.embed_images

    def stop_after_two(self, images):
        calls.append(len(images))
        if len(calls) > 2:
            raise KeyboardInterrupt
        return embed(self, images)

    monkeypatch.setattr(Embedder, "embed_images", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        reembed(gallery, embedder, batch_size=2, commit_seconds=0, progress=False)
    assert gallery.dim == 64
    monkeypatch.undo()
    assert len(Gallery(gallery.folder / SIDE)) == 4
    gallery.add(gallery.features[:1], ids=["by hand"], sources=[str(gallery.item(gallery.ids[0])["source"])])
    reembed(gallery, embedder, progress=False)
    assert len(gallery) == 9
    assert gallery.embedding == embedder.description


def test_images_that_cannot_be_read_any_more_are_named_or_dropped(gallery, other, photos):
    (photos / "4.png").unlink()
    picture(30).save(photos / "5.png")
    before, embedder = sources(gallery), Embedder.of(other, gallery.settings)
    with pytest.raises(ValueError, match=r"2 of 8 images cannot be read from their sources, the first is .*4\.png: FileNotFoundError"):
        reembed(gallery, embedder, progress=False)
    assert sources(gallery) == before
    assert gallery.dim == 64
    assert sorted(reembed(gallery, embedder, drop_missing=True, progress=False)) == sorted([before["4.png"], before["5.png"]])
    assert set(sources(gallery)) == set(before) - {"4.png", "5.png"}


def test_sources_of_tables_and_samples_are_found_again(tmp_path, model):
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"image": [picture(i) for i in range(3)]}, features=datasets.Features({"image": datasets.Image()}))
    table.to_parquet(tmp_path / "t.parquet")
    embedder = Embedder.of(model, GallerySettings())
    for number, (source, split) in enumerate(
        [(tmp_path / "t.parquet", "train"), ("sample:fashion_mnist", "train"), ("sample:fashion_mnist", "test")]
    ):
        gallery = Gallery.create(tmp_path / str(number), embedding=embedder.description)
        add_images(gallery, embedder, source, split, limit=3, progress=False)
        for item in gallery.items():
            assert image_of(item["source"], item=item["id"]).size == (28, 28)
    with pytest.raises(FileNotFoundError, match="no such file any more"):
        image_of("/nowhere/x.png")
    with pytest.raises(FileNotFoundError, match="no source"):
        image_of(None)


# ------------------------------------------------------------------------------------------------------------------ duplicates


def test_copies_near_copies_and_outliers_by_hand(tmp_path):
    rows = np.eye(8, dtype=np.float32)[[0, 0, 1, 1, 1, 2, 3]]
    rows[3, 7], rows[4, 7], rows[5, :3], rows[6, 0] = 0.01, 0.02, (0.6, 0, 0.8), 0.1
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(rows, ids=["a", "a", "b", "c", "d", "e", "f"], copies="number")
    found = find_duplicates(gallery, threshold=0.99, outliers=1)
    assert found.exact == [["a", "a-1"]]
    assert [sorted(group) for group in found.near] == [["b", "c", "d"]]
    assert 0.99 <= found.similarities[0] <= 1
    assert found.outliers == [("f", pytest.approx(0.0995, abs=1e-3))]
    assert find_duplicates(gallery, threshold=1, outliers=0).near == []
    with pytest.raises(ValueError, match=r"threshold=1\.5"):
        find_duplicates(gallery, 1.5)
    with pytest.raises(ValueError, match="holds 0 items"):
        find_duplicates(Gallery.create(tmp_path / "h"))


def test_many_copies_do_not_hide_a_near_copy(tmp_path):
    gallery = Gallery.create(tmp_path / "g")
    rows = np.repeat(vectors(1), 40, 0)
    rows[39] += 0.01
    gallery.add(rows, ids=["copy"] * 39 + ["near"], copies="number")
    found = find_duplicates(gallery, 0.999)
    assert len(found.exact) == 1
    assert found.near == [["copy", "near"]]


# ------------------------------------------------------------------------------------------------------------------------- why


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "bigr_nano", "test_convnext"])
def test_identical_pictures_give_a_symmetric_map(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0).eval()
    embedder = Embedder.of(model, GallerySettings())
    why = explain(embedder, picture(3), picture(3))
    np.testing.assert_allclose(why.similarity.matrix, why.similarity.matrix.T, atol=1e-5)
    np.testing.assert_allclose(why.similarity.first, 1, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(why.query), np.asarray(why.hit))
    different = explain(embedder, picture(3), picture(4))
    assert different.similarity.first.min() < 0.9999
    assert different.pair.width > 2 * 200
    assert different._repr_png_()[:4] == b"\x89PNG"


def test_similarity_of_tokens_by_hand():
    first = torch.tensor([[1.0, 0], [0, 1]]).T.reshape(2, 1, 2)  # tokens (1, 0) and (0, 1) side by side
    second = torch.tensor([[2.0, 0]]).T.reshape(2, 1, 1)
    found = token_similarity(first, second)
    assert found.matrix.tolist() == [[1], [0]]
    assert (found.first.tolist(), found.second.tolist()) == ([[1, 0]], [[1]])
    with pytest.raises(ValueError, match="with the same D"):
        token_similarity(first, torch.ones(3, 1, 1))


def test_layers_that_are_not_there_are_refused(model):
    images = torch.zeros(1, 3, 160, 160)
    assert token_grid(model, images, 0).shape[:2] == (1, 64)
    with pytest.raises(ValueError, match="layer 99 is out of range"):
        token_grid(model, images, 99)
    with pytest.raises(ValueError, match="no forward_intermediates"):
        token_grid(torch.nn.Conv2d(3, 3, 1), images)


def test_a_hit_is_explained_from_its_source_or_its_thumbnail(gallery, photos):
    item = sources(gallery)["3.png"]
    why = gallery.explain(photos / "2.png", item)
    same = gallery.explain(item, item)
    np.testing.assert_allclose(same.similarity.matrix, same.similarity.matrix.T, atol=1e-5)
    (photos / "3.png").unlink()
    np.testing.assert_allclose(gallery.explain(photos / "2.png", item).similarity.matrix, why.similarity.matrix, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------------------- API


def test_five_lines(photos, model):
    gallery = Gallery.from_folder(photos, model=model, progress=False)
    hits = gallery.search(photos / "2.png", k=3)
    assert hits.ids[0, 0] == sources(gallery)["2.png"]
    assert hits.sheet().width > 400
    assert hits._repr_png_()[:4] == b"\x89PNG"


def test_queries_of_every_kind_find_the_same(gallery, photos, tmp_path):
    expected = gallery.search(gallery.embedder.embed_images([photos / "2.png"])["features"], k=3).ids.tolist()
    image = Image.open(photos / "2.png")
    rgb = np.asarray(image.convert("RGB"))
    for query in (photos / "2.png", str(photos / "2.png"), image, np.asarray(image), rgb, [image], [str(photos / "2.png")]):
        assert gallery.search(query, k=3).ids.tolist() == expected
    assert gallery.search([image, photos / "3.png"], k=3).ids[0].tolist() == expected[0]
    item = sources(gallery)["2.png"]
    assert gallery.search(item[:12], k=2).ids.tolist() == gallery.search_ids([item], k=2).ids.tolist()
    assert gallery.search([item, item], k=2).ids.shape == (2, 2)
    for rows in (list(gallery.features[:2]), torch.from_numpy(gallery.features[:2]), torch.from_numpy(gallery.features[:2]).double()):
        assert gallery.search(rows, k=1).ids[:, 0].tolist() == gallery.ids[:2].tolist()
    assert gallery.search([photos / "2.png", photos / "3.png"], k=2, combine=True).sheet(tmp_path / "s.html").is_file()
    fresh = Gallery(gallery.folder)
    with pytest.raises(ValueError, match=r"set gallery\.embedder"):
        fresh.search(image, k=1)
    fresh.embedder = gallery.embedder
    assert fresh.search(image, k=3).ids.tolist() == expected


@pytest.mark.parametrize(("query", "kind", "message"), [
    ("nothing.png", FileNotFoundError, "'nothing.png' is neither an image file nor an id"),
    ([], ValueError, "there is no query"),
    (3, TypeError, "a query is a int"),
    ([None], TypeError, "a query is a NoneType"),
    (["PHOTO", "ID"], ValueError, "images and ids; search by one kind"),
    (np.zeros((2, 3), int), TypeError, "expected floats"),
])  # fmt: skip
def test_queries_that_make_no_sense_are_named(gallery, photos, query, kind, message):
    if isinstance(query, list) and "PHOTO" in query:
        query = [photos / "2.png", gallery.ids[0]]
    with pytest.raises(kind, match=message):
        gallery.search(query, k=1)


def test_a_gallery_of_a_pretrained_model_makes_it_again(tmp_path, photos):
    name = "bigr_nano.fashion_mnist"
    Gallery.from_folder(photos, name, out=tmp_path / "n", progress=False).close()
    with Gallery(tmp_path / "n") as gallery:
        assert gallery.search(photos / "2.png", k=1).scores[0, 0] == pytest.approx(1, abs=1e-5)
    with pytest.raises(Exception, match="closed"):
        gallery.search_ids(["x"])


def test_items_in_batches(gallery):
    batches = list(gallery.batches(3))
    assert [len(batch["items"]) for batch in batches] == [3, 3, 2]
    np.testing.assert_array_equal(np.concatenate([batch["features"] for batch in batches]), gallery.features)
    assert [item for batch in batches for item in batch["items"]] == list(gallery.items())
    assert batches[0]["bits"] is None
    with pytest.raises(ValueError, match="size=0"):
        next(gallery.batches(0))


def test_a_data_set_for_fiftyone(tmp_path):
    gallery = Gallery.create(tmp_path / "g", class_names=["cat", "dog"])
    (tmp_path / "a.png").write_bytes(b"x")
    sources = [str(tmp_path / "a.png"), "t.parquet[train][0]", None]
    gallery.add(
        vectors(3), ids=names(3), labels=[0, 1, -1], sources=sources, thumbnails=[b"", b"\xff\xd8jpeg", b""], metadata=[{"a": 1}, {}, {}]
    )
    folder = gallery.to_fiftyone(tmp_path / "out")
    assert json.loads((folder / "metadata.json").read_text())["media_type"] == "image"
    samples = json.loads((folder / "samples.json").read_text())["samples"]
    assert [sample["gallery_id"] for sample in samples] == names(3)
    assert samples[0]["filepath"] == str(tmp_path / "a.png")
    assert (folder / samples[1]["filepath"]).read_bytes() == b"\xff\xd8jpeg"
    assert [sample["ground_truth"] and sample["ground_truth"]["label"] for sample in samples] == ["cat", "dog", None]
    np.testing.assert_array_equal(np.array([sample["embedding"] for sample in samples], np.float32), gallery.features)
    assert samples[0]["about"] == {"a": 1}
    with pytest.raises(FileExistsError, match="not empty"):
        gallery.to_fiftyone(tmp_path / "out")


def test_an_addition_without_thumbnails_loses_none(gallery):
    pictures = [gallery.thumbnail(item) for item in gallery.ids]
    gallery.add(vectors(5, dim=gallery.dim), ids=names(5))
    gallery.compact()
    assert [gallery.thumbnail(item) for item in gallery.ids] == [*pictures, *[None] * 5]


def test_names_that_are_not_utf_8(tmp_path, model, caplog):
    folder = tmp_path / "d"
    folder.mkdir()
    name = os.fsdecode(b"im\xfe.png")
    picture(2).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(folder / name)
    with caplog.at_level(logging.WARNING):
        gallery = Gallery.from_folder(folder, model, progress=False)
    assert gallery.item(gallery.ids[0])["source"] == str(folder / name)
    hits = gallery.search(folder / name, k=1)
    for kind in ("html", "png"):
        assert hits.sheet(tmp_path / f"s.{kind}").stat().st_size > 100
    assert "im%FE.png" in (tmp_path / "s.html").read_text()
    assert plan_sync(gallery, folder).same == 1
