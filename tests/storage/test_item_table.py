"""Promises of the table of items: by id and by its beginning, tombstones by generation, rows numbered anew."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.storage.database import Database, Layout
from bigr_features.storage.item_table import NUMBERS, TABLES, ItemTable, new_ids

LAYOUT = Layout("things.sqlite3", "collection", "make", 7, 1, ("CREATE TABLE made (by TEXT)", *TABLES))


@pytest.fixture
def database(tmp_path):
    Database.create(tmp_path, LAYOUT, "INSERT INTO made VALUES (?)", ("me",))
    return Database(tmp_path, LAYOUT)


def put(database: Database, ids: list[str], start: int = 0, born: int = 1) -> ItemTable:
    table = ItemTable(database)
    sources = [f"/photos/\udce9{item}.png" for item in ids]  # a name that is not UTF-8
    columns = {"labels": [None if i % 2 else i for i in range(len(ids))], "metadata": ['{"n": 1}'] * len(ids), "stamps": [None] * len(ids)}
    with database.writing():
        table.insert(start, born, ids=ids, sources=sources, thumbnails=[item.encode() for item in ids], **columns)
    return table


def test_what_was_put_in_is_given_back(database):
    table = put(database, ["b", "a", "c"])
    assert table.ids().tolist() == ["b", "a", "c"]
    assert table.labels(4).tolist() == [0, -1, 2, -1]
    assert table.rows() == {"b": 0, "a": 1, "c": 2}
    assert table.thumbnail(1) == b"a"
    (found,) = table.described([2], ["zero", "one", "two"])
    assert found == {"id": "c", "label": 2, "class_name": "two", "source": "/photos/\udce9c.png", "metadata": {"n": 1}}
    assert next(table.described([1], []))["label"] is None
    stored = table.stored([2, 0])
    assert (stored["ids"], stored["thumbnails"], stored["labels"]) == (["c", "b"], [b"c", b"b"], [2, 0])


def test_more_rows_than_a_statement_takes(database):
    ids = [f"{i:05d}" for i in range(2 * NUMBERS + 7)]
    table = put(database, ids)
    assert [item["id"] for item in table.described(range(len(ids)), [])] == ids


def test_a_beginning_names_one_item_and_numbered_copies_belong_to_the_first(database):
    table = put(database, ["abcd", "abcd-1", "abef", "x-1", "ümlaut"])
    assert [table.row_of(item) for item in ("abc", "abc-1", "abe", "x", "ü", "abcd-1")] == [0, 1, 2, 3, 4, 1]
    with pytest.raises(ValueError, match="several ids begin with 'ab', such as abcd and abef"):
        table.row_of("ab")
    for unknown in ("", "z", "abcd-2", "%", "_", "\udcff", "a\0"):
        with pytest.raises(ValueError, match=r"there is no item .* among the 5 of the collection"):
            table.row_of(unknown)


def test_tombstones_count_for_earlier_generations_until_compaction(database):
    table = put(database, ["a", "b", "c", "d"])
    with database.writing():
        table.bury([0, 2], 2)
    put(database, ["a"], start=4, born=3)
    assert ItemTable(database).ids().tolist() == ["b", "d", "a"]
    assert ItemTable(database, 1).ids().tolist() == ["a", "b", "c", "d"]
    assert ItemTable(database, 2).ids().tolist() == ["b", "d"]
    assert ItemTable(database).dead(2).tolist() == [0, 2]
    with database.writing():
        table.compact(np.array([1, 3, 4]))
    assert ItemTable(database).rows() == {"b": 0, "d": 1, "a": 2}
    assert [table.thumbnail(row) for row in range(4)] == [b"b", b"d", b"a", None]


def test_rolling_back_is_the_earlier_generation(database):
    table = put(database, ["a", "b"])
    with database.writing():
        table.bury([0], 2)
    put(database, ["a", "c"], start=2, born=3)
    with database.writing():
        table.roll_back(1)
    assert table.rows() == {"a": 0, "b": 1}
    assert table.thumbnail(2) is None


def test_ids_of_new_items():
    known = {"a", "a-1"}.__contains__
    assert new_ids(known, ["a", "b", "b", "a"], 4, "number") == (["a-2", "b", "b-1", "a-3"], {"a-2": "a", "b-1": "b", "a-3": "a"})
    assert new_ids(known, ["b"], 1, "refuse") == (["b"], {})
    for ids, kind, message in (
        (["a"], ValueError, "is in the gallery already"), (["b", "b"], ValueError, "given twice"), ([3], TypeError, "id 3 is a int"),
        ([""], ValueError, "is empty"), ([" b"], ValueError, "has blanks"), (["b\0"], ValueError, "is empty or"),
        (["\udce9"], ValueError, "cannot be written as UTF-8"), ([], ValueError, "0 ids for 1 items"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            new_ids(known, ids, 1 if len(ids) < 2 else 2, "refuse")
    with pytest.raises(ValueError, match="copies='twice' is unknown"):
        new_ids(known, ["b"], 1, "twice")
