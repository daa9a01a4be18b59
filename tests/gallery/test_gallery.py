"""Promises of a gallery: exact when flat, the same ids through every change, refusals that name what is wrong."""

from __future__ import annotations

import os

import numpy as np
import pytest

from bigr_features import Gallery
from bigr_features.gallery import GallerySettings

RNG = np.random.default_rng


def vectors(count: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """Points around ten centres."""
    rng = RNG(seed)
    centres = RNG(99).standard_normal((10, dim))
    return (centres[np.arange(count) % 10] + 0.4 * rng.standard_normal((count, dim))).astype(np.float32)


def packed(count: int, num_bytes: int = 8, seed: int = 0) -> np.ndarray:
    return RNG(seed).integers(0, 256, (count, num_bytes), dtype=np.uint8)


def cosines(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    queries, rows = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True) for x in (queries, rows))
    return queries @ rows.T


def distances(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.unpackbits(queries[:, None] ^ rows[None], axis=2).sum(2, dtype=np.int64)


def names(count: int, start: int = 0) -> list[str]:
    return [f"item{i:04d}" for i in range(start, start + count)]


@pytest.fixture
def gallery(tmp_path):
    """60 items of 10 classes."""
    gallery = Gallery.create(tmp_path / "g", class_names=list("abcdefghij"))
    gallery.add(vectors(60), ids=names(60), labels=np.arange(60) % 10, sources=[f"{i}.png" for i in range(60)])
    return gallery


# ---------------------------------------------------------------------------------------------------------------------- search


@pytest.mark.parametrize(("count", "dim"), [(1, 1), (2, 3), (17, 5), (300, 64), (1000, 144)])
def test_flat_search_by_cosine_is_exact(tmp_path, count, dim):
    rows, queries = RNG(0).standard_normal((count, dim)).astype(np.float32), RNG(1).standard_normal((7, dim)).astype(np.float32)
    gallery = Gallery.create(tmp_path / "g", index="flat")
    gallery.add(rows, ids=names(count))
    expected = cosines(queries, rows)
    for k in {1, min(3, count), count}:
        hits = gallery.search(queries, k=k)
        found = np.array([[int(item[4:]) for item in row] for row in hits.ids])
        np.testing.assert_allclose(hits.scores, -np.sort(-expected, 1)[:, :k], atol=2e-6)
        np.testing.assert_allclose(np.take_along_axis(expected, found, 1), hits.scores, atol=2e-6)
        assert all(len(set(row)) == k for row in found)


@pytest.mark.parametrize(("count", "num_bytes"), [(1, 1), (40, 3), (500, 16), (300, 128)])
def test_flat_search_by_hamming_is_exact(tmp_path, count, num_bytes):
    rows, queries = packed(count, num_bytes), packed(6, num_bytes, 1)
    gallery = Gallery.create(tmp_path / "g", metric="hamming", index="flat")
    gallery.add(bits=rows, ids=names(count))
    expected = distances(queries, rows)
    for k in {1, count}:
        hits = gallery.search(bits=queries, k=k)
        found = np.array([[int(item[4:]) for item in row] for row in hits.ids])
        np.testing.assert_allclose(hits.scores, 1 - np.sort(expected, 1)[:, :k] / (8 * num_bytes), atol=1e-6)
        np.testing.assert_array_equal(np.take_along_axis(expected, found, 1), np.sort(expected, 1)[:, :k])


@pytest.mark.parametrize("settings", [{"binarize": "itq"}, {"binarize": "sign"}, {}, {"binarize": "itq", "num_bits": 5}])
def test_two_stages_with_everything_on_the_shortlist_are_exact(tmp_path, settings):
    rows, queries = vectors(200), vectors(9, seed=1)
    gallery = Gallery.create(tmp_path / "g", metric="two_stage", shortlist=200, **settings)
    bits = {} if settings else {"bits": packed(200)}
    gallery.add(rows, ids=names(200), **bits)
    hits = gallery.search(queries, k=20, **({} if settings else {"bits": packed(9, seed=2)}))
    np.testing.assert_allclose(hits.scores, -np.sort(-cosines(queries, rows), 1)[:, :20], atol=2e-6)


def test_two_stages_rank_the_shortlist_of_the_bits(tmp_path):
    rows, queries, bits, query_bits = vectors(200), vectors(4, seed=1), packed(200), packed(4, seed=2)
    gallery = Gallery.create(tmp_path / "g", metric="two_stage", shortlist=30)
    gallery.add(rows, bits=bits, ids=names(200))
    hits = gallery.search(queries, bits=query_bits, k=5)
    for i in range(4):
        apart, exact = distances(query_bits[i : i + 1], bits)[0], cosines(queries[i : i + 1], rows)[0]
        last = np.sort(apart)[29]
        found = np.array([int(item[4:]) for item in hits.ids[i]])
        assert (apart[found] <= last).all()
        sure = np.flatnonzero(apart < last)  # ties at the end of the shortlist may fall either way
        assert (exact[found] >= np.sort(exact[sure])[-5:][::-1] - 1e-6).all()


@pytest.mark.parametrize("index", ["flat", "HNSW16", "IVF8,Flat", "IVF8,SQ8", "IVF4,PQ4x4", "PCA8,Flat"])
def test_every_index_gives_k_items_that_count(tmp_path, index):
    rows, queries = vectors(400), vectors(20, seed=1)
    gallery = Gallery.create(tmp_path / "g", index=index, effort=None if index == "HNSW16" else 4)
    gallery.add(rows, ids=names(400), labels=np.arange(400) % 10)
    gallery.remove(names(100, 50))
    hits = gallery.search(queries, k=10)
    exact = cosines(queries, rows)
    exact[:, 50:150] = -np.inf
    best = np.argsort(-exact, 1)[:, :10]
    found = np.array([[int(item[4:]) for item in row] for row in hits.ids])
    assert not ((found >= 50) & (found < 150)).any()
    assert all(len(set(row)) == 10 for row in found)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, best, strict=True)])
    assert recall >= {"flat": 1.0, "HNSW16": 0.95, "IVF8,Flat": 0.9, "IVF4,PQ4x4": 0.3}.get(index, 0.5)
    np.testing.assert_array_equal(gallery.search(queries, k=300).labels.shape, (20, 300))  # more than some lists hold


@pytest.mark.parametrize("index", ["BFlat", "BHNSW16", "BIVF4"])
def test_every_binary_index_gives_k_items_that_count(tmp_path, index):
    gallery = Gallery.create(tmp_path / "g", metric="hamming", index=index)
    gallery.add(bits=packed(300), ids=names(300))
    gallery.remove(names(40))
    again = Gallery(tmp_path / "g")
    for opened in (gallery, again):
        hits = opened.search(bits=packed(300)[100:110], k=260)
        assert hits.ids[:, 0].tolist() == names(10, 100)
        assert all(set(row) == set(names(260, 40)) for row in hits.ids)
        assert (np.diff(hits.scores, axis=1) <= 0).all()


def test_items_of_the_gallery_do_not_find_themselves(gallery):
    hits = gallery.search_ids(["item0003", "item0004"], k=59)
    assert "item0003" not in hits.ids[0]
    assert "item0003" in hits.ids[1]
    together = gallery.search_ids(["item0003", "item0004"], k=58, combine=True)
    assert not {"item0003", "item0004"} & set(together.ids[0])
    with pytest.raises(ValueError, match=r"k=60, but there are 59 items to find; give k of 1\.\.59"):
        gallery.search_ids(["item0003"], k=60)


def test_several_queries_are_one_by_the_mean_of_their_directions(gallery):
    queries = vectors(3, seed=5) * np.array([[1.0], [10.0], [0.1]], np.float32)
    mean = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).mean(0, keepdims=True)
    hits, expected = gallery.search(queries, k=8, combine=True), gallery.search(mean, k=8)
    assert hits.ids.tolist() == expected.ids.tolist()


def test_several_bit_strings_are_one_by_majority(tmp_path):
    gallery = Gallery.create(tmp_path / "g", metric="hamming")
    gallery.add(bits=np.array([[0b11110000], [0b11111111], [0b00000000]], np.uint8), ids=["half", "ones", "zeros"])
    queries = np.array([[0b11110000], [0b11110001], [0b01100000]], np.uint8)
    assert gallery.search(bits=queries, k=1, combine=True).ids.tolist() == [["half"]]
    assert gallery.search(bits=queries, k=1, combine=True).scores.tolist() == [[1.0]]


def test_a_class_is_found_by_its_mean_and_by_its_name(gallery):
    hits = gallery.search_class("d", k=6)
    assert set(hits.labels[0]) == {3}
    assert gallery.search_class(3, k=6).ids.tolist() == hits.ids.tolist()
    assert set(gallery.search_class(3, k=12, among=["e", 5]).labels[0]) == {4, 5}


@pytest.mark.parametrize("label", [3, "d", [3, "e"], list(range(9))])
def test_a_filter_by_label_is_exact(gallery, label):
    wanted = [3] if label in (3, "d") else [3, 4] if label == [3, "e"] else list(range(9))
    query, rows = vectors(1, seed=3), vectors(60)
    expected = np.where(np.isin(np.arange(60) % 10, wanted), cosines(query, rows)[0], -np.inf)
    hits = gallery.search(query, k=6, label=label)
    assert hits.ids[0].tolist() == [names(60)[i] for i in np.argsort(-expected)[:6]]
    assert set(hits.labels[0]) <= set(wanted)


def test_excluded_items_are_not_found(gallery):
    best = gallery.search(vectors(2), k=2).ids
    hits = gallery.search(vectors(2), k=5, exclude=best[0])
    assert not set(best[0]) & set(hits.ids.ravel())


# --------------------------------------------------------------------------------------------------------------------- changes


@pytest.mark.parametrize("settings", [
    {}, {"index": "HNSW16"}, {"index": "IVF4,Flat", "effort": 4}, {"metric": "hamming", "binarize": "itq"},
    {"metric": "two_stage", "binarize": "sign", "shortlist": 500}, {"metric": "two_stage", "binarize": "itq", "index": "BHNSW16"},
])  # fmt: skip
def test_changes_keep_ids_and_search_like_a_new_gallery(tmp_path, settings, monkeypatch):
    built = []
    monkeypatch.setattr("bigr_features.nearest.index.VectorIndex.build", recorded(built))
    rows = vectors(300)
    gallery = Gallery.create(tmp_path / "g", **settings)
    gallery.add(rows[:200], ids=names(200), labels=np.arange(200) % 10)
    gallery.search_ids(["item0001"], k=1)
    del built[:]
    for start in range(200, 300, 7):
        end = min(start + 7, 300)
        gallery.add(rows[start:end], ids=names(end - start, start), labels=np.arange(start, end) % 10)
    gallery.remove(names(50, 100))
    gallery.update(["item0005"], -rows[5:6], metadata=[{"seen": 2}])
    assert not built, "something was rebuilt"
    kept = [name for name in names(300) if not "item0100" <= name < "item0150" and name != "item0005"] + ["item0005"]
    assert gallery.ids.tolist() == kept
    expected = np.concatenate([rows[[int(name[4:]) for name in kept[:-1]]], -rows[5:6]])
    for opened in (gallery, Gallery(tmp_path / "g")):
        assert opened.ids.tolist() == kept
        np.testing.assert_array_equal(opened.features, expected)
        assert opened.labels.tolist() == [int(name[4:]) % 10 for name in kept]
        assert opened.item("item0005") == {"id": "item0005", "label": 5, "class_name": None, "source": None, "metadata": {"seen": 2}}
        hits = opened.search(expected[::5], k=1)
        if settings.get("metric") == "hamming":  # several items may have the same 16 bits
            assert (hits.scores == 1).all()
        else:
            assert np.mean(hits.ids[:, 0] == np.array(kept)[::5]) > 0.97
    assert len(list((tmp_path / "g").glob("*_*.bin"))) <= 2


def recorded(calls: list):
    from bigr_features.nearest.index import VectorIndex

    build = VectorIndex.build

    def recording(self, *args):
        calls.append(self)
        return build(self, *args)

    return recording


def rows_on_disk(gallery: Gallery) -> int:
    (path,) = gallery.folder.glob("features_*.bin")
    return path.stat().st_size // (4 * gallery.dim)


def test_rows_that_were_removed_are_dropped_when_they_outnumber_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("bigr_features.gallery.writing.TOMBSTONES", 10)
    gallery = Gallery.create(tmp_path / "g", index="HNSW16")
    gallery.add(vectors(100), ids=names(100))
    gallery.remove(names(40))
    assert rows_on_disk(gallery) == 100
    gallery.remove(names(20, 40))
    assert rows_on_disk(gallery) == 40
    assert gallery.ids.tolist() == names(40, 60)
    assert gallery.search(vectors(100)[70:71], k=1).ids[0, 0] == "item0070"


def test_too_little_left_for_its_index_is_no_obstacle_to_removing(tmp_path, monkeypatch):
    monkeypatch.setattr("bigr_features.gallery.writing.TOMBSTONES", 10)
    gallery = Gallery.create(tmp_path / "g", index="IVF32,Flat")
    gallery.add(vectors(100), ids=names(100))
    gallery.remove(names(90))
    assert gallery.search(vectors(100)[95:96], k=10).ids[0, 0] == "item0095"
    gallery.remove(names(10, 90))
    assert len(gallery) == 0
    gallery.add(vectors(40, dim=3), ids=names(40))  # an emptied gallery takes any width
    assert gallery.dim == 3


def test_adding_to_an_open_and_to_a_fresh_gallery_is_the_same(tmp_path):
    for name, fresh in (("a", False), ("b", True)):
        gallery = Gallery.create(tmp_path / name, index="HNSW16")
        for i in range(5):
            gallery = Gallery(tmp_path / name) if fresh else gallery
            gallery.add(vectors(30, seed=i), ids=names(30, 30 * i))
    hits = [Gallery(tmp_path / name).search(vectors(9, seed=9), k=10) for name in "ab"]
    assert hits[0].ids.tolist() == hits[1].ids.tolist()


def test_saving_elsewhere_and_over_another_gallery(gallery, tmp_path):
    gallery.remove(names(5))
    other = gallery.save(tmp_path / "other")
    assert other.ids.tolist() == gallery.ids.tolist()
    other.remove(names(10, 5))
    assert gallery.save(tmp_path / "other").ids.tolist() == names(55, 5)
    assert rows_on_disk(Gallery(tmp_path / "other")) == 55
    gallery.save()
    assert Gallery(gallery.folder).ids.tolist() == names(55, 5)
    assert [item["source"] for item in gallery.items()][:2] == ["5.png", "6.png"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="is there already, and not empty"):
        gallery.save(tmp_path / "mine")


def test_another_way_to_search_keeps_the_items(gallery):
    before = gallery.search(vectors(4, seed=2), k=5)
    for fields in ({"metric": "two_stage", "binarize": "itq", "shortlist": 60}, {"index": "BHNSW16"}):
        gallery.reindex(**fields)
        assert gallery.search(vectors(4, seed=2), k=5).ids.tolist() == before.ids.tolist()
    gallery.reindex(metric="cosine", binarize=None, index="HNSW8")
    assert gallery.bits is None
    assert gallery.search(vectors(4, seed=2), k=5).ids.tolist() == before.ids.tolist()
    with pytest.raises(ValueError, match="was given no bits; set binarize"):
        gallery.reindex(metric="hamming", index="flat")
    with pytest.raises(ValueError, match="no setting 'speed'"):
        gallery.reindex(speed=3)


def test_copies_are_kept_under_numbered_ids(tmp_path, caplog):
    gallery = Gallery.create(tmp_path / "g")
    rows = vectors(3)[[0, 1, 0, 0, 2]]
    added = gallery.add(rows)
    first = added.ids[0]
    assert added.duplicates == {f"{first}-1": first, f"{first}-2": first}
    assert "2 of 5 items are copies" in caplog.text
    assert len(gallery) == 5
    gallery.remove([f"{first}-1"])
    assert gallery.add(rows[:1]).ids == [f"{first}-1"]
    assert gallery.add(rows[4:]).duplicates == {f"{added.ids[4]}-1": added.ids[4]}


def test_thumbnails_and_metadata_follow_their_items(tmp_path):
    gallery = Gallery.create(tmp_path / "g")
    for start in (0, 4, 6):
        count = min(4, 10 - start)
        ids = names(count, start)
        gallery.add(
            vectors(10)[start : start + count],
            ids=ids,
            thumbnails=[item.encode() for item in ids],
            metadata=[{"n": i} for i in ids],
            copies="number",
        )
    gallery.remove(["item0000", "item0005"])
    gallery.save()
    for item in gallery.ids:
        if "-" not in item:
            assert gallery.thumbnail(item) == item.encode()
            assert gallery.item(item)["metadata"] == {"n": item}


# ------------------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda g: g.search(vectors(1), k=61), ValueError, r"k=61, but there are 60 items to find; give k of 1\.\.60"),
    (lambda g: g.search(vectors(1), k=0), ValueError, "k=0"),
    (lambda g: g.search(vectors(1), k=7, label=3), ValueError, "6 items with label 3 to find"),
    (lambda g: g.search(vectors(1, dim=4)), ValueError, "queries have 4 columns, but the gallery holds vectors of 16"),
    (lambda g: g.search(np.full((2, 16), np.nan)), ValueError, "queries hold NaN or infinite values, first in row 0"),
    (lambda g: g.search(np.zeros((1, 16), np.float32)), ValueError, "all zero in row 0"),
    (lambda g: g.search(np.ones((1, 16), int)), TypeError, "dtype int64; expected floats"),
    (lambda g: g.search(vectors(1)[0]), ValueError, r"shape \(16,\); expected \(number, 16\)"),
    (lambda g: g.search(bits=packed(1)), ValueError, "features are missing, but metric 'cosine' needs them"),
    (lambda g: g.search(vectors(1), bits=packed(1)), ValueError, "bits are given, but metric 'cosine' takes none"),
    (lambda g: g.search(vectors(1), label="dog"), ValueError, "there is no class 'dog'; choose one of a, b"),
    (lambda g: g.search(vectors(1), label=11), ValueError, "no item of the gallery has the label 11"),
    (lambda g: g.search_ids(["nothing"]), ValueError, "there is no item 'nothing' among the 60"),
    (lambda g: g.search_ids("item0001"), TypeError, "give a list of ids"),
    (lambda g: g.search_ids(["item000"]), ValueError, "several ids begin with 'item000'"),
    (lambda g: g.search(np.stack([vectors(1)[0], -vectors(1)[0]]), combine=True), ValueError, "cancel out"),
    (lambda g: g.remove(["item0001", "item0099"]), ValueError, "there is no item 'item0099'"),
    (lambda g: g.update(["item0001", "item0001"], vectors(2)), ValueError, "given twice"),
    (lambda g: g.add(vectors(1), ids=["item0001"]), ValueError, "'item0001' is in the gallery already"),
    (lambda g: g.add(vectors(2), ids=["x", "x"]), ValueError, "given twice"),
    (lambda g: g.add(vectors(2), ids=["x"]), ValueError, "1 ids for 2 items"),
    (lambda g: g.add(vectors(1), ids=[3]), TypeError, "id 3 is a int"),
    (lambda g: g.add(vectors(1), ids=[""]), ValueError, "empty"),
    (lambda g: g.add(vectors(2), labels=[1]), ValueError, "1 labels for 2 items"),
    (lambda g: g.add(vectors(1), labels=[0.5]), TypeError, "one integer an item"),
    (lambda g: g.add(vectors(1), labels=[-2]), ValueError, "label -2 is negative"),
    (lambda g: g.add(vectors(1), metadata=[{"x": np.nan}]), TypeError, "cannot be written as JSON"),
    (lambda g: g.add(np.where(np.eye(3, 16, dtype=bool), np.inf, 1.0)), ValueError, r"first in row 0 \(3 of 3 rows\)"),
])  # fmt: skip
def test_wrong_input_is_named_and_changes_nothing(gallery, call, kind, message):
    before = sorted(path.name for path in gallery.folder.iterdir())
    with pytest.raises(kind, match=message):
        call(gallery)
    assert sorted(path.name for path in gallery.folder.iterdir()) == before
    assert gallery.ids.tolist() == names(60)


def test_an_empty_gallery_says_so(tmp_path):
    gallery = Gallery.create(tmp_path / "g")
    for call in (lambda: gallery.search(vectors(1)), lambda: gallery.search_ids(["x"]), lambda: gallery.search_class(0)):
        with pytest.raises(ValueError, match="is empty; add images first"):
            call()
    assert len(gallery) == 0
    assert gallery.add(np.empty((0, 4), np.float32)).ids == []


def test_a_beginning_of_an_id_will_do_if_it_is_no_other_s(gallery):
    gallery.add(vectors(1, seed=8), ids=["zebra"])
    assert gallery.item("zeb")["id"] == "zebra"
    assert gallery.resolve(["zeb", "item0001"]) == ["zebra", "item0001"]
    gallery.add(vectors(2, seed=9), ids=["zebra", "zebra"], copies="number")
    assert gallery.resolve(["zeb", "zebra-1", "zeb-2"]) == ["zebra", "zebra-1", "zebra-2"]
    gallery.remove(["zebra"])
    assert gallery.resolve(["zebra-2"]) == ["zebra-2"]
    with pytest.raises(ValueError, match="several ids begin with 'zeb', such as zebra-1 and zebra-2"):
        gallery.resolve(["zeb"])
    gallery.add(vectors(1, seed=9), ids=["zebra"])
    assert "zeb" not in gallery
    assert "zebra" in gallery


def test_queries_made_otherwise_are_refused_by_name(tmp_path):
    made = {"model": "bigr_nano", "feature": "block3_mean", "preprocessing": "Resize(32)"}
    gallery = Gallery.create(tmp_path / "g", embedding=made)
    gallery.add(vectors(4), embedding=made)
    with pytest.raises(ValueError, match="feature is 'block3_mean' there and 'block5_mean' here; model is 'bigr_nano' there"):
        gallery.search(vectors(1), k=1, embedding={**made, "model": "vit", "feature": "block5_mean"})
    with pytest.raises(ValueError, match="preprocessing is"):
        gallery.add(vectors(1), embedding={**made, "preprocessing": "Resize(64)"})
    gallery.search(vectors(1), k=1, embedding=made)


@pytest.mark.parametrize(("fields", "message"), [
    ({"metric": "euclid"}, "metric='euclid' is unknown"),
    ({"metric": "cosine", "binarize": "itq"}, "take hamming or two_stage"),
    ({"metric": "hamming", "binarize": "lsh"}, "binarize='lsh' is unknown"),
    ({"num_bits": 8}, "binarize='itq' only"),
    ({"effort": 0}, "effort=0"),
    ({"index": ""}, "index=''"),
    ({"colour": "red"}, "no setting 'colour'"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        Gallery.create(tmp_path / "g", **fields)
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(("fields", "message"), [
    ({"index": "rubbish"}, "faiss makes no index 'rubbish' of 16 features"),
    ({"index": "IVF1024,Flat"}, "has 1024 lists, more than the 20 rows"),
    ({"index": "IVF2,PQ4"}, "cannot learn from 20 rows"),
    ({"metric": "hamming", "binarize": "itq", "index": "HNSW16"}, "faiss makes no binary index 'HNSW16'"),
    ({"metric": "hamming", "binarize": "itq", "num_bits": 17}, r"gives 1\.\.16 bits"),
])  # fmt: skip
def test_an_index_that_cannot_be_is_refused_when_there_is_something_to_index(tmp_path, fields, message):
    gallery = Gallery.create(tmp_path / "g", **fields)
    with pytest.raises(ValueError, match=message):
        gallery.add(vectors(20))
    assert len(Gallery(tmp_path / "g")) == 0


def test_a_folder_in_use_is_not_taken(gallery, tmp_path):
    with pytest.raises(FileExistsError, match="holds a gallery already"):
        Gallery.create(gallery.folder)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="not empty"):
        Gallery.create(tmp_path / "mine")
    with pytest.raises(FileNotFoundError, match="is no gallery"):
        Gallery(tmp_path / "nowhere")


def test_two_writers_do_not_lose_each_other_s_work(gallery):
    other = Gallery(gallery.folder, wait=0)
    gallery.add(vectors(1, seed=7), ids=["new"])
    assert "new" not in other, "a snapshot changed by itself"
    other.remove(["item0001"])
    assert "new" in other
    assert gallery.refresh()
    assert "item0001" not in gallery
    assert not gallery.refresh()
    with gallery._database.writing():
        with pytest.raises(BlockingIOError, match=rf"another process is changing the gallery .*process {os.getpid()} on .*, since 20"):
            other.remove(["item0002"])
        assert "item0002" in other
    other.remove(["item0002"])
    assert [path.name for path in gallery.folder.glob("writer*")] == []


def test_settings_are_the_same_after_opening(tmp_path):
    settings = GallerySettings(metric="two_stage", binarize="itq", num_bits=12, effort=3, shortlist=50)
    Gallery.create(tmp_path / "g", settings).add(vectors(30))
    opened = Gallery(tmp_path / "g")
    assert opened.settings == settings
    assert (opened.dim, opened.num_bits, opened.index_factory) == (16, 12, "BFlat")
    assert opened.bits.shape == (30, 2)
    np.testing.assert_array_equal(opened.binarize(vectors(30)), opened.bits)
    with pytest.raises(ValueError, match="makes no bits of features"):
        Gallery.create(tmp_path / "h").binarize(vectors(1))
