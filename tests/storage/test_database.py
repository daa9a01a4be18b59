"""Promises of a database: one writer, named to whoever has to wait; snapshots; nothing but its own schema."""

from __future__ import annotations

import json
import os
import sqlite3
import threading

import pytest

from bigr_features.storage.database import WRITER, Database, Layout

LAYOUT = Layout("things.sqlite3", "collection", "make", 7, 1, ("CREATE TABLE things (name TEXT)",))


@pytest.fixture
def folder(tmp_path):
    Database.create(tmp_path / "f", LAYOUT, "INSERT INTO things VALUES (?)", ("first",))
    return tmp_path / "f"


def names(database: Database) -> list[str]:
    return [name for (name,) in database.rows("SELECT name FROM things")]


def put(database: Database, name: str) -> None:
    database.rows("INSERT INTO things VALUES (?)", (name,))


def test_a_snapshot_stays_until_the_next_one(folder):
    one, other = Database(folder, LAYOUT), Database(folder, LAYOUT)
    one.snapshot()
    assert names(one) == ["first"]
    with other.writing():
        put(other, "second")
    assert names(one) == ["first"]
    one.snapshot()
    assert names(one) == ["first", "second"]


def test_an_error_leaves_everything_as_it_was(folder):
    database = Database(folder, LAYOUT)

    def stopped_halfway():
        with database.writing():
            put(database, "second")
            raise KeyError

    with pytest.raises(KeyError):
        stopped_halfway()
    assert names(database) == ["first"]
    assert not (folder / WRITER).exists()


def test_a_second_writer_waits_or_hears_who_writes_since_when(folder):
    one, impatient, patient = Database(folder, LAYOUT), Database(folder, LAYOUT, wait=0), Database(folder, LAYOUT, wait=30)
    waiting = threading.Thread(target=lambda: write(patient, "third"))
    with one.writing():
        put(one, "second")
        waiting.start()
        who = rf"another process is changing the collection .*: process {os.getpid()} on .*, since 20\d\d-.* UTC; wait until it is done"
        with pytest.raises(BlockingIOError, match=who), impatient.writing():
            pass
    waiting.join()
    assert names(Database(folder, LAYOUT)) == ["first", "second", "third"]


def write(database: Database, name: str) -> None:
    with database.writing():
        put(database, name)


@pytest.mark.parametrize("record", ["", "{}", "[]", json.dumps({"process": "x", "host": 1, "command": "", "since": "y"}), "\0"])
def test_a_record_of_the_writer_that_says_nothing(folder, record):
    one, other = Database(folder, LAYOUT), Database(folder, LAYOUT, wait=0)
    with one.writing():
        (folder / WRITER).write_text(record)
        with pytest.raises(BlockingIOError, match=r"is changing the collection \S*; wait"), other.writing():
            pass


def test_a_database_is_made_whole_or_not_at_all(tmp_path):
    broken = Layout("things.sqlite3", "collection", "make", 7, 1, ("CREATE TABLE things (name TEXT)", "CREATE TABEL"))
    with pytest.raises(ValueError, match="syntax error"):
        Database.create(tmp_path / "f", broken, "SELECT 1", ())
    assert list((tmp_path / "f").iterdir()) == []


@pytest.mark.parametrize(("pragma", "message"), [
    ("application_id = 8", "is no database of a collection; give a folder that `make` wrote"),
    ("user_version = 2", "of a newer version; this one reads layout 1: update bigr-features"),
    ("user_version = 0", "of an earlier version; this one reads layout 1: make it anew with `make`"),
])  # fmt: skip
def test_other_databases_are_refused(folder, pragma, message):
    connection = sqlite3.connect(folder / LAYOUT.name)
    connection.execute(f"PRAGMA {pragma}")
    connection.close()
    with pytest.raises(ValueError, match=message):
        Database(folder, LAYOUT)


def test_a_database_without_structure_is_named(folder):
    content = bytearray((folder / LAYOUT.name).read_bytes())
    content[4096 + 8 :] = b"\xff" * len(content[4096 + 8 :])
    (folder / LAYOUT.name).write_bytes(content)
    with pytest.raises(ValueError, match=r"things\.sqlite3 is damaged"):
        Database(folder, LAYOUT)
