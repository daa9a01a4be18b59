"""Items in a database: unique ids, what belongs to them, small pictures, tombstones.   n rows

A removed item is a tombstone, which names the generation in which it died: readers of an earlier generation still find it, until
compaction deletes its row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ..data.item_reader import ID_LENGTH
from .database import Database

TABLES = (
    "CREATE TABLE items (row INTEGER PRIMARY KEY, id TEXT NOT NULL, label INTEGER, source BLOB, stamp TEXT, metadata TEXT, "
    "born INTEGER NOT NULL, died INTEGER)",
    "CREATE UNIQUE INDEX living ON items (id) WHERE died IS NULL",
    "CREATE INDEX tombstones ON items (died) WHERE died IS NOT NULL",
    "CREATE TABLE thumbnails (row INTEGER PRIMARY KEY, picture BLOB NOT NULL)",
)
NUMBERS = 900  # values that one SQL statement takes everywhere


class ItemTable:
    """The items of a database, at one generation.

    Parameters
    ----------
    database : Database
    generation : int, optional
        By default the newest.
    """

    def __init__(self, database: Database, generation: int | None = None):
        self.database = database
        self._living = "died IS NULL" if generation is None else f"born <= {generation} AND (died IS NULL OR died > {generation})"

    # ---------------------------------------------------------------------------------------------------------- reading

    def dead(self, generation: int) -> np.ndarray:
        """Rows of the tombstones of a generation."""
        return np.array([row for (row,) in self.database.rows(f"SELECT row FROM items WHERE died <= {generation}")], dtype=np.int64)

    def rows(self) -> dict[str, int]:
        """Row of every item by its id, in the order of rows."""
        return dict(self.database.rows(f"SELECT id, row FROM items WHERE {self._living} ORDER BY row"))

    def ids(self) -> np.ndarray:
        """Strings (n,), in the order of rows."""
        return np.array([item for (item,) in self.database.rows(f"SELECT id FROM items WHERE {self._living} ORDER BY row")], dtype=str)

    def labels(self, count: int) -> np.ndarray:
        """int64 (count,) of all rows, -1 where there is none."""
        labels = np.full(count, -1, dtype=np.int64)
        found = self.database.rows(f"SELECT row, label FROM items WHERE label IS NOT NULL AND {self._living}")
        if found:
            rows, values = zip(*found, strict=True)
            labels[list(rows)] = values
        return labels

    def columns(self, rows: Iterable[int], columns: str) -> dict[int, list]:
        """Columns by row."""
        rows, found = [int(row) for row in rows], dict[int, list]()
        for start in range(0, len(rows), NUMBERS):
            part = rows[start : start + NUMBERS]
            marks = ", ".join("?" * len(part))
            found |= {row: rest for row, *rest in self.database.rows(f"SELECT row, {columns} FROM items WHERE row IN ({marks})", part)}
        return found

    def described(self, rows: Iterable[int], class_names: Sequence[str]) -> Iterator[dict]:
        """id, label, class_name, source and metadata of rows."""
        found = self.columns(rows, "id, label, source, metadata")
        for row in map(int, rows):
            item, label, source, metadata = found[row]
            yield {
                "id": item,
                "label": label,
                "class_name": class_names[label] if label is not None and 0 <= label < len(class_names) else None,
                "source": _decoded(source),
                "metadata": json.loads(metadata) if metadata else {},
            }

    def stored(self, rows: Sequence[int]) -> dict[str, list]:
        """Lists of ids, labels (None for none), sources, stamps, metadata (JSON) and thumbnails of rows."""
        found = self.columns(rows, "id, label, source, stamp, metadata")
        ids, labels, sources, stamps, metadata = map(list, zip(*(found[row] for row in rows), strict=True))
        thumbnails = [self.thumbnail(row) for row in rows]
        given = {"ids": ids, "labels": labels, "sources": [_decoded(source) for source in sources]}
        return {**given, "stamps": stamps, "metadata": metadata, "thumbnails": thumbnails}

    def thumbnail(self, row: int) -> bytes | None:
        """The encoded small picture of a row, if there is one."""
        found = self.database.rows("SELECT picture FROM thumbnails WHERE row = ?", (int(row),))
        return bytes(found[0][0]) if found else None

    def sources(self) -> Iterator[tuple[int, str, str, str | None]]:
        """Row, id, source and stamp of every item with a source."""
        query = f"SELECT row, id, source, stamp FROM items WHERE source IS NOT NULL AND {self._living} ORDER BY row"
        for row, item, source, stamp in self.database.rows(query):
            yield row, item, _decoded(source) or "", stamp

    def find(self, item: str) -> int | None:
        """Row of an id, or None."""
        found = self.database.rows(f"SELECT row FROM items WHERE id = ? AND {self._living}", (_readable(item),))
        return found[0][0] if found else None

    def row_of(self, item: str) -> int:
        """Row of an id, or of the beginning of one; numbered copies of an image are not meant by its beginning alone.

        Raises
        ------
        ValueError
            If there is none, or several ids begin so.
        """
        row = self.find(item)
        if row is not None:
            return row
        begin, dash, number = item.rpartition("-")
        if dash and number.isdecimal():
            found = self._beginning_with(begin)
            row = self.find(f"{found[0]}-{number}") if len(found) == 1 else None
            if row is not None:
                return row
        found = self._beginning_with(item)
        row = self.find(found[0]) if len(found) == 1 else None
        if row is not None:
            return row
        if found:
            raise ValueError(f"several ids begin with {item!r}, such as {found[0]} and {found[1]}; give more of it.")
        ((count,),) = self.database.rows(f"SELECT count(*) FROM items WHERE {self._living}")
        raise ValueError(f"there is no item {item!r} among the {count} of the {self.database.layout.what} {self.database.folder}.")

    def _beginning_with(self, begin: str) -> list[str]:
        """The first one or two ids that begin so, copies of the first left out."""
        if not begin:
            return []
        between = (_readable(begin), f"{_readable(begin)}\U0010ffff")
        query = f"SELECT id FROM items WHERE id >= ? AND id < ? AND {self._living}"
        found = self.database.rows(f"{query} ORDER BY id LIMIT 1", between)
        if found:
            first = found[0][0]
            other = (first, len(first) + 1, f"{first}-")
            found += self.database.rows(f"{query} AND id != ? AND substr(id, 1, ?) != ? ORDER BY id LIMIT 1", (*between, *other))
        return [item for (item,) in found]

    # ---------------------------------------------------------------------------------------------------------- writing

    def insert(self, start: int, born: int, *, ids, labels, sources, stamps, metadata, thumbnails) -> None:
        """Put items into the rows from `start` on, as `stored` gives them."""
        rows, encoded = range(start, start + len(ids)), (None if s is None else s.encode("utf-8", "surrogateescape") for s in sources)
        items = zip(rows, ids, labels, encoded, stamps, metadata, strict=True)
        self.database.many(f"INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, {born}, NULL)", items)
        pictures = ((row, picture) for row, picture in zip(rows, thumbnails, strict=True) if picture)
        self.database.many("INSERT INTO thumbnails VALUES (?, ?)", pictures)

    def bury(self, rows: Iterable[int], generation: int) -> None:
        """Make rows tombstones."""
        self.database.many("UPDATE items SET died = ? WHERE row = ?", ((generation, int(row)) for row in rows))

    def set_stamps(self, stamps: dict[int, str]) -> None:
        """Stamps of sources, by row."""
        self.database.many("UPDATE items SET stamp = ? WHERE row = ?", ((stamp, row) for row, stamp in stamps.items()))

    def compact(self, keep: np.ndarray) -> None:
        """Delete tombstones, and number the rows that are kept anew, from 0 on in their order."""
        self.database.rows("DELETE FROM thumbnails WHERE row IN (SELECT row FROM items WHERE died IS NOT NULL)")
        self.database.rows("DELETE FROM items WHERE died IS NOT NULL")
        moved = [(new, int(old)) for new, old in enumerate(keep) if new != old]  # each to a place that is free by then
        for table in ("items", "thumbnails"):
            self.database.many(f"UPDATE {table} SET row = ? WHERE row = ?", moved)

    def roll_back(self, generation: int) -> None:
        """Be again as at a generation."""
        self.database.rows(f"DELETE FROM thumbnails WHERE row IN (SELECT row FROM items WHERE born > {generation})")
        self.database.rows(f"DELETE FROM items WHERE born > {generation}")
        self.database.rows(f"UPDATE items SET died = NULL WHERE died > {generation}")
        self._living = "died IS NULL"

    def clear(self) -> None:
        """No items."""
        for table in ("items", "thumbnails"):
            self.database.rows(f"DELETE FROM {table}")


def json_of(metadata, i: int) -> str | None:
    """Metadata of the item number i as JSON, None for none; TypeError if JSON cannot hold it."""
    if not metadata:
        return None
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata of item {i} is a {type(metadata).__name__}; expected a dictionary.")
    try:
        return json.dumps(metadata, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata of item {i} cannot be written as JSON ({error}).") from error


def content_ids(rows: np.ndarray) -> list[str]:
    """An id of each row's own bytes."""
    return [hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest()[:ID_LENGTH] for row in rows]


def new_ids(known: Callable[[str], bool], ids: Sequence[str], count: int, copies: str) -> tuple[list[str], dict[str, str]]:
    """Ids for new items, none of them `known`, and which of them are copies of which.

    Raises
    ------
    TypeError, ValueError
        For ids that are no strings or empty, another number of them, or, unless copies="number", an id that is there already.
    """
    if copies not in ("refuse", "number"):
        raise ValueError(f"copies={copies!r} is unknown; choose refuse or number.")
    if len(ids) != count:
        raise ValueError(f"there are {len(ids)} ids for {count} items; give one an item.")
    taken: dict[str, None] = {}  # in order
    next_number: dict[str, int] = {}
    duplicates: dict[str, str] = {}
    for item in map(_checked_id, ids):
        new = item
        if new in taken or known(new):
            if copies == "refuse":
                raise ValueError(f"the id {item!r} is in the gallery already, or given twice; use update, or copies='number'.")
            number = next_number.get(item, 1)
            while (new := f"{item}-{number}") in taken or known(new):
                number += 1
            next_number[item] = number + 1
            duplicates[new] = item
        taken[new] = None
    return list(taken), duplicates


def _checked_id(item) -> str:
    if not isinstance(item, str):
        raise TypeError(f"id {item!r} is a {type(item).__name__}; expected a string.")
    if not item or "\0" in item or item != item.strip():
        raise ValueError(f"id {item!r} is empty or has blanks at its ends; expected a plain string.")
    if not item.isascii() and item != item.encode("utf-8", "replace").decode():
        raise ValueError(f"id {item!r} cannot be written as UTF-8; expected a plain string.")
    return item


def _decoded(source: bytes | None) -> str | None:
    """A source as the file system names it, whatever its encoding."""
    return None if source is None else bytes(source).decode("utf-8", "surrogateescape")


def _readable(text: str) -> str:
    """Text that a database can be asked for: no id holds what UTF-8 cannot write."""
    return text.encode("utf-8", "replace").decode()
