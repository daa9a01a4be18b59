"""Promise: the page's answers are those of the library: search, heat maps, drawings step by step, clusters; nothing changes a gallery."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from bigr_features.cli.drawing import load_generator
from bigr_features.gallery import Gallery
from bigr_features.gallery.mixed import comparisons_of, search_mixed
from bigr_features.plots.pictures import read_settings
from bigr_features.sampling import editing
from bigr_features.web.limits import Limits

from .pages import MODEL, client_of, ended, events_of, make_gallery, make_page, png


@pytest.fixture(scope="module")
def gallery(gallery_folder):
    with Gallery(gallery_folder) as found:
        yield found


def find(client, **asked) -> dict:
    answer = client.get("/api/search", params={"gallery": "clothes", **asked})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_there_is(client, gallery):
    about = client.get("/api/about").json()
    (found,) = about["galleries"]
    assert (found["name"], found["count"], about["model"]) == ("clothes", 40, MODEL)
    assert sum(one["count"] for one in found["classes"]) == 40
    assert [one["name"] for one in found["classes"]] == gallery.class_names
    assert found["metrics"] == ["two_stage", "cosine", "hamming"]


@pytest.mark.parametrize("metric", ["two_stage", "cosine", "hamming"])
def test_search_by_items_is_that_of_python(client, gallery, metric):
    like, unlike = [str(item) for item in gallery.ids[:2]], [str(gallery.ids[9])]
    found = find(client, like=like, unlike=unlike, metric=metric, k=12)
    hits = gallery.search_mixed(like, unlike, k=12, metric=metric)
    assert [hit["id"] for hit in found["hits"]] == hits.ids[0].tolist()
    np.testing.assert_allclose([hit["score"] for hit in found["hits"]], hits.scores[0], atol=1e-4)
    assert not {*like, *unlike} & {hit["id"] for hit in found["hits"]}


def test_one_item_is_found_as_by_search_ids(client, gallery):
    item = str(gallery.ids[3])
    hits = gallery.search_ids([item], k=10)
    found = find(client, like=item, k=10)
    assert [hit["id"] for hit in found["hits"]] == hits.ids[0].tolist()
    same = hits.labels[0] == gallery.item(item)["label"]
    assert found["precision"]["10"] == round(float(same.mean()), 4)
    assert [hit["same"] for hit in found["hits"]] == same.tolist()


def test_less_like_a_picture_moves_it_down(gallery):
    like, unlike = str(gallery.ids[0]), str(gallery.search_ids([str(gallery.ids[0])], k=1).ids[0, 0])
    plain = search_mixed(gallery, [like], k=30, metric="cosine").ids[0].tolist()
    features = dict(zip(gallery.ids.tolist(), gallery.features, strict=True))
    nearest = max((item for item in plain if item != unlike), key=lambda item: features[item] @ features[unlike])
    without = search_mixed(gallery, [like], [unlike], k=30, metric="cosine", weight=0.9).ids[0].tolist()
    assert unlike not in without
    assert (without.index(nearest) if nearest in without else 30) > plain.index(nearest)


def test_a_gallery_of_one_kind_of_vectors_says_how_to_get_the_other(tmp_path):
    folder = make_gallery(tmp_path / "floats", 10)
    with Gallery(folder) as gallery:
        assert comparisons_of(gallery) == ("cosine",)
        with pytest.raises(ValueError, match="bigr reindex"):
            search_mixed(gallery, [str(gallery.ids[0])], metric="hamming")
        with pytest.raises(ValueError, match="nothing to be like"):
            search_mixed(gallery, [])


def test_a_picture_that_is_dropped_finds_itself_first(client, gallery):
    item = str(gallery.ids[5])
    content = client.get("/api/image", params={"gallery": "clothes", "id": item}).content
    sent = client.post("/api/pictures", content=content).json()
    assert (sent["width"], sent["height"], sent["settings"]) == (28, 28, None)
    first = find(client, sent=sent["id"], metric="cosine")["hits"][0]
    assert first["id"] == item
    assert first["score"] == pytest.approx(1, abs=1e-3)
    why = client.get("/api/why", params={"gallery": "clothes", "sent": sent["id"], "hit": item}).json()
    assert why["query"]["grid"] == why["hit"]["grid"]
    np.testing.assert_allclose(why["query"]["grid"], 1, atol=1e-3)
    assert why["query"]["picture"] == why["hit"]["picture"]


def test_a_class_and_a_name_and_both(client, gallery):
    label = 4
    found = find(client, **{"class": label})
    assert {hit["label"] for hit in found["hits"]} == {label}
    assert len(found["hits"]) == int((gallery.labels == label).sum())
    assert {hit["label"] for hit in find(client, like=str(gallery.ids[0]), among=[1, 2])["hits"]} == {1, 2}
    name = find(client)["hits"][0]["file"]
    assert name in [hit["file"] for hit in find(client, name=name.upper())["hits"]]
    assert find(client, name="no such name")["hits"] == []


def test_export(client, gallery):
    ids = [str(item) for item in gallery.ids[:3]]
    rows = client.post("/api/export", json={"gallery": "clothes", "ids": ids, "as": "json"}).json()
    assert [row["id"] for row in rows] == ids
    table = list(csv.DictReader(io.StringIO(client.post("/api/export", json={"gallery": "clothes", "ids": ids, "as": "csv"}).text)))
    assert [row["class_name"] for row in table] == [gallery.item(item)["class_name"] for item in ids]


def test_pictures_come_by_id_and_are_kept_by_the_browser(client, gallery):
    answer = client.get("/api/thumbnail", params={"gallery": "clothes", "id": str(gallery.ids[0])})
    assert answer.content == gallery.thumbnail(str(gallery.ids[0]))
    assert "immutable" in answer.headers["cache-control"]


# ----------------------------------------------------------------------------------------------------- drawing


@pytest.fixture(scope="module")
def model():
    return load_generator(MODEL, None, "cpu")


MASK = [18, 19, 20, 26, 27, 28]


def test_a_drawing_is_that_of_python_and_its_known_tokens_never_change(client, gallery, model):
    from bigr_features.data.pixels import read_pixels
    from bigr_features.gallery.sheets import item_image
    from bigr_features.web.painting import pixel_mask

    item = str(gallery.ids[0])
    asked = {"kind": "draw", "gallery": "clothes", "id": item, "mask": MASK, "label": 8, "seed": 3, "steps": 3, "guidance": 2.0, "count": 2}
    job = client.post("/api/jobs", json=asked).json()["id"]
    last = ended(client, job)
    assert last["what"] == "done", last
    pixels = read_pixels(item_image(gallery, item), 32)
    images = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float().expand(2, 3, 32, 32) / 255
    expected = editing.inpaint(
        model, images, pixel_mask(MASK, 8, 32), 8, num_reveal_steps=3, guidance_scale=2.0, order="entropy", seeds=[3, 4]
    )
    for i, name in enumerate(last["results"]):
        content = client.get(f"/api/jobs/{job}/pictures/{name}").content
        drawn = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(drawn, (expected.images[i].permute(1, 2, 0) * 255).round().byte().numpy())
        settings = read_settings(io.BytesIO(content))
        assert (settings["command"], settings["seed"], settings["labels"], settings["mask_tokens"]) == ("inpaint", 3 + i, 8, MASK)
    events = events_of(client, job)
    steps = [event for event in events if event["what"] == "step" and event["image"] == 1]
    assert [event["number"] for event in steps] == list(range(len(steps)))
    assert sorted(token for event in steps for token in event["revealed"]) == MASK
    assert all(len(event["revealed"]) == len(event["confidence"]) for event in steps)
    known = [token for token in range(64) if token not in MASK]
    assert len({tuple(event["codes"][token] for token in known) for event in steps}) == 1
    final = [row.tobytes().hex() for row in np.packbits(expected.codes[1].numpy().astype(bool), axis=1)]
    assert steps[-1]["codes"] == final
    picture = client.get(f"/api/jobs/{job}/pictures/{steps[-1]['picture']}").content
    assert Image.open(io.BytesIO(picture)).size == (32, 32)


def test_settings_inside_a_result_make_it_again(client):
    asked = {"kind": "draw", "label": 2, "seed": 7, "steps": 4}
    job = client.post("/api/jobs", json=asked).json()["id"]
    result = ended(client, job)["results"][0]
    content = client.get(f"/api/jobs/{job}/pictures/{result}").content
    inside = client.post("/api/pictures", content=content).json()["settings"]
    again = {"kind": "draw", "label": inside["labels"], "seed": inside["seed"], "steps": inside["num_reveal_steps"]}
    again |= {"guidance": inside["guidance_scale"], "order": inside["order"]}
    job = client.post("/api/jobs", json=again).json()["id"]
    second = client.get(f"/api/jobs/{job}/pictures/{ended(client, job)['results'][0]}").content
    assert second == content


def test_a_page_that_comes_back_goes_on_after_the_last_event_it_saw(client):
    job = client.post("/api/jobs", json={"kind": "draw", "label": 1, "steps": 5}).json()["id"]
    ended(client, job)
    events = events_of(client, job)
    assert [event["what"] for event in events][:2] == ["running", "start"]
    assert events_of(client, job, after=3) == events[4:]
    assert events_of(client, job, after=10**6) == []


def test_causal_models_draw_token_by_token_and_change_no_picture(gallery_folder):
    import timm

    causal = timm.create_model("bigr_nano_bin_ar", depth=1, width=32, num_heads=2, denoiser_width=16, denoiser_depth=1).eval()
    page = make_page(gallery_folder, model="bigr_nano_bin_ar", load=lambda: (causal, None))
    client = client_of(page)
    assert client.get("/api/model").json()["causal"]
    job = client.post("/api/jobs", json={"kind": "draw", "label": 1, "guidance": 1}).json()["id"]
    assert ended(client, job)["what"] == "done"
    steps = [event for event in events_of(client, job) if event["what"] == "step"]
    assert [event["revealed"] for event in steps] == [[token] for token in range(64)]
    with Gallery(gallery_folder) as gallery:
        asked = {"kind": "draw", "gallery": "clothes", "id": str(gallery.ids[0]), "mask": [1]}
    answer = client.post("/api/jobs", json=asked)
    assert answer.status_code == 400
    assert "not change one" in answer.json()["error"]
    page.worker.close()


@pytest.mark.parametrize(
    ("name", "asked", "refused"),
    [
        ("bigr_nano.fashion_mnist_uncond", {}, {"label": 1}),
        ("bigr_nano_t2i.fashion_mnist", {"text": "a dark bag"}, {"label": 1}),
        ("bigr_nano_t2i.fashion_mnist", {}, {"text": "x" * 1001}),
    ],
)
def test_models_without_classes_and_of_prompts(gallery_folder, name, asked, refused):
    page = make_page(gallery_folder, model=name)
    client = client_of(page)
    about = client.get("/api/model").json()
    assert (about["classes"], about["text"]) == ([], "t2i" in name)
    with Gallery(gallery_folder) as gallery:
        picture = {"gallery": "clothes", "id": str(gallery.ids[0]), "mask": [0, 1, 2], "steps": 2}
    for given in ({"steps": 2}, picture):
        last = ended(client, client.post("/api/jobs", json={"kind": "draw", **asked, **given}).json()["id"])
        assert last["what"] == "done", last
    assert client.post("/api/jobs", json={"kind": "draw", **refused}).status_code == 400
    page.worker.close()


# ----------------------------------------------------------------------------------------------------- jobs


def test_a_queue_of_four_with_places_and_cancel():
    page = make_page(model=None, limits=Limits(waiting=4, jobs=2))
    client = client_of(page)
    go, started = threading.Event(), threading.Event()

    def work(job):
        started.set()
        while not go.wait(0.01):
            job.check()
        return {}

    jobs = [page.worker.submit("x", work)]
    assert started.wait(10)
    jobs += [page.worker.submit("x", work) for _ in range(4)]
    assert [page.worker.place(job) for job in jobs] == [0, 1, 2, 3, 4]
    from bigr_features.web.answers import Refused

    with pytest.raises(Refused, match="4 wait"):
        page.worker.submit("x", work)
    assert client.delete(f"/api/jobs/{jobs[2].id}").json()["state"] == "cancelled"
    assert page.worker.place(jobs[3]) == 2
    client.delete(f"/api/jobs/{jobs[0].id}")
    assert ended(client, jobs[0].id)["what"] == "cancelled"
    go.set()
    for job in jobs[1:]:
        ended(client, job.id)
    assert [job.state for job in jobs] == ["cancelled", "done", "cancelled", "done", "done"]
    page.worker.submit("x", work)
    assert len(client.get("/api/jobs").json()) <= 4  # the oldest are forgotten
    assert client.get(f"/api/jobs/{jobs[0].id}/events").status_code == 404
    page.worker.close()
    with pytest.raises(Refused, match="ending"):
        page.worker.submit("x", work)


def test_a_job_that_fails_says_why_and_the_next_one_runs():
    page = make_page(model=None)
    client = client_of(page)

    def fails(job):
        raise ValueError("such\na thing")

    def breaks(job):
        raise KeyError("inside")

    first, second, third = (page.worker.submit("x", work) for work in (fails, breaks, lambda job: {"x": 1}))
    assert ended(client, first.id) == {"what": "failed", "error": "such\\na thing"}
    assert "KeyError" in ended(client, second.id)["error"]
    assert "inside" not in ended(client, second.id)["error"]
    assert ended(client, third.id) == {"what": "done", "x": 1}
    page.worker.close()


# ----------------------------------------------------------------------------------------------------- clusters


def unpacked(content: bytes, layers: int, n: int):
    values = np.frombuffer(content, "<u2")
    return values[: layers * n * 2].reshape(layers, n, 2), values[layers * n * 2 :]


def test_clusters_of_a_gallery_are_kept_beside_it(tmp_path, gallery_folder):
    folder = shutil.copytree(gallery_folder, tmp_path / "copy")
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if not path.name.endswith("-shm")}
    page = make_page(folder, model=None)
    client = client_of(page)
    asked = {"gallery": "copy", "method": "pca", "items": 30}
    assert client.get("/api/clusters", params=asked).json()["ready"] is False
    assert client.get("/api/clusters/points", params=asked).status_code == 409
    assert ended(client, client.post("/api/jobs", json={"kind": "clusters", **asked}).json()["id"])["what"] == "done"
    about = client.get("/api/clusters", params=asked).json()
    assert (about["ready"], about["items"], about["of"]) == (True, 30, 40)
    points, labels = unpacked(client.get("/api/clusters/points", params=asked).content, 1, 30)
    assert points.min() >= 0
    assert points.max() == 65535 or points.min() == 0
    assert len(list((tmp_path / "copy.projections").iterdir())) == 1
    items = client.post("/api/clusters/items", json={**asked, "points": [0, 29]}).json()
    ids = client.get("/api/clusters/ids", params=asked).json()
    with Gallery(folder) as gallery:
        for item, point in zip(items, (0, 29), strict=True):
            assert item["id"] == ids[point]
            assert gallery.item(item["id"])["label"] == labels[point]
    after = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if not path.name.endswith("-shm")}
    assert after == before
    for wrong in ({"points": [30]}, {"points": "x"}, {"points": [True]}, {"points": [0] * 501}, {"points": [0], "method": "x"}):
        assert client.post("/api/clusters/items", json={**asked, **wrong}).status_code == 400
    page.worker.close()
    again = client_of(make_page(folder, model=None))
    assert again.get("/api/clusters", params=asked).json()["ready"] is True


def test_layers_of_a_store_are_turned_to_each_other(tmp_path):
    from bigr_features.cli import main

    out = tmp_path / "store"
    main(["extract", "--model", MODEL, "--source", "sample:fashion_mnist", "--limit", "20", "--layers", "2", "5", "6", "--out", str(out)])
    page = make_page(out, model=None)
    client = client_of(page)
    asked = {"gallery": "store", "method": "pca", "items": 100}
    assert ended(client, client.post("/api/jobs", json={"kind": "clusters", **asked}).json()["id"])["what"] == "done"
    about = client.get("/api/clusters", params=asked).json()
    assert about["layers"] == ["block2_mean", "block5_mean", "block6_mean"]
    points, _ = unpacked(client.get("/api/clusters/points", params=asked).content, 3, 20)
    centred = points.astype(float) - points.astype(float).mean(1, keepdims=True)
    for one, next_one in pairwise(centred):
        moved = one.T @ next_one  # after an orthogonal Procrustes alignment this is symmetric and positive
        np.testing.assert_allclose(moved, moved.T, rtol=0.02, atol=0.01 * np.abs(moved).max())
        assert np.linalg.eigvalsh((moved + moved.T) / 2).min() > 0
    first = client.post("/api/clusters/items", json={**asked, "points": [0]}).json()[0]
    assert client.get("/api/thumbnail", params={"gallery": "store", "id": first["id"]}).content[:4] == b"\x89PNG"
    assert "feature store" in client.get("/api/search", params={"gallery": "store"}).json()["error"]
    page.worker.close()


# ----------------------------------------------------------------------------------------------------- galleries that change


def test_what_another_process_adds_is_seen_and_a_gallery_that_goes_is_said(tmp_path, gallery_folder):
    folder = shutil.copytree(gallery_folder, tmp_path / "moving")
    client = client_of(make_page(folder, model=None))
    with Gallery(folder) as other:
        item = str(other.ids[0])
        assert client.get("/api/search", params={"gallery": "moving", "k": 1}).json()["of"] == 40
        other.remove([item])
    assert client.get("/api/search", params={"gallery": "moving", "k": 1}).json()["of"] == 39
    assert client.get("/api/thumbnail", params={"gallery": "moving", "id": item}).status_code == 404
    shutil.rmtree(folder)
    answer = client.get("/api/search", params={"gallery": "moving"})
    assert (answer.status_code, "not there any more" in answer.json()["error"]) == (410, True)
    assert "not there any more" in client.get("/api/about").json()["galleries"][0]["error"]
    shutil.copytree(gallery_folder, folder)
    assert client.get("/api/search", params={"gallery": "moving", "k": 1}).json()["of"] == 40


def test_empty_single_and_unlabelled_galleries(tmp_path):
    empty, single = tmp_path / "empty", tmp_path / "single"
    Gallery.create(empty).close()
    with Gallery.create(single) as gallery:
        gallery.add(np.ones((1, 4), np.float32), ids=["one"], thumbnails=[png(Image.new("L", (8, 8)))])
    client = client_of(make_page(empty, single, model=None))
    assert client.get("/api/search", params={"gallery": "empty"}).json()["hits"] == []
    found = client.get("/api/search", params={"gallery": "single"}).json()["hits"]
    assert [(hit["id"], hit["label"], hit["class_name"], hit["file"]) for hit in found] == [("one", None, None, "one")]
    assert "nothing else to find" in client.get("/api/search", params={"gallery": "single", "like": "one"}).json()["error"]
    for name in ("empty", "single"):
        assert "3 or more" in client.get("/api/clusters", params={"gallery": name}).json()["error"]
    sent = client.post("/api/pictures", content=png(Image.new("L", (40, 40), 9))).json()["id"]
    assert "cannot be made from its name" in client.get("/api/search", params={"gallery": "single", "sent": sent}).json()["error"]


def test_a_model_that_does_not_fit_is_said(tmp_path, gallery_folder):
    def other(gallery):
        raise ValueError("the gallery was made with another model")

    client = client_of(make_page(gallery_folder, model=None, embedder_of=other))
    sent = client.post("/api/pictures", content=png(Image.new("L", (40, 40), 9))).json()["id"]
    answer = client.get("/api/search", params={"gallery": "clothes", "sent": sent})
    assert answer.status_code == 400
    assert answer.json()["error"] == "the gallery was made with another model"


def test_events_are_valid_json_of_a_line_each(client):
    job = client.post("/api/jobs", json={"kind": "draw", "label": 0, "steps": 2}).json()["id"]
    ended(client, job)
    text = client.get(f"/api/jobs/{job}/events").text
    blocks = text.strip().split("\n\n")
    for number, block in enumerate(blocks):
        first, second = block.split("\n")
        assert first == f"id: {number}"
        json.loads(second.removeprefix("data: "))
