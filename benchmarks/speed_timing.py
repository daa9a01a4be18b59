"""Timing of calls that alternate, and the rate of a large matrix product, for `speed.py` and its parts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

Calls = dict[str, Callable[[], object]]


def alternated(what: str, calls: Calls, rounds: int, floors: dict[str, float] | None = None, **facts) -> list[dict]:
    """A row for each call; the first one is the plain one."""
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    wall: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):  # the first round warms up
        for name, call in calls.items():
            start = time.process_time(), time.perf_counter()
            call()
            if number:
                cpu[name].append(time.process_time() - start[0])
                wall[name].append(time.perf_counter() - start[1])
    plain = cpu[next(iter(calls))]
    rows = []
    for name, seconds in cpu.items():
        floor = (floors or {}).get(name)
        rows.append({
            "what": what,
            "variant": name,
            "cpu_seconds": statistics.median(seconds),
            "wall_seconds": statistics.median(wall[name]),
            "ratio": statistics.median(a / b for a, b in zip(seconds, plain, strict=True)),
            "floor_seconds": floor,
            "floor_share": None if floor is None else floor / statistics.median(seconds),
            **facts,
        })  # fmt: skip
    return rows


def matmul_rate(dtype: torch.dtype, size: int = 1024) -> float:
    """Multiplications a CPU second, in units of 1e9, of a product of (size, size) matrices."""
    a, b = torch.ones(size, size, dtype=dtype), torch.ones(size, size, dtype=dtype)
    a @ b
    start = time.process_time()
    for _ in range(5):
        a @ b
    return 5 * size**3 / 1e9 / (time.process_time() - start)
