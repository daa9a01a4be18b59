"""Promises of the feature store: what was written is read, in any slice; what is not whole, or not the same, is refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bigr_features.features.store import FeatureStore, unique_ids
from bigr_features.features.store_writer import StoreWriter
from bigr_features.functional.packing import pack_bits

N, SIZE, TOKENS = 11, 4, (3, 5)
SETTINGS = {
    "model": "m",
    "weights_sha256": "a",
    "layers": [0],
    "preprocessing": {"input_size": [3, 32, 32], "crop_pct": 1.0},
    "mask_ratio": 0.0,
    "versions": {"torch": "2"},
    "dtype": "fp32",
}
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(N, 6)).astype(np.float32)
BITS = RNG.integers(0, 2, (N, *TOKENS), dtype=np.uint8)
IDS = [f"{value:032x}" for value in (1, 2, 1, 3, 4, 5, 1, 2, 6, 7, 8)]
NAMES = [f"folder/imäge {i}\udcff.png" for i in range(N)]  # the last letter stands for a byte that is no UTF-8
LABELS = np.arange(N) % 3


def begin(folder, **changes) -> StoreWriter:
    sizes = dict(num_items=N, shard_size=SIZE, labelled=True, class_names=["x", "y", "z"])
    sizes |= {key: changes.pop(key) for key in list(changes) if key in sizes}
    return StoreWriter(folder, {**SETTINGS, **changes}, **sizes)


def write(writer: StoreWriter, shard: int, without: tuple[int, ...] = ()) -> None:
    p = np.array([i for i in writer.positions(shard) if i not in without], dtype=np.int64)
    features = {"block0_mean": ROWS[p], "bits": pack_bits(BITS[p])}
    skipped = [{"position": i, "name": NAMES[i], "reason": "broken"} for i in writer.positions(shard).tolist() if i in without]
    own = dict(ids=[IDS[i] for i in p], sources=[NAMES[i] for i in p], positions=p, labels=LABELS[p], skipped=skipped)
    writer.write_shard(shard, features, bits={"bits": TOKENS}, **own)


def make(folder, without: tuple[int, ...] = (), **changes) -> FeatureStore:
    writer = begin(folder, **changes)
    for shard in writer.pending():
        write(writer, shard, without)
    return writer.finish()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make(tmp_path_factory.mktemp("store"))


def test_what_was_written_is_read(store):
    assert len(store) == N
    assert store.names == ["block0_mean", "bits"]
    assert store.class_names == ["x", "y", "z"]
    assert store.layer_names("mean") == [(0, "block0_mean")]
    np.testing.assert_array_equal(np.asarray(store.features("block0_mean")), ROWS)
    np.testing.assert_array_equal(np.asarray(store.features("bits")), BITS.reshape(N, -1))
    np.testing.assert_array_equal(store.features("bits", packed=True)[:], pack_bits(BITS))
    np.testing.assert_array_equal(store.labels, LABELS)
    np.testing.assert_array_equal(store.positions, np.arange(N))
    assert store.labels.dtype == np.int64
    assert store.sources.tolist() == NAMES
    store.verify()


def test_copies_of_an_image_are_told_apart(store):
    assert len(set(store.ids)) == N
    one = f"{1:032x}"
    assert store.ids[[0, 2, 6]].tolist() == [one, f"{one}-1", f"{one}-2"]
    assert list(unique_ids(["b", "a", "b"])) == ["b", "a", "b-1"]


@pytest.mark.parametrize("name", ["block0_mean", "bits"])
@pytest.mark.parametrize(
    "key",
    [
        0, -1, np.int64(5), slice(None), slice(1, 3), slice(2, 9), slice(4, 8), slice(9, 3), slice(None, None, -2), slice(-3, None),
        [3, 0, 10, 3], np.array([-1, -11]), [], np.arange(N) % 2 == 0,
        (slice(2, 9), slice(1, 4)), (5, 2), ([9, 1], slice(2)), (slice(None), 1),
    ],
    ids=str,
)  # fmt: skip
def test_rows_slice_as_arrays_do(store, name, key):
    expected = {"block0_mean": ROWS, "bits": BITS.reshape(N, -1)}[name]
    rows = store.features(name)
    np.testing.assert_array_equal(rows[key], expected[key])
    assert rows.shape == expected.shape
    assert rows.dtype == expected.dtype
    assert len(list(rows)) == N


@pytest.mark.parametrize("key", [N, -N - 1, [0, N], np.ones(3, bool), np.array([0.5]), ([0, 1], [0, 1])], ids=str)
def test_rows_out_of_range_are_refused(store, key):
    with pytest.raises(IndexError):
        store.features("block0_mean")[key]


def test_a_slice_of_one_shard_stays_on_disk(store):
    assert isinstance(store.features("block0_mean")[4:8], np.memmap)


def test_skipped_items_and_a_shard_without_any(tmp_path):
    store = make(tmp_path, without=(1, 4, 5, 6, 7, 10))
    assert len(store) == 5
    assert [item["position"] for item in store.skipped] == [1, 4, 5, 6, 7, 10]
    np.testing.assert_array_equal(store.features("block0_mean")[:], ROWS[[0, 2, 3, 8, 9]])
    np.testing.assert_array_equal(store.positions, [0, 2, 3, 8, 9])


def test_a_store_without_one_readable_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match="none of the 11 images can be read; the first is"):
        make(tmp_path, without=tuple(range(N)))


def test_ranks_share_the_shards_and_the_last_one_finishes(tmp_path, store):
    writers = [begin(tmp_path) for _ in range(2)]
    assert [writer.pending(rank, 2) for rank, writer in enumerate(writers)] == [[0, 2], [1]]
    for shard in (0, 2):
        write(writers[0], shard)
    assert writers[0].finish() is None
    with pytest.raises(ValueError, match=r"unfinished \(2 of 3 shards"):
        FeatureStore(tmp_path)
    write(writers[1], 1)
    assert writers[1].finish().manifest == store.manifest
    with pytest.raises(ValueError, match=r"rank=2 of world_size=2; expected 0\.\.1"):
        writers[0].pending(2, 2)


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_damaged_shard_is_named_and_made_again(tmp_path, damage):
    make(tmp_path)
    path = tmp_path / "block0_mean_00001.npy"
    whole = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(whole[:-4])
    with pytest.raises((ValueError, FileNotFoundError), match=rf"block0_mean_00001.npy is {damage}.*same `bigr extract` command"):
        FeatureStore(tmp_path)
    writer = begin(tmp_path)
    assert writer.pending() == [1]
    write(writer, 1)
    writer.finish().verify()
    assert path.read_bytes() == whole


def test_changed_bytes_are_found_by_verify(tmp_path):
    store = make(tmp_path)
    path = tmp_path / "block0_mean_00002.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ValueError, match=r"block0_mean_00002.npy was changed"):
        store.verify()


def test_halves_of_a_killed_writer_are_removed(tmp_path):
    writer = begin(tmp_path)
    (tmp_path / ".block0_mean_00001.npy.abc").write_bytes(b"half")
    for shard in writer.pending():
        write(writer, shard)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(model="other"), "model was 'm' and is now 'other'"),
        (
            dict(preprocessing={"input_size": [3, 32, 32], "crop_pct": 0.9}, mask_ratio=0.5),
            "preprocessing.crop_pct was 1.0 and is now 0.9; mask_ratio was 0.0 and is now 0.5",
        ),
        (dict(shard_size=5), "shard_size was 4 and is now 5; num_shards was 3 and is now 3"),
        (dict(num_items=12), "num_items was 11 and is now 12"),
        (dict(class_names=None), "class_names was"),
    ],
)
def test_a_store_of_other_settings_is_not_continued(tmp_path, change, message):
    begin(tmp_path)
    with pytest.raises(ValueError, match="holds a feature store with other settings") as caught:
        begin(tmp_path, **change)
    assert message.split(";")[0] in str(caught.value)


def test_other_versions_are_said_and_do_not_stop(tmp_path, caplog):
    begin(tmp_path)
    begin(tmp_path, versions={"torch": "3"})
    assert "versions {'torch': '2'}" in caplog.text


def test_stores_to_be_used_together_must_agree(tmp_path, store):
    same, other = make(tmp_path / "same", layers=[0]), make(tmp_path / "other", weights_sha256="b", dtype="bf16")
    store.check_compatible(same)
    assert store.fingerprint == same.fingerprint != other.fingerprint
    with pytest.raises(ValueError, match=r"weights_sha256 is 'a' there and 'b' here; dtype is 'fp32' there and 'bf16' here"):
        store.check_compatible(other)


def test_features_that_are_not_finite_are_counted(tmp_path, caplog):
    writer = begin(tmp_path, num_items=2, labelled=False)
    rows = np.array([[1, np.nan], [2, 3]], np.float32)
    writer.write_shard(0, {"block0_mean": rows}, ids=["a", "b"], sources=["x", "y"], positions=np.arange(2))
    store = writer.finish()
    assert store.manifest["non_finite"] == {"block0_mean": 1}
    assert "NaN" in caplog.text
    assert store.labels is None


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "it has no manifest.json"),
        (b"{", ValueError, "is damaged"),
        (b"[]", ValueError, "not the manifest of a feature store"),
        (b'{"kind": "something", "format": 1}', ValueError, "not the manifest of a feature store"),
        (b'{"kind": "bigr_features feature store", "format": 9}', ValueError, "format 9; this version reads format 1"),
    ],
)
def test_foreign_folders_are_refused(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(error, match=message):
        FeatureStore(tmp_path)


def test_a_store_does_not_grow_in_a_folder_of_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"holds other files \(thesis.tex\)"):
        begin(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        begin(tmp_path / "thesis.tex")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        FeatureStore(tmp_path / "nothing")


def test_wrong_shards_are_refused(tmp_path):
    writer = begin(tmp_path)
    own = dict(ids=["a"], sources=["x"], positions=[0])
    with pytest.raises(ValueError, match="has no labels"):
        writer.write_shard(0, {"block0_mean": ROWS[:1]}, **own)
    with pytest.raises(ValueError, match="differ in length"):
        writer.write_shard(0, {"block0_mean": ROWS[:2]}, labels=[0], **own)
    with pytest.raises(ValueError, match="none of them"):
        writer.write_shard(0, {"labels": ROWS[:1]}, labels=[0], **own)
    assert writer.pending() == [0, 1, 2]


def test_an_unknown_feature_is_named(store):
    with pytest.raises(ValueError, match="no feature 'block9_mean'; it has block0_mean, bits"):
        store.features("block9_mean")


def test_the_manifest_is_strict_json(store):
    def refuse(value):
        raise AssertionError(value)

    content = json.loads((store.folder / "manifest.json").read_text(), parse_constant=refuse)
    assert content["complete"]
    assert sum(shard["count"] for shard in content["shards"]) == content["count"] == N
