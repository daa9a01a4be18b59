"""What commands say while they work: --quiet leaves warnings and results, --verbose adds what libraries say."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..functional import progress
from ..functional.printing import one_line

OPTIONS = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}
LOUD_LIBRARIES = ("faiss", "PIL", "matplotlib", "urllib3", "httpx", "httpcore", "fsspec", "filelock", "numba", "h5py", "asyncio", "timm")


def loudness_of(args: list[str]) -> tuple[list[str], int]:
    """The arguments without --quiet and --verbose, which every command takes, and the level of logging that they ask for."""
    end = args.index("--") if "--" in args else len(args)
    asked = [arg for arg in args[:end] if arg in OPTIONS]
    left = [arg for arg in args[:end] if arg not in OPTIONS] + args[end:]
    return left or ["--help"], OPTIONS[asked[-1]] if asked else logging.INFO


@contextmanager
def logged(level: int) -> Iterator[None]:
    """Log to standard error while a command works, above a progress bar and not through it."""
    handler, root = _Handler(), logging.getLogger()
    handler.setFormatter(_Lines("%(message)s"))
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    for name in LOUD_LIBRARIES:  # at INFO faiss lists the libraries that it tries to load
        logging.getLogger(name).setLevel(logging.INFO if level < logging.INFO else logging.WARNING)
    logging.getLogger("huggingface_hub").setLevel(logging.INFO if level < logging.INFO else logging.ERROR)  # every retry is a warning
    progress.quiet(level > logging.INFO)
    try:
        yield
    finally:
        progress.quiet(False)
        root.setLevel(before)
        root.removeHandler(handler)


class _Handler(logging.Handler):
    """Writes to standard error; where a bar is shown, above it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if "tqdm" in sys.modules:
                sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
            else:
                print(line, file=sys.stderr, flush=True)
        except Exception:  # as all handlers of the standard library
            self.handleError(record)


class _Lines(logging.Formatter):
    """Messages of one line or several, without characters that steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(one_line, super().format(record).split("\n")))
