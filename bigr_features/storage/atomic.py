"""Files that are seen whole or not at all, and what is in them: JSON, checksums."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary file beside `path` to write to; then flush it to disk and let it take the place of `path`.

    The folder must be there. After an error, `path` is as it was and the temporary file is gone.
    """
    path = Path(path)
    with _temporary(path) as temporary:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    _sync(path.parent)


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that it is seen whole or not at all: temporary file beside it, fsync, rename."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def create_atomically(path: str | Path, content: bytes) -> None:
    """Write a file whole if it is not there; of several writers at once, one wins."""
    path = Path(path)
    if path.is_file():
        return
    with _temporary(path) as temporary:
        temporary.write_bytes(content)
        _sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not path.is_file():
                write_atomically(path, content)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    os.chmod(name, 0o644)
    try:
        yield Path(name)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error  # a write itself does not say to which file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def json_bytes(content: dict) -> bytes:
    """Content of a JSON file."""
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
