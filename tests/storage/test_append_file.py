"""Promises of files of rows: appended behind what counts, whatever lies there; checked append by append."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from bigr_features.storage.append_file import AppendFile, chunks

ROWS = np.arange(40, dtype=np.float32).reshape(10, 4)


def test_rows_are_appended_behind_those_that_count(tmp_path):
    file = AppendFile(tmp_path / "rows.bin", "<f4", 4)
    assert file.append(0, [ROWS[:3]]) == (3, hashlib.sha256(ROWS[:3].tobytes()).hexdigest())
    with file.path.open("ab") as killed:
        killed.write(b"half an append")
    assert file.append(3, [ROWS[3:5], ROWS[5:]])[0] == 7
    assert file.path.read_bytes() == ROWS.tobytes()
    np.testing.assert_array_equal(file.read(10), ROWS)
    assert file.read(0).shape == (0, 4)


def test_an_append_that_fails_leaves_the_file_where_it_ended(tmp_path):
    file = AppendFile(tmp_path / "rows.bin", "<f4", 4)
    file.append(0, [ROWS[:3]])

    def broken():
        yield ROWS[3:]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device; the gallery stays as it was.*rows\.bin"):
        file.append(3, broken())
    assert file.path.read_bytes() == ROWS[:3].tobytes()


def test_checksums_by_append(tmp_path):
    file = AppendFile(tmp_path / "rows.bin", "<f4", 4)
    appends = [(start, *file.append(start, [ROWS[start:stop]])) for start, stop in ((0, 4), (4, 9), (9, 10))]
    assert file.check(file.read(10), appends) is None
    assert file.check(file.read(10), appends[:2]) == 9
    assert file.check(file.read(10), [appends[0], appends[2]]) == 4
    with file.path.open("r+b") as damaged:
        damaged.seek(5 * 16)
        damaged.write(b"x")
    with pytest.raises(ValueError, match="rows 4 to 9 have another SHA-256"):
        file.check(file.read(10), appends)
    assert file.check(file.read(4), appends[:1]) is None


def test_missing_and_short_files_are_named(tmp_path):
    file = AppendFile(tmp_path / "rows.bin", "<f4", 4)
    with pytest.raises(FileNotFoundError, match=r"rows\.bin is missing"):
        file.rows_there()
    file.append(0, [ROWS])
    os.truncate(file.path, 9 * 16 + 3)
    with pytest.raises(ValueError, match="it has 9 rows, not 10"):
        file.read(10)


def test_numbers_beyond_the_dtype_are_refused(tmp_path):
    file = AppendFile(tmp_path / "rows.bin", "<f2", 4)
    assert file.cast(ROWS).dtype == np.float16
    with pytest.raises(ValueError, match="too large for float16"):
        file.cast(1e5 * (1 + ROWS))


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_chunks_are_the_rows_once_and_in_order(monkeypatch, size):
    monkeypatch.setattr("bigr_features.storage.append_file.CHUNK_BYTES", size)
    np.testing.assert_array_equal(np.concatenate(list(chunks(ROWS, 2, lambda block: 2 * block))), 2 * ROWS[2:])
    where = np.array([7, 0, 3])
    np.testing.assert_array_equal(np.concatenate(list(chunks(ROWS, where=where))), ROWS[where])
