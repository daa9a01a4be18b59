"""The database of a gallery, and what the gallery is at one generation, in JSON.   n rows with their tombstones, D features, K bits"""

from __future__ import annotations

import json
import re
import shlex
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..functional.pooling import layer_and_pooling
from ..nearest.settings import GallerySettings
from ..storage.database import Database, Layout
from ..storage.item_table import TABLES

SCHEMA = (
    "CREATE TABLE generations (generation INTEGER PRIMARY KEY, written REAL NOT NULL, state TEXT NOT NULL)",
    *TABLES,
    "CREATE TABLE appends (file TEXT NOT NULL, start INTEGER NOT NULL, rows INTEGER NOT NULL, sha256 TEXT NOT NULL, "
    "born INTEGER NOT NULL, PRIMARY KEY (file, start)) WITHOUT ROWID",
    "CREATE TABLE arrays (name TEXT PRIMARY KEY, shape TEXT NOT NULL, content BLOB NOT NULL) WITHOUT ROWID",
)
LAYOUT = Layout("gallery.sqlite3", "gallery", "bigr index", 0x62696772, 2, SCHEMA)  # "bigr"
KEPT = 100  # generations
INSERT = "INSERT INTO generations VALUES (?, ?, ?)"

FILE = re.compile(r"(features|bits)_\d{6}\.bin|index_\d{6}\.faiss")
DTYPES = {"features": ("<f4", "<f2"), "bits": ("|u1",)}


@dataclass
class State:
    """A generation.

    settings, embedding, class_names : as `Gallery` gives them.
    dim, num_bits, factory : D, K, and the faiss factory string of the index; None while there is nothing.
    rows : n, tombstones too.
    live : rows without a tombstone.
    files : for "features" and "bits": file, dtype and width of the vectors.
    index : file, bytes and sha256 of the cached index, the first rows that it holds, and how many it was trained on; or None.
    binarized : whether a binarizer is kept.
    generation : number of the change that made this; 0 before the first one.
    """

    settings: GallerySettings
    embedding: dict | None = None
    class_names: list[str] | None = None
    dim: int | None = None
    num_bits: int | None = None
    factory: str | None = None
    rows: int = 0
    live: int = 0
    files: dict[str, dict] = field(default_factory=dict)
    index: dict | None = None
    binarized: bool = False
    generation: int = 0

    def emptied(self) -> State:
        """The same gallery without items."""
        return State(self.settings, self.embedding, self.class_names, generation=self.generation)

    def to_json(self) -> str:
        """ASCII, in which names that are not UTF-8 survive."""
        return json.dumps({**asdict(self), "settings": self.settings.as_json()}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, generation: int) -> State:
        """The state of a database that anybody may have written; ValueError unless it makes sense."""
        try:
            content = json.loads(text)
            state = cls(**{**content, "settings": GallerySettings.from_json(content["settings"]), "generation": generation})
            state._check()
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its state is damaged: {type(error).__name__}: {error}") from error
        return state

    def _check(self) -> None:
        for name, least in {"rows": 0, "live": 0, "dim": 1, "num_bits": 1}.items():
            value = getattr(self, name)
            if (value is not None or least == 0) and (type(value) is not int or not least <= value < 1 << 40):
                raise TypeError(f"{name} is {value!r}")
        if self.live > self.rows or (self.rows > 0 and not self.files):
            raise TypeError(f"{self.live} items lie in {self.rows} rows of {len(self.files)} files")
        for kind, entry in self.files.items():
            width = self.dim if kind == "features" else -(-(self.num_bits or 0) // 8)
            if entry["dtype"] not in DTYPES[kind] or entry["width"] != width:
                raise TypeError(f"{kind} are {entry['dtype']!r} of width {entry['width']!r}")
        for entry in [*self.files.values(), *([self.index] if self.index else [])]:
            if not FILE.fullmatch(entry["file"]):
                raise TypeError(f"{entry['file']!r} is no file of a gallery")
        if self.index and not all(type(self.index[name]) is int and 0 <= self.index[name] <= self.rows for name in ("rows", "trained")):
            raise TypeError(f"the index holds {self.index['rows']!r} rows, and learned from {self.index['trained']!r}")
        if self.index and not (type(self.index["bytes"]) is int and isinstance(self.index["sha256"], str)):
            raise TypeError("the index has no size or checksum")
        if not isinstance(self.factory, str | None):
            raise TypeError(f"the index is of the kind {self.factory!r}")
        if not all(isinstance(name, str) for name in self.class_names or []) or not isinstance(self.embedding, dict | None):
            raise TypeError("class_names are no strings, or embedding is no object")


def open_database(folder: Path, wait: float) -> Database:
    """The database of a gallery; FileNotFoundError if there is none, ValueError with a command if the gallery has the earlier layout."""
    if (folder / LAYOUT.name).is_file():
        return Database(folder, LAYOUT, wait)
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        earlier = manifest["kind"] == "bigr_features gallery"
    except (OSError, ValueError, KeyError, TypeError):
        earlier = False
    if earlier:
        anew = _command_that_makes_it_anew(folder, manifest)
        raise ValueError(f"the gallery {folder} has an earlier layout, which this version does not read. Make it anew: {anew}")
    found = "there is no such folder" if not folder.exists() else f"it has no {LAYOUT.name}"
    raise FileNotFoundError(f"{folder} is no gallery ({found}); make one with `bigr index`.")


def _command_that_makes_it_anew(folder: Path, manifest: dict) -> str:
    made, settings = (part if isinstance(part := manifest.get(name), dict) else {} for name in ("embedding", "settings"))
    layer, pooling = layer_and_pooling(str(made.get("feature")))
    model, *arguments = str(made.get("model") or "MODEL").split(" ")
    options = {"source": "FOLDER_OF_IMAGES", "out": f"{folder}_new", "model": model, "layer": layer, "pooling": pooling, **settings}
    words = [word for name, value in options.items() if value is not None for word in (f"--{name.replace('_', '-')}", str(value))]
    return shlex.join(["bigr", "index", *words, *(["--model-args", *arguments] if arguments else [])])


def states_of(database: Database) -> list[State]:
    """All states that are kept, newest first; ValueError unless they make sense."""
    try:
        found = database.rows("SELECT state, generation FROM generations ORDER BY generation DESC")
        states = [State.from_json(*row) for row in found]
    except ValueError as error:
        raise database.damaged(str(error)) from error
    if not states:
        raise database.damaged("it has no state")
    return states


def save_state(database: Database, state: State) -> None:
    """Make a state the newest one."""
    database.rows(INSERT, (state.generation, time.time(), state.to_json()))
    database.rows("DELETE FROM generations WHERE generation <= ?", (state.generation - KEPT,))
