"""A folder's SQLite database with a write-ahead log, opened with care.

A reader stays in the snapshot in which it was opened. One writer at a time holds SQLite's lock; `writer.json` beside it says who that is.
Nothing in the file is believed before it is checked: application, layout, schema and structure (`quick_check`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .atomic import sync_folder

WRITER = "writer.json"
CHECK_LIMIT = 32 << 20  # bytes up to which the whole file is checked when it is opened
LOG_PAGES = 16_384  # 64 MiB of log before it is worked into the database: only a folder copied at that moment could be torn


@dataclass(frozen=True)
class Layout:
    """What a database holds.

    name : of its file.
    what, command : what it belongs to, and the command that makes one, as messages name them.
    application, version : as SQLite keeps them in the file's header.
    schema : statements that create its tables and indexes.
    """

    name: str
    what: str
    command: str
    application: int
    version: int
    schema: tuple[str, ...]


class Database:
    """A connection.

    Parameters
    ----------
    folder : Path
    layout : Layout
    wait : float
        Seconds for which a change waits for another writer.

    Raises
    ------
    ValueError, OSError
        If the file is damaged, of another layout, or on a disk that cannot lock files.
    """

    def __init__(self, folder: Path, layout: Layout, wait: float = 10.0):
        self.folder, self.path, self.layout, self.wait = folder, folder / layout.name, layout, wait
        self.read_only, self._lock = False, threading.RLock()
        self._copy: tempfile.TemporaryDirectory | None = None
        with self.errors():
            self._connection = self._open()
            self._check_layout()
            if self.path.stat().st_size <= CHECK_LIMIT:
                self.quick_check()

    @staticmethod
    def create(folder: Path, layout: Layout, statement: str, values: Sequence) -> None:
        """Make a new database, whole or not at all, whose first row a statement inserts."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{layout.name}.{os.getpid()}"
        try:
            connection = sqlite3.connect(temporary, isolation_level=None)
            pragmas = ("auto_vacuum = INCREMENTAL", f"application_id = {layout.application}", f"user_version = {layout.version}")
            for pragma in (*pragmas, "journal_mode = WAL"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN IMMEDIATE")
            for line in layout.schema:
                connection.execute(line)
            connection.execute(statement, values)
            connection.execute("COMMIT")
            connection.close()
            os.rename(temporary, folder / layout.name)
            sync_folder(folder)
        except sqlite3.Error as error:
            raise _translated(error, folder / layout.name) from error
        finally:
            for end in ("", "-wal", "-shm", "-journal"):
                Path(f"{temporary}{end}").unlink(missing_ok=True)

    def _open(self) -> sqlite3.Connection:
        """Read and write; else read only; else, where not even a lock file can be made, a file that nobody changes, or a copy of it."""
        failures: list[sqlite3.OperationalError] = []
        for mode in ("rw", "ro", "ro&immutable=1"):
            path, log = self.path, Path(f"{self.path}-wal")
            if "immutable" in mode and log.is_file() and log.stat().st_size:
                self._copy = tempfile.TemporaryDirectory(prefix="database_")
                path, mode = Path(self._copy.name) / path.name, "rw"
                for name in (path.name, log.name):
                    shutil.copyfile(self.folder / name, path.parent / name)
            address = f"file:{quote(os.fsencode(path.resolve()))}?mode={mode}"
            connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=5, check_same_thread=False)
            try:
                for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL", f"wal_autocheckpoint = {LOG_PAGES}"):
                    connection.execute(f"PRAGMA {pragma}")
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
                self.read_only = self._copy is not None or mode != "rw" or not os.access(self.folder, os.W_OK)
                return connection
            except sqlite3.OperationalError as error:
                connection.close()
                failures.append(error)
        raise failures[0]

    def _check_layout(self) -> None:
        application, version = (self.rows(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version"))
        if application != self.layout.application:
            raise ValueError(f"{self.path} is no database of a {self.layout.what}; give a folder that `{self.layout.command}` wrote.")
        if version != self.layout.version:
            remedy = "update bigr-features" if version > self.layout.version else f"make it anew with `{self.layout.command}`"
            age = "a newer" if version > self.layout.version else "an earlier"
            raise ValueError(f"{self.path} has layout {version}, of {age} version; this one reads layout {self.layout.version}: {remedy}.")
        found = self.rows("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_autoindex_%'")
        strange = sorted(str(name) for name, sql in found if sql not in self.layout.schema)
        if strange or len(found) != len(self.layout.schema):
            raise self.damaged(f"it holds {strange[0]!r}, which no {self.layout.what} has" if strange else "a table is missing")

    def damaged(self, how: str) -> ValueError:
        """The error that says so."""
        return ValueError(f"{self.path} is damaged ({how}); copy the whole folder again, or make it anew with `{self.layout.command}`.")

    def quick_check(self) -> None:
        """Raise ValueError unless SQLite finds the structure of the file sound."""
        found = self.rows("PRAGMA quick_check(1)")
        if found != [("ok",)]:
            raise self.damaged(str(found[0][0]))

    def close(self) -> None:
        """Give up the snapshot and the file."""
        with self._lock:
            self._connection.close()
            if self._copy is not None:
                self._copy.cleanup()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn SQLite's errors into ones that name the file and what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise _translated(error, self.path) from error

    def rows(self, sql: str, values: Sequence = ()) -> list[tuple]:
        """All rows of a query."""
        with self._lock, self.errors():
            return self._connection.execute(sql, values).fetchall()

    def many(self, sql: str, values) -> None:
        """Run a statement for each of many values."""
        with self._lock, self.errors():
            self._connection.executemany(sql, values)

    def snapshot(self) -> None:
        """Read from now on what is there now."""
        with self._lock:
            if self._connection.in_transaction:
                self.rows("ROLLBACK")
            self.rows("BEGIN")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one writer; commit at the end, or, after an error or a kill, leave everything as it was.

        Raises
        ------
        PermissionError
            If the folder cannot be written to.
        BlockingIOError
            If another process is writing and does not end in time, naming that process and since when.
        """
        if self.read_only:
            raise PermissionError(errno.EACCES, f"the {self.layout.what} can only be read", str(self.folder))
        record = self.folder / WRITER
        with self._lock:
            self._begin_writing()
            try:
                with contextlib.suppress(OSError):
                    who = {"process": os.getpid(), "host": socket.gethostname(), "command": Path(sys.argv[0]).name, "since": time.time()}
                    record.write_text(json.dumps(who))
                yield
                with contextlib.suppress(OSError):
                    record.unlink(missing_ok=True)  # while nobody else can have written it
                with self.errors():
                    self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(OSError):
                    record.unlink(missing_ok=True)
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _begin_writing(self) -> None:
        if self._connection.in_transaction:
            self.rows("ROLLBACK")
        end = time.monotonic() + self.wait
        while True:
            try:
                self._connection.execute("PRAGMA busy_timeout = 0")
                self._connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) and "busy" not in str(error):
                    raise _translated(error, self.path) from error
                if time.monotonic() >= end:
                    writer = f"another process is changing the {self.layout.what} {self.folder}{self._writer()}"
                    raise BlockingIOError(f"{writer}; wait until it is done.") from error
                time.sleep(0.01)
            finally:
                self._connection.execute("PRAGMA busy_timeout = 5000")

    def _writer(self) -> str:
        """The writer of the record, in words."""
        try:
            who = json.loads((self.folder / WRITER).read_text())
            since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(who["since"]))
            return f": process {int(who['process'])} on {str(who['host'])[:60]} ({str(who['command'])[:60]}), since {since}"
        except (OSError, ValueError, KeyError, TypeError):
            return ""


def _translated(error: sqlite3.Error, path: Path) -> Exception:
    text = str(error)
    if "full" in text:
        return OSError(errno.ENOSPC, "No space left on device; everything stays as it was", str(path))
    if "readonly" in text:
        return PermissionError(errno.EACCES, "it can only be read", str(path))
    if any(sign in text for sign in ("disk I/O", "locking protocol", "unable to open")):
        hint = "the disk is full, cannot be written to, or, as some network disks, cannot lock files; copy the folder to a local disk"
        return OSError(errno.EIO, f"{text} ({hint})", str(path))
    if "locked" in text or "busy" in text:
        return BlockingIOError(f"another process is changing {path}; wait until it is done.")
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return RuntimeError(f"{path}: {text}")
    return ValueError(f"{path} is damaged ({text}); copy the whole folder again, or make it anew.")
