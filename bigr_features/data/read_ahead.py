"""Batches of images in order, read beside the model where that is faster: what the first batches take decides.

Reading beside the model changes when a batch is read, never what is in it. The model keeps its threads: with another number of them sums
would be taken in another order, and the last digits of features would depend on the clock.   r, u seconds
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol

import numpy as np

from ..functional.cores import usable_cores
from .item_reader import Batch
from .items import as_it_is

log = logging.getLogger(__name__)

Workers = int | Literal["auto"]
MEASURED = 2  # first batches that are measured; one more before them warms up
JUDGED = 4  # batches from which reading ahead is judged, after as many as there are readers
DEPTH = 2  # batches that lie ready at most, for each reader
WORTH_IT = 0.04  # share of the time, from which reading is worth a thread on a core that the model leaves free
CROWDED = 0.25  # the same where the model has all cores, and waits for the one that reads
STARTING = 0.5  # seconds that worker processes take to begin, per process


class Reader(Protocol):
    """What gives a batch for an array of positions, and can be pickled."""

    def __getitem__(self, positions: np.ndarray) -> Batch: ...


def check_workers(workers: Workers) -> None:
    """Raise ValueError for anything but "auto" or a number from 0."""
    if workers != "auto" and (not isinstance(workers, int) or workers < 0):
        raise ValueError(f"num_workers={workers}; give auto, or 0 or more processes.")


def read_batches(reader: Reader, chunks: list[np.ndarray], num_workers: Workers = 0, model_cores: int = 1) -> Iterator[Batch]:
    """The batches of each array of positions, in order.

    Parameters
    ----------
    reader : ItemReader, or what gives batches as it does
    chunks : list of int64 array
    num_workers : int or "auto"
        Processes that read ahead; with 0 batches are read when they are asked for. auto reads the first ones so, and then takes a thread or
        processes if these are faster.
    model_cores : int
        Cores that the model takes, for auto: torch's threads on a CPU, 1 beside an accelerator.
    """
    check_workers(num_workers)
    if num_workers == "auto":
        yield from _measured(reader, chunks, model_cores)
    elif num_workers == 0:
        yield from map(reader.__getitem__, chunks)
    else:
        yield from _in_processes(reader, chunks, num_workers)


def readers_for(reading: float, using: float, left: int, cores: int, model_cores: int) -> int:
    """How many are to read ahead: 0 for none, 1 for a thread, more for so many processes.

    Parameters
    ----------
    reading, using : float
        Seconds that a batch takes to be read, and those until the next one is asked for.
    left : int
        Batches still to be read.
    cores, model_cores : int
        Cores of this process, and how many of them the model takes.
    """
    share = reading / max(reading + using, 1e-9)
    if cores < 2 or left <= JUDGED or share < (WORTH_IT if model_cores < cores else CROWDED):
        return 0
    wanted = min(math.ceil(reading / max(using, 1e-9)), cores)
    if wanted > 1 and (reading - using) * left > STARTING * wanted:
        return wanted
    return 1


def _measured(reader: Reader, chunks: list[np.ndarray], model_cores: int) -> Iterator[Batch]:
    first, rest = chunks[: MEASURED + 1], chunks[MEASURED + 1 :]
    reading, using = [], []
    for chunk in first:
        start = time.perf_counter()
        batch = reader[chunk]
        reading.append(time.perf_counter() - start)
        start = time.perf_counter()
        yield batch
        using.append(time.perf_counter() - start)
    if not rest:
        return
    r, u = (statistics.median(seconds[1:]) for seconds in (reading, using))
    readers = readers_for(r, u, len(rest), usable_cores(), model_cores)
    log.debug("a batch is read in %.4f s and used in %.4f s: %d read ahead", r, u, readers)
    if readers == 0:
        yield from map(reader.__getitem__, rest)
    else:
        ahead = _in_a_thread(reader, rest) if readers == 1 else _in_processes(reader, rest, readers)
        yield from _judged(ahead, reader, rest, r + u, begins=readers)


def _judged(ahead: Generator[Batch], reader: Reader, chunks: list[np.ndarray], former: float, begins: int) -> Iterator[Batch]:
    """The batches that are read ahead, or read when they are asked for once that proves faster: by `former` seconds a batch."""
    took = []
    for done in range(1, len(chunks) + 1):
        start = time.perf_counter()
        yield next(ahead)
        took.append(time.perf_counter() - start)
        if done == begins + JUDGED and statistics.median(took[begins:]) > former:
            log.debug("reading ahead takes %.4f s a batch, %.4f s without; it ends", statistics.median(took[begins:]), former)
            ahead.close()
            yield from map(reader.__getitem__, chunks[done:])
            return


def _in_a_thread(reader: Reader, chunks: list[np.ndarray]) -> Generator[Batch]:
    left = deque(chunks)
    pool = ThreadPoolExecutor(1, thread_name_prefix="reader")
    try:
        ready = deque(pool.submit(reader.__getitem__, left.popleft()) for _ in range(min(DEPTH, len(left))))
        while ready:
            batch = ready.popleft().result()
            if left:
                ready.append(pool.submit(reader.__getitem__, left.popleft()))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)


def _in_processes(reader: Reader, chunks: list[np.ndarray], count: int) -> Generator[Batch]:
    from torch.utils.data import DataLoader

    yield from DataLoader(reader, batch_size=None, sampler=chunks, num_workers=count, collate_fn=as_it_is, prefetch_factor=DEPTH)
