"""Ctrl-C in a training: the step in hand is finished and its checkpoint written; a second one leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator


class Interruption:
    """Watches for Ctrl-C over the steps of a training.

    Parameters
    ----------
    alone : bool
        Whether this is the only process. Several would stop at different steps and wait for each other, so with False, and outside the
        main thread, Ctrl-C is left to Python.

    Examples
    --------
    >>> interruption = Interruption(alone=True)
    >>> for step in interruption.over(range(3)):
    ...     if interruption.asked():  # at the place where a checkpoint is written
    ...         print("writing")
    """

    def __init__(self, alone: bool):
        self._watching = alone and threading.current_thread() is threading.main_thread()
        self._signalled = self._answered = False

    def asked(self) -> bool:
        """Whether to write a checkpoint now, because the training ends after this step."""
        self._answered = self._signalled
        return self._answered

    def over(self, steps: Iterable[int]) -> Iterator[int]:
        """The steps; after one at whose checkpoint `asked` said so, KeyboardInterrupt that names it."""
        before = signal.getsignal(signal.SIGINT)
        if self._watching:
            signal.signal(signal.SIGINT, self._handle)
        try:
            for step in steps:
                yield step
                if self._answered:
                    raise KeyboardInterrupt(f"stopped after step {step}, whose checkpoint is written")
        finally:
            if self._watching:
                signal.signal(signal.SIGINT, before)

    def _handle(self, *_) -> None:
        self._signalled = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
