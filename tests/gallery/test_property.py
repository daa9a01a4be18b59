"""The promise of a gallery as a whole: through any sequence of changes, reopenings and kills it is what a dictionary would be, and a
second process that reads all the time never meets an error or a state that was never there."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bigr_features import Gallery

from ..processes import start

DIM = 8
KEYS = st.lists(st.integers(0, 99), max_size=40)
CHANGES = ["add", "update", "remove", "compact", "index", "reembed"]
KILL = st.integers(0, 60)  # tenths of a millisecond


def row_of(key: int, version: int, scale: int) -> np.ndarray:
    """The vector of an item, which tells its version and, as a multiple, the embedding that made it."""
    row = np.random.default_rng(key).standard_normal(DIM).astype(np.float32)
    row[-1] = 10 + version
    return scale * row


def check(gallery: Gallery) -> None:
    """Ids, vectors, metadata, embedding and the index belong to one state."""
    items, features, scale = list(gallery.items()), gallery.features, gallery.embedding["scale"]
    assert len(gallery) == len(items) == len(gallery.ids)
    for item, row in zip(items, features if features is not None else [], strict=True):
        np.testing.assert_array_equal(row, row_of(int(item["id"]), item["metadata"]["version"], scale))
        assert item["label"] == int(item["id"]) % 3
        assert gallery.thumbnail(item["id"]) == item["id"].encode()
    if items:
        hits = gallery.search(features[-1:], k=1)
        assert hits.scores[0, 0] > 0.999
        assert hits.ids[0, 0] in gallery


def read_on(folder: str, channel) -> None:
    """Read until told to stop; report what went wrong."""
    rounds, gallery, newest = 0, None, 0
    while not channel.poll():
        try:
            if gallery is None:
                gallery = Gallery(folder)
            elif rounds % 3 == 2:
                gallery.close()
                gallery = Gallery(folder)
            else:
                gallery.refresh()
            assert gallery.generation >= newest, "an older state came back"
            newest = gallery.generation
            check(gallery)
            check(gallery)  # the snapshot stays, whatever is written meanwhile
        except Exception as error:
            channel.send(f"{type(error).__name__}: {error}")
            return
        rounds += 1
    channel.send(rounds)


def do(folder: str, name: str, keys: list[int], version: int) -> None:
    """One change."""
    apply(Gallery(folder), name, keys, version)


def apply(gallery: Gallery, name: str, keys: list[int], version: int) -> None:
    ids = [str(key) for key in keys]
    rows = np.array([row_of(key, version, gallery.embedding["scale"]) for key in keys], np.float32).reshape(-1, DIM)
    metadata = [{"version": version}] * len(keys)
    if name == "add":
        gallery.add(rows, ids=ids, labels=[key % 3 for key in keys], metadata=metadata, thumbnails=[item.encode() for item in ids])
    elif name == "update":
        gallery.update(ids, rows, metadata=metadata)
    elif name == "remove":
        gallery.remove(ids)
    elif name == "compact":
        gallery.compact()
    elif name == "index":
        gallery.reindex(index=["flat", "HNSW8"][version % 2])
    elif name == "reembed":
        ids, versions = gallery.ids.tolist(), [item["metadata"]["version"] for item in gallery.items()]
        rows = np.array([row_of(int(item), old, version) for item, old in zip(ids, versions, strict=True)], np.float32).reshape(-1, DIM)
        gallery.replace_vectors(ids, rows, None, {"scale": version}, gallery.settings)


class Sequences(RuleBasedStateMachine):
    """Changes of a gallery beside the same changes of a dictionary of versions."""

    def __init__(self):
        super().__init__()
        self.folder, self.version, self.expected = Path(tempfile.mkdtemp(prefix="gallery_")), 0, {}

    @initialize()
    def begin(self):
        self.gallery = Gallery.create(self.folder / "g", embedding={"scale": 1})
        self.channel, other = multiprocessing.Pipe()
        self.reader = start(read_on, str(self.folder / "g"), other)

    def teardown(self):
        try:
            if hasattr(self, "channel"):
                self.channel.send("stop")
                said = self.channel.recv() if self.channel.poll(60) else "the reader does not answer"
                self.reader.join()
                assert isinstance(said, int), said
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def planned(self, name: str, picked: list[int]) -> tuple[list[int], dict]:
        """What a change would be about, and what would be there afterwards."""
        self.version += 1
        known = sorted(self.expected)
        if name == "add":
            keys = [key for key in dict.fromkeys(picked) if key not in self.expected]
        else:
            keys = list(dict.fromkeys(known[key % len(known)] for key in picked)) if known else []
        after = dict(self.expected)
        if name in ("add", "update"):
            after |= dict.fromkeys(keys, self.version)
        elif name == "remove":
            after = {key: version for key, version in after.items() if key not in keys}
        return keys, after

    @rule(name=st.sampled_from(["add", *CHANGES]), picked=KEYS)
    def change(self, name, picked):
        keys, self.expected = self.planned(name, picked)
        apply(self.gallery, name, keys, self.version)

    @rule()
    def reopen(self):
        self.gallery.close()
        self.gallery = Gallery(self.folder / "g")

    @rule(name=st.sampled_from(CHANGES), picked=KEYS, wait=KILL)
    def kill(self, name, picked, wait):
        keys, after = self.planned(name, picked)
        process = start(do, str(self.folder / "g"), name, keys, self.version)
        generation = self.gallery.generation
        end = time.monotonic() + 10
        while process.is_alive() and not (self.folder / "g" / "writer.json").exists() and time.monotonic() < end:
            time.sleep(0.0005)
        time.sleep(wait / 10_000)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        self.gallery.refresh()
        if self.found() == after and self.gallery.generation > generation:
            self.expected = after

    def found(self) -> dict[int, int]:
        return {int(item["id"]): item["metadata"]["version"] for item in self.gallery.items()}

    @invariant()
    def is_as_the_dictionary(self):
        if hasattr(self, "gallery"):
            assert self.found() == self.expected
            check(self.gallery)


TestSequences = Sequences.TestCase
TestSequences.settings = settings(
    max_examples=int(os.environ.get("GALLERY_EXAMPLES", "6")),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_a_reader_beside_a_busy_writer(tmp_path, monkeypatch):
    monkeypatch.setattr("bigr_features.gallery.writing.TOMBSTONES", 20)
    gallery, draw = Gallery.create(tmp_path / "g", embedding={"scale": 1}), random.Random(0)
    channel, other = multiprocessing.Pipe()
    reader = start(read_on, str(tmp_path / "g"), other)
    for step in range(60):
        known = [int(item) for item in gallery.ids]
        name = draw.choice(["add", "add", "update", "remove", "compact", "reembed"])
        keys = draw.sample(known, len(known) // 3) if name != "add" else list(range(1000 * step, 1000 * step + 20))
        apply(gallery, name, keys, step)
    channel.send("stop")
    assert channel.poll(60), "the reader does not answer"
    said = channel.recv()
    assert isinstance(said, int), said
    reader.join()
