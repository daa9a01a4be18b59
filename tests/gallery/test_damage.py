"""Promises about files: damage is noticed and named, a damaged index is made again, hostile content is not executed or believed."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3

import faiss
import numpy as np
import pytest

from bigr_features import Gallery
from bigr_features.nearest.index import VectorIndex, reading_limits

from .test_gallery import names, packed, vectors

INDEX = {"file": "index_000001.faiss", "rows": 20, "trained": 20, "bytes": 100, "sha256": "0"}


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


def write_state(gallery: Gallery, **changes) -> None:
    """Change the state in the database behind the gallery's back."""
    gallery.close()
    with sqlite3.connect(gallery.folder / "gallery.sqlite3") as connection:
        newest = connection.execute("SELECT generation, state FROM generations ORDER BY generation DESC LIMIT 1").fetchone()
        state = json.dumps(json.loads(newest[1]) | changes)
        connection.execute("UPDATE generations SET state = ? WHERE generation = ?", (state, newest[0]))
    connection.close()


def entry_of(path) -> dict:
    content = path.read_bytes()
    return {"file": path.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "rows": 100, "trained": 100}


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
    write_state(gallery, index=entry_of(path))
    assert query(Gallery(gallery.folder)) == expected
    assert "made again from the vectors" in caplog.text


def test_limits_hold_while_an_index_is_read_and_no_longer(tmp_path):
    before = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    with reading_limits(12345):
        assert (faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()) == (12345, 12345)
    assert (faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()) == before
    index = VectorIndex(16, "HNSW16")
    index.build(vectors(50))
    entry = index.write(tmp_path / "index.faiss")
    with (tmp_path / "index.faiss").open("rb") as file:
        index.read(file, {**entry, "rows": 50})
        with pytest.raises(ValueError, match="IndexHNSWFlat of 50 rows of width 16, not a IndexHNSWFlat of 49 rows"):
            index.read(file, {**entry, "rows": 49})


@pytest.mark.parametrize("kind", ["features", "bits"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_vectors_are_named(tmp_path, kind, damage):
    gallery = Gallery.create(tmp_path / "g", metric="two_stage", binarize="sign")
    gallery.add(vectors(20), ids=names(20))
    gallery.close()
    (path,) = (tmp_path / "g").glob(f"{kind}_*")
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    error = FileNotFoundError if damage == "missing" else ValueError
    with pytest.raises(error, match=f"{path.name} is {dict(missing='missing', truncated='truncated', flipped='damaged')[damage]}"):
        Gallery(tmp_path / "g")
    if damage == "flipped":
        with pytest.raises(ValueError, match="have another SHA-256"):
            Gallery(tmp_path / "g", verify=False).compact()  # damage is not copied on


def test_vectors_that_end_later_than_the_database_knows_are_trimmed_at_the_next_write(tmp_path):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(20), ids=names(20))
    (path,) = (tmp_path / "g").glob("features_*")
    whole = path.read_bytes()
    path.write_bytes(whole + b"half an append")
    opened = Gallery(tmp_path / "g")
    np.testing.assert_array_equal(opened.features, vectors(20))
    opened.add(vectors(3, seed=1), ids=names(3, 20))
    assert path.read_bytes() == whole + vectors(3, seed=1).tobytes()
    np.testing.assert_array_equal(Gallery(tmp_path / "g").features[20:], vectors(3, seed=1))


def test_vectors_that_end_earlier_leave_the_last_whole_state(tmp_path, caplog):
    """As in a copy whose vectors were copied before its database."""
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(20), ids=names(20))
    (path,) = (tmp_path / "g").glob("features_*")
    whole = path.read_bytes()
    gallery.remove(["item0003"])
    gallery.add(vectors(5, seed=1), ids=names(5, 20))
    gallery.remove(["item0004"])
    gallery.close()
    path.write_bytes(whole)
    opened = Gallery(tmp_path / "g")
    expected = [name for name in names(20) if name != "item0003"]
    assert opened.ids.tolist() == expected
    assert opened.search_ids(["item0004"], k=18).ids.shape == (1, 18)
    assert "is incomplete, as in a copy made during a change; the gallery is read with 19 items" in caplog.text
    opened.add(vectors(1, seed=2), ids=["new"])
    assert "are given up" in caplog.text
    opened.close()
    assert Gallery(tmp_path / "g").ids.tolist() == [*expected, "new"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"rows": "x"}, "rows is 'x'"),
    ({"rows": 7}, "20 items lie in 7 rows"),
    ({"files": None}, "is damaged"),
    ({"surprise": 1}, "unexpected keyword argument 'surprise'"),
    ({"settings": {"metric": "cosine", "shell": "rm"}}, "no setting 'shell'"),
    ({"settings": {"metric": 3}}, "metric=3"),
    ({"dim": 1 << 50}, "dim is"),
    ({"files": {"features": {"file": "../../secret_000001.bin", "dtype": "<f4", "width": 16}}}, "is no file of a gallery"),
    ({"files": {"features": {"file": "/etc/passwd", "dtype": "<f4", "width": 16}}}, "is no file of a gallery"),
    ({"files": {"features": {"file": "features_000001.bin", "dtype": "|O", "width": 16}}}, "features are '|O'"),
    ({"files": {"features": {"file": "features_000001.bin", "dtype": "<f4", "width": 3}}}, "of width 3"),
    ({"class_names": [1]}, "class_names are no strings"),
    ({"index": INDEX | {"rows": 10**9}}, "the index holds"),
    ({"index": INDEX | {"trained": -1}}, "learned from -1"),
    ({"index": INDEX | {"bytes": "many"}}, "the index has no size"),
    ({"index": INDEX | {"sha256": None}}, "the index has no size or checksum"),
    ({"index": {"file": "index_000001.faiss", "rows": 20}}, "'trained'"),
    ({"index": INDEX | {"file": 3}}, "is damaged"),
    ({"factory": ["Flat"]}, "the index is of the kind ['Flat']"),
])  # fmt: skip
def test_a_state_that_makes_no_sense_is_named(tmp_path, changes, message):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(20))
    write_state(gallery, **changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        Gallery(tmp_path / "g")


@pytest.mark.parametrize("statement", [
    "CREATE TRIGGER evil AFTER INSERT ON items BEGIN DELETE FROM items; END",
    "CREATE VIEW evil AS SELECT * FROM items",
    "CREATE TABLE evil (x)",
    "DROP TABLE appends",
    "DROP INDEX living",
])  # fmt: skip
def test_a_database_with_another_schema_is_refused(tmp_path, statement):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(20))
    gallery.close()
    with sqlite3.connect(tmp_path / "g" / "gallery.sqlite3") as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(ValueError, match=r"gallery\.sqlite3 is damaged \((it holds 'evil'|a table is missing)"):
        Gallery(tmp_path / "g")


@pytest.mark.parametrize("damage", ["empty", "text", "noise", "half", "pages"])
def test_a_damaged_database_is_named(tmp_path, damage):
    gallery = Gallery.create(tmp_path / "g")
    gallery.add(vectors(2000), ids=names(2000), metadata=[{"n": i} for i in range(2000)])
    gallery.close()
    path = tmp_path / "g" / "gallery.sqlite3"
    content = path.read_bytes()
    noise = np.random.default_rng(0).bytes(4 * 4096)
    changed = {"empty": b"", "text": b"{}", "noise": noise, "half": content[: len(content) // 2]}
    path.write_bytes(changed.get(damage, content[:16384] + noise + content[16384 + len(noise) :]))
    with pytest.raises(ValueError, match=r"gallery\.sqlite3 is (damaged|no database)"):
        Gallery(tmp_path / "g")


def test_another_layout_is_refused_with_what_to_do(tmp_path):
    gallery = Gallery.create(tmp_path / "g")
    gallery.close()
    for version, message in (
        (3, "has layout 3, of a newer version; this one reads layout 2: update bigr-features"),
        (1, "an earlier version"),
    ):
        with sqlite3.connect(tmp_path / "g" / "gallery.sqlite3") as connection:
            connection.execute(f"PRAGMA user_version = {version}")
        connection.close()
        with pytest.raises(ValueError, match=message):
            Gallery(tmp_path / "g")


def test_the_layout_before_the_database_is_refused_with_the_command_that_makes_it_anew(tmp_path):
    made = {"model": "resnet18 img_size=32", "feature": "block3_max"}
    manifest = {"kind": "bigr_features gallery", "format": 1, "embedding": made, "settings": {"metric": "hamming", "binarize": "itq"}}
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="has an earlier layout, which this version does not read") as caught:
        Gallery(tmp_path / "g")
    command = str(caught.value).split("Make it anew: ")[1]
    assert command == (
        f"bigr index --source FOLDER_OF_IMAGES --out {tmp_path / 'g'}_new --model resnet18 --layer 3 --pooling max "
        "--metric hamming --binarize itq --model-args img_size=32"
    )
    with pytest.raises(FileExistsError, match="not empty"):
        Gallery.create(tmp_path / "g")
    (tmp_path / "g" / "manifest.json").write_text('{"kind": "bigr_features feature store"}')
    with pytest.raises(FileNotFoundError, match="is no gallery"):
        Gallery(tmp_path / "g")


@pytest.mark.parametrize("message", ["disk I/O error", "locking protocol"])
def test_a_disk_that_cannot_lock_is_named(tmp_path, monkeypatch, message):
    Gallery.create(tmp_path / "g").close()

    class Disk(sqlite3.Connection):
        def execute(self, sql, *values):
            if "sqlite_master" in sql:
                raise sqlite3.OperationalError(message)
            return super().execute(sql, *values)

    connect = sqlite3.connect
    monkeypatch.setattr("sqlite3.connect", lambda *args, **kwargs: connect(*args, **kwargs, factory=Disk))
    with pytest.raises(OSError, match="as some network disks, cannot lock files; copy the folder to a local disk"):
        Gallery(tmp_path / "g")


def test_a_gallery_that_cannot_be_written_to_is_searched_all_the_same(tmp_path, caplog):
    gallery = Gallery.create(tmp_path / "g", index="HNSW16")
    gallery.add(vectors(100), ids=names(100))
    index_file(gallery).unlink()

    opened = Gallery(tmp_path / "g")
    opened._database.read_only = True
    assert query(opened) == query(gallery)
    assert "the new index cannot be saved" in caplog.text
    assert "can only be read" in caplog.text


@pytest.mark.parametrize("factory", ["HNSW0", "IVF2000000000,Flat", "nonsense", "PQ3"])
def test_a_database_that_names_a_hostile_index_is_refused_when_it_is_searched(tmp_path, factory):
    gallery = Gallery.create(tmp_path / "g", index="HNSW16")
    gallery.add(vectors(100), ids=names(100))
    write_state(gallery, factory=factory)
    with pytest.raises(ValueError, match=f"index '{factory}'"):
        query(Gallery(tmp_path / "g"))
