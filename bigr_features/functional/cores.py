"""How many processor cores this process may count on."""

from __future__ import annotations

import os
from pathlib import Path

TOPOLOGY = Path("/sys/devices/system/cpu")


def usable_cores() -> int:
    """Physical cores that this process may run on, shared with the other processes that torchrun started on this machine; 1 at least."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    physical = {_siblings(number) for number in allowed}
    local = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, len(physical) // max(1, int(local) if local.isdecimal() else 1))


def _siblings(number: int) -> str:
    """What the two hardware threads of a core have in common; the number itself where the system does not say."""
    try:
        return (TOPOLOGY / f"cpu{number}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(number)
