"""How long a training will take, said once after its first steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..functional.progress import duration

log = logging.getLogger(__name__)

SKIPPED = 2  # steps that are slower than the others: memory is allocated, kernels are chosen or compiled
STEPS, SECONDS = 10, 2.0  # steps and seconds, at least, that are measured
LONG = 24 * 3600.0
ADVICE = (
    "That is more than a day: train fewer --steps, lower --batch-size, take a smaller --preset (bigr_nano trains on two CPU cores in an "
    "hour), a part of the images (--limit), or a GPU (--device auto takes it)."
)


class Estimate:
    """Watches the first steps of a training.

    Parameters
    ----------
    first, total : int
        Step after which this process begins, and the last one.
    shown : bool
        Whether this process says it.
    clock : callable
        Seconds.
    """

    def __init__(self, first: int, total: int, shown: bool = True, clock: Callable[[], float] = time.monotonic):
        self.first, self.total, self.clock = first, total, clock
        self._open, self._since = shown and total - first > SKIPPED + STEPS, 0.0

    def after(self, step: int) -> None:
        """Called after every step; logs once when enough were measured."""
        if not self._open:
            return
        done = step - self.first - SKIPPED
        if done == 0:
            self._since = self.clock()
        passed = self.clock() - self._since
        if done < STEPS or passed < SECONDS:
            return
        self._open = False
        whole = passed / done * (self.total - self.first)
        log.info(
            "about %s for %d steps (%.3g s each), without validation and pictures",
            duration(whole),
            self.total - self.first,
            passed / done,
        )
        if whole > LONG:
            log.warning(ADVICE)
