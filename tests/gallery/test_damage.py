"""Promises about files: damage is noticed and named, a damaged index is made again, hostile content is not executed or believed."""

from __future__ import annotations

import json
import logging

import faiss
import numpy as np
import pytest

from bigr_features import Gallery
from bigr_features.nearest.index import VectorIndex, reading_limits

from .test_gallery import names, packed, vectors


@pytest.fixture(params=[{"index": "HNSW16"}, {"index": "IVF4,Flat"}, {"metric": "hamming", "index": "BIVF4"}])
def gallery(request, tmp_path):
    gallery = Gallery.create(tmp_path / "g", **request.param)
    gallery.add(**({"bits": packed(100)} if "metric" in request.param else {"features": vectors(100)}), ids=names(100))
    return gallery


def query(gallery: Gallery) -> list:
    given = {"bits": packed(100)[:5]} if gallery.settings.takes_bits else {"features": vectors(100)[:5]}
    return gallery.search(**given, k=3).ids.tolist()


def index_file(gallery: Gallery):
    (path,) = gallery.folder.glob("index_*.faiss")
    return path


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "flipped", "other"])
def test_a_damaged_index_is_made_again_from_the_vectors(gallery, damage, caplog):
    expected, path = query(gallery), index_file(gallery)
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        changed = {"truncated": content[:-100], "empty": b"", "flipped": content[:200] + bytes([content[200] ^ 1]) + content[201:]}
        path.write_bytes(changed.get(damage, b"something else entirely"))
    opened = Gallery(gallery.folder)
    with caplog.at_level(logging.WARNING):
        assert query(opened) == expected
    assert "the index is made again from the vectors" in caplog.text
    caplog.clear()
    assert query(Gallery(gallery.folder)) == expected
    assert not caplog.text, "the new index was not saved"


def write_manifest(gallery: Gallery, **changes) -> None:
    path = gallery.folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def entry_of(path) -> dict:
    import hashlib

    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("hostile", ["huge", "fewer rows", "other width", "other kind", "noise"])
def test_an_index_that_lies_with_a_right_checksum_is_made_again(tmp_path, hostile, caplog):
    gallery = Gallery.create(tmp_path / "g", index="HNSW16")
    gallery.add(vectors(100), ids=names(100))
    expected, path = query(gallery), index_file(gallery)
    content = bytearray(path.read_bytes())
    if hostile == "huge":  # every 8 bytes that may be a length say 2**40
        for start in range(60, min(len(content) - 8, 4000), 8):
            content[start : start + 8] = (1 << 40).to_bytes(8, "little")
        path.write_bytes(content)
    elif hostile == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(3000))
    else:
        width = 8 if hostile == "other width" else 16
        index = faiss.index_factory(width, "Flat" if hostile == "other kind" else "HNSW16", faiss.METRIC_INNER_PRODUCT)
        index.add(vectors(50 if hostile == "fewer rows" else 100, width))
        faiss.write_index(index, str(path))
    write_manifest(gallery, index_file=entry_of(path))
    assert query(Gallery(gallery.folder)) == expected
    assert "made again from the vectors" in caplog.text


def test_limits_hold_while_an_index_is_read_and_no_longer(tmp_path):
    before = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    with reading_limits(12345):
        assert (faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()) == (12345, 12345)
    assert (faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()) == before
    index = VectorIndex(16, "HNSW16")
    index.build(vectors(50))
    index.write(tmp_path / "index.faiss")
    index.read(tmp_path / "index.faiss", 50)
    with pytest.raises(ValueError, match="IndexHNSWFlat of 50 rows of width 16, not a IndexHNSWFlat of 49 rows"):
        index.read(tmp_path / "index.faiss", 49)


@pytest.mark.parametrize("part", ["ids", "labels", "items", "features"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_vectors_are_named(tmp_path, part, damage):
    Gallery.create(tmp_path / "g").add(vectors(20), ids=names(20))
    (path,) = (tmp_path / "g").glob(f"{part}_*")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    kind = FileNotFoundError if damage == "missing" else ValueError
    with pytest.raises(kind, match=f"{path.name} is {dict(missing='missing', truncated='truncated', flipped='damaged')[damage]}"):
        Gallery(tmp_path / "g")
    if damage == "flipped":
        Gallery(tmp_path / "g", verify=False)  # sizes alone do not show it


@pytest.mark.parametrize(("changes", "message"), [
    ({"kind": "something"}, "is not the manifest of a gallery"),
    ({"format": 99}, "has format 99; this version reads format 1"),
    ({"segments": None}, "is damaged"),
    ({"num_rows": 7}, "do not add up"),
    ({"generation": "x"}, "generation is 'x'"),
    ({"settings": {"metric": "cosine", "shell": "rm"}}, "no setting 'shell'"),
    ({"settings": {"metric": 3}}, "metric=3"),
])  # fmt: skip
def test_a_manifest_that_makes_no_sense_is_named(tmp_path, changes, message):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(20))
    write_manifest(gallery, **changes)
    with pytest.raises(ValueError, match=message):
        Gallery(tmp_path / "g")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_manifest_is_named(tmp_path, content):
    Gallery.create(tmp_path / "g").add(vectors(20))
    (tmp_path / "g" / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json is"):
        Gallery(tmp_path / "g")


@pytest.mark.parametrize("name", ["../../secret_000001.npy", "/etc/passwd", "secret.npy", "ids_000001.npy/../x"])
def test_files_outside_the_gallery_are_not_read(tmp_path, name):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(20))
    segments = json.loads((tmp_path / "g" / "manifest.json").read_text())["segments"]
    segments[0]["files"]["items"]["file"] = name
    write_manifest(gallery, segments=segments)
    with pytest.raises(ValueError, match="is no file of a gallery"):
        Gallery(tmp_path / "g")


def test_arrays_of_objects_and_of_other_shapes_are_refused(tmp_path):
    for i, array in enumerate((np.array([{}] * 20, object), np.zeros((20, 3), np.float32), np.zeros((20, 16), np.int32))):
        folder = tmp_path / f"g{i}"
        gallery = Gallery.create(folder)
        gallery.add(vectors(20))
        (path,) = folder.glob("features_*")
        np.save(path, array, allow_pickle=True)
        segments = json.loads((folder / "manifest.json").read_text())["segments"]
        segments[0]["files"]["features"] = entry_of(path)
        write_manifest(gallery, segments=segments)
        with pytest.raises(ValueError, match=f"{path.name} (is damaged|holds)"):
            Gallery(folder)


def test_a_gallery_that_cannot_be_written_to_is_searched_all_the_same(tmp_path, caplog, monkeypatch):
    gallery = Gallery.create(tmp_path / "g", index="HNSW16")
    gallery.add(vectors(100), ids=names(100))
    index_file(gallery).unlink()

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr("bigr_features.gallery.files._lock", refuse)
    assert query(Gallery(tmp_path / "g")) == query(gallery)
    assert "the new index cannot be saved (read-only)" in caplog.text
