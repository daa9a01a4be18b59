"""How far a long loop has come: a bar on a terminal or in a notebook, elsewhere a plain line every few seconds."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized

log = logging.getLogger(__name__)

EVERY = 5.0  # seconds between plain lines
_quiet = False


def quiet(wanted: bool = True) -> None:
    """Show no progress in this process, or show it again."""
    global _quiet
    _quiet = wanted


def progress(iterable: Iterable | None = None, *, total: int | None = None, unit: str, desc: str, initial: int = 0, shown: bool = True):
    """A counter to iterate over, or to `update` by hand; with `set_postfix` for values beside it, and a context manager.

    Parameters
    ----------
    iterable : optional
        What is gone through; otherwise call `update`.
    total : int, optional
        Number of units; by default the length of `iterable`.
    unit, desc : str
        What is counted, in the singular, and what is done.
    initial : int
        Units that were done before.
    shown : bool
        With False nothing is shown.
    """
    total = len(iterable) if total is None and isinstance(iterable, Sized) else total
    if shown and not _quiet and _on_terminal():
        from tqdm import tqdm

        return tqdm(iterable, total=total, unit=unit, desc=desc, initial=initial)
    return _Lines(iterable, total, unit, desc, initial, shown and not _quiet)


class _Lines:
    """Counts, and logs a line every `EVERY` seconds."""

    def __init__(self, iterable: Iterable | None, total: int | None, unit: str, desc: str, initial: int, shown: bool):
        self.iterable, self.total, self.unit, self.desc, self.shown = iterable, total, unit, desc, shown
        self.n = self._before = initial
        self._start = self._said = time.monotonic()
        self._values: dict = {}

    def __iter__(self) -> Iterator:
        for item in self.iterable or ():
            yield item
            self.update()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def update(self, count: int = 1) -> None:
        """Count on."""
        self.n += count
        now = time.monotonic()
        if self.shown and now - self._said >= EVERY:
            self._said = now
            log.info("%s", self._line(now - self._start))

    def set_postfix(self, **values) -> None:
        """Show these values in the next line."""
        self._values = values

    def close(self) -> None:
        """There is nothing to take down."""

    def _line(self, seconds: float) -> str:
        rate = (self.n - self._before) / max(seconds, 1e-9)
        of = f" of {self.total:,}" if self.total else ""
        left = f", {duration((self.total - self.n) / rate)} left" if self.total and rate > 0 else ""
        values = "".join(f", {name} {value}" for name, value in self._values.items())
        return f"{self.desc}: {self.n:,}{of} {self.unit}s, {rate:.3g} {self.unit}s/s{left}{values}"


def duration(seconds: float) -> str:
    """Seconds in words: "40 s", "12 min", "3.5 h", "2.1 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36 * 3600 else f"{seconds / 86400:.1f} days"


def _on_terminal() -> bool:
    return "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", bool)())
