"""Promises of reading ahead: every batch once and in order, whatever is chosen; errors come out; the choice follows what is measured."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from bigr_features.data import read_ahead
from bigr_features.data.item_reader import Batch
from bigr_features.data.read_ahead import read_batches, readers_for

CHUNKS = [np.arange(i, i + 2) for i in range(0, 40, 2)]


class Numbers:
    """A reader that says which thread read a batch; it fails at one position if it is told to."""

    def __init__(self, fails: int = -1):
        self.fails = fails

    def __getitem__(self, positions: np.ndarray) -> Batch:
        if self.fails in positions:
            raise RuntimeError(f"position {self.fails}")
        return Batch(positions=positions.tolist(), sources=[threading.current_thread().name])


@pytest.fixture(params=[0, 1, 2, "slower"])
def chosen(request, monkeypatch):
    """Each way of reading as the chosen one; and a thread that proves slower than no thread."""
    readers = 1 if request.param == "slower" else request.param
    monkeypatch.setattr(read_ahead, "readers_for", lambda *measured: readers)
    if request.param == "slower":
        times = iter(x * x for x in range(10_000))  # every measured span is longer than the one before
        monkeypatch.setattr(read_ahead.time, "perf_counter", lambda: next(times))
    return request.param


def test_all_batches_in_order(chosen):
    batches = list(read_batches(Numbers(), CHUNKS, "auto"))
    assert [batch.positions for batch in batches] == [chunk.tolist() for chunk in CHUNKS]
    beside = [batch.sources[0].startswith("reader") for batch in batches]
    first = read_ahead.MEASURED + 1
    assert not any(beside[:first])
    if chosen == 1:
        assert all(beside[first:]) or not any(beside[first + 1 + read_ahead.JUDGED :])
    if chosen == "slower":
        assert all(beside[first : first + 1 + read_ahead.JUDGED])
        assert not any(beside[first + 1 + read_ahead.JUDGED :])


@pytest.mark.parametrize("count", range(8))
def test_few_batches(chosen, count):
    assert [batch.positions for batch in read_batches(Numbers(), CHUNKS[:count], "auto")] == [c.tolist() for c in CHUNKS[:count]]


def test_an_error_of_a_reader_comes_out_where_its_batch_would(chosen):
    found = []

    def read():
        for batch in read_batches(Numbers(fails=20), CHUNKS, "auto"):
            found.extend(batch.positions)

    with pytest.raises(RuntimeError, match="position 20"):
        read()
    assert found == list(range(20))


def test_a_reader_stops_with_the_loop(chosen):
    batches = read_batches(Numbers(), CHUNKS, "auto")
    for _ in range(6):
        next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


@pytest.mark.parametrize(
    ("reading", "using", "left", "cores", "model_cores", "expected"),
    [
        (0.1, 1.0, 100, 1, 1, 0),  # no second core
        (0.01, 1.0, 100, 8, 1, 0),  # nothing to gain
        (0.1, 1.0, 100, 8, 1, 1),
        (0.1, 1.0, 100, 8, 8, 0),  # the model would wait for the core that reads
        (0.5, 1.0, 100, 8, 8, 1),
        (4.0, 1.0, 100, 8, 1, 4),
        (40.0, 1.0, 100, 8, 1, 8),
        (0.04, 0.01, 20, 8, 1, 1),  # processes would begin for longer than they save
        (0.1, 1.0, 4, 8, 1, 0),  # it is over before it can be judged
        (0.1, 0.0, 1000, 4, 1, 4),
    ],
)  # fmt: skip
def test_what_is_chosen(reading, using, left, cores, model_cores, expected):
    assert readers_for(reading, using, left, cores, model_cores) == expected


@pytest.mark.parametrize("wrong", [-1, "some", 1.5])
def test_another_number_of_workers_is_refused(wrong):
    with pytest.raises(ValueError, match=f"num_workers={wrong}; give auto, or 0 or more processes"):
        next(read_batches(Numbers(), CHUNKS, wrong))
