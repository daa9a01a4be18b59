"""What an error means for who gave the command: full disks, caches that cannot be written, errors without words."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

NO_SPACE = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
# libraries that write files themselves and keep no number: SQLite, torch.save, safetensors, Arrow
_NO_SPACE_WORDS = re.compile(
    r"no space left|disk is full|disk full|file too large|quota exceeded|PytorchStreamWriter failed|unexpected pos", re.IGNORECASE
)
_HUB_CACHE = re.compile(r"huggingface|hf_home|/hub/|datasets", re.IGNORECASE)
CONTINUES = {
    **dict.fromkeys(("encode", "extract", "index", "add", "evaluate-generation"), "the same command goes on where it stopped"),
    **dict.fromkeys(("train", "train-tokenizer"), "the same command with --resume goes on after the last checkpoint"),
}


def explained(error: BaseException, command: str = "", settings=None) -> str:
    """Text of an error in one line, with what to do where the text does not say it.

    Parameters
    ----------
    error : Exception
    command : str
        Name of the command, which decides how to go on.
    settings : dataclass, optional
        Of the command; its `out`, `gallery` or `run` is named where the error names no file.
    """
    text = re.sub(r"\s*\n\s*", " ", str(error)).strip()
    if is_no_space(error):
        causes = [cause for cause in chain(error) if isinstance(cause, OSError)]
        place = next((str(cause.filename) for cause in causes if cause.filename), None) or written_by(settings)
        reason = next((cause.strerror for cause in causes if cause.errno in NO_SPACE), None) or text
        here = "" if place is None or place in reason else f" while writing {place}"
        then = CONTINUES.get(command, "give the same command again")
        return f"no room on the disk, or a limit of file sizes was met{here} ({reason}). Free space; {then}."
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE and _HUB_CACHE.search(str(error.filename or "")):
        return f"{text}. This lies in the cache of the Hugging Face libraries; set HF_HOME to a folder that can be written."
    if "cannot cache function" in text:  # numba, under umap
        return f"{text}. Set NUMBA_CACHE_DIR to a folder that can be written."
    return text or "(the error has no text; set BIGR_TRACEBACK=1 to see where it came from)"


def interrupted(command: str, said: str = "") -> str:
    """The line that ends a command after Ctrl-C: what was kept, and how to go on."""
    then = CONTINUES.get(command, "give the same command again")
    return f"bigr {command}: {said or 'interrupted'}; {then}."


def is_no_space(error: BaseException) -> bool:
    """Whether an error, or one behind it, says that a file could not grow."""
    return any(
        getattr(cause, "errno", None) in NO_SPACE or (not isinstance(cause, ValueError | TypeError) and _NO_SPACE_WORDS.search(str(cause)))
        for cause in chain(error)
    )


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those behind it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def written_by(settings) -> str | None:
    """The file or folder that a command writes."""
    named = (getattr(settings, name, None) for name in ("out", "gallery", "run"))
    return next((str(path) for path in named if isinstance(path, str | Path)), None)
