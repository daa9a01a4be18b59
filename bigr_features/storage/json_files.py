"""JSON files: settings and results as what JSON can hold, written whole."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .atomic import write_atomically


def plain(value: Any) -> Any:
    """What JSON can hold: dataclasses become dictionaries, tuples and arrays lists, paths text, numpy's numbers Python's.

    Raises
    ------
    TypeError
        For anything else, naming it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # of numpy, which settings need not load
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot stand in a JSON file: {value!r}.")


def json_bytes(content: Any) -> bytes:
    """Content of a JSON file, strictly valid: no NaN."""
    return (json.dumps(plain(content), indent=2, allow_nan=False) + "\n").encode()


def write_json(path: str | Path, content: Any) -> None:
    """Write a JSON file whole or not at all, and the folder it lies in if need be."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json_bytes(content))
