"""Promises of folders of shards, whatever they hold: written by ranks that never meet, joined by the last, read as one."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

from bigr_features.functional.packing import pack_bits
from bigr_features.storage.shard_writer import ShardWriter, ranks_of_environment
from bigr_features.storage.shards import ShardFormat, ShardReader

FORM = ShardFormat(kind="a test", format=3, what="test folder", command="bigr test", arrays=("positions", "labels"), digested=("labels",))
N, SIZE = 10, 3
ROWS = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
BITS = np.random.default_rng(1).integers(0, 2, (N, 3, 5), dtype=np.uint8)
LABELS = np.arange(N) % 4


def begin(folder, **changes) -> ShardWriter:
    sizes = dict(num_items=N, shard_size=SIZE, labelled=True) | changes
    return ShardWriter(folder, FORM, {"model": "m", "sizes": (1, 2)}, **sizes)


def write(writer: ShardWriter, shard: int) -> None:
    p = writer.positions(shard)
    features = {"rows": ROWS[p], "bits": pack_bits(BITS[p])}
    writer.write(shard, features, {"positions": p, "labels": LABELS[p]}, bits={"bits": (3, 5)})


def test_what_ranks_wrote_is_read_as_one(tmp_path):
    writers = [begin(tmp_path) for _ in range(3)]
    for rank in (2, 0, 1):
        for shard in writers[rank].pending(rank, 3):
            write(writers[rank], shard)
        assert (writers[rank].join() is None) == (rank != 1)
    reader = ShardReader(tmp_path, FORM)
    assert len(reader) == N
    assert reader.names == ["rows", "bits"]
    np.testing.assert_array_equal(reader.features("rows")[:], ROWS)
    np.testing.assert_array_equal(reader.features("bits")[[9, 0]], BITS.reshape(N, -1)[[9, 0]])
    np.testing.assert_array_equal(reader.features("bits", packed=True)[3:5], pack_bits(BITS[3:5]))
    np.testing.assert_array_equal(reader.labels, LABELS)
    np.testing.assert_array_equal(reader.positions, np.arange(N))
    reader.verify()
    assert not list(tmp_path.glob(".*"))


def test_writers_that_begin_and_join_at_once_agree(tmp_path):
    """Each thread stands for a process: it begins, writes its shards and joins as soon as it can."""
    joined, errors = [], []

    def work(rank: int) -> None:
        try:
            writer = begin(tmp_path / "folder")
            for shard in writer.pending(rank, 4):
                write(writer, shard)
            joined.append(writer.join())
        except Exception as error:  # handed to the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    manifests = [manifest for manifest in joined if manifest is not None]
    assert manifests
    assert all(manifest == manifests[0] for manifest in manifests)
    assert len(ShardReader(tmp_path / "folder", FORM)) == N


def test_what_is_not_marked_is_made_again(tmp_path):
    writer = begin(tmp_path)
    for shard in range(writer.num_shards):
        write(writer, shard)
    (tmp_path / "shard_00002.json").unlink()
    (tmp_path / "rows_00001.npy").write_bytes(b"half")
    assert begin(tmp_path).pending() == [1, 2]
    with pytest.raises(ValueError, match=r"test folder .* is unfinished \(3 of 4 shards are there\); run the same `bigr test` command"):
        ShardReader(tmp_path, FORM)


def test_a_writer_of_other_settings_is_refused(tmp_path):
    begin(tmp_path)
    with pytest.raises(ValueError, match="holds a test folder with other settings: num_items was 10 and is now 11"):
        begin(tmp_path, num_items=11)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format": 2}, "has format 2; this version reads format 3. Delete .* and run `bigr test` again"),  # of a time without kinds
        ({"format": 3}, "not the manifest of a test folder"),
        ({"kind": "another", "format": 3}, "not the manifest of a test folder; give a folder that `bigr test` wrote"),
        ({"kind": "a test", "format": 4}, "has format 4; this version reads format 3"),
    ],
)
def test_other_formats_are_refused_with_the_command(tmp_path, manifest, message):
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for opened in (lambda: ShardReader(tmp_path, FORM), lambda: begin(tmp_path)):
        with pytest.raises(ValueError, match=message):
            opened()


def test_wrong_ranks_of_the_environment_are_named(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert ranks_of_environment() == (0, 1)
    monkeypatch.setenv("RANK", "two")
    with pytest.raises(ValueError, match="'two'"):
        ranks_of_environment()
