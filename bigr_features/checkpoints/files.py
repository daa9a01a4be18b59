"""Checkpoint files: reading them safely, and saying how two state dicts differ."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import zipfile
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from ..functional.checks import some

ModelT = TypeVar("ModelT", bound=nn.Module)
VQ_CODEBOOK = "quantize.embedding.weight"  # the entry by which official VQ tokenizers are known


# entries under which training programs keep weights, averaged ones first
ENTRIES = ("state_dict_ema", "model_ema", "ema", "state_dict", "model", "module")
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")  # torch.compile and FSDP, anywhere in a name
_TAKEN_FOR_WEIGHTS = (
    (b"version https://git-lfs", "is a git-lfs pointer and holds no weights; fetch the file itself with `git lfs pull`"),
    (b"\x1f\x8b", "is a gzip archive; unpack it, and give the file of weights in it"),
)


def read_checkpoint(path: str | Path) -> dict:
    """Content of a file of weights of any suffix, safetensors or a PyTorch pickle as its first bytes say; nothing in it is executed.

    Every option and argument that takes a file of weights is read by this function.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, ValueError
        For a missing file, a folder, and what is no file of weights (see `checked_file`, `read_pickle`, `read_safetensors`).
    """
    path = checked_file(path)
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix.lower() == ".safetensors" and not head.startswith((b"PK", b"\x80")):
        return read_safetensors(path)
    return read_safetensors(path) if _is_safetensors(head) else read_pickle(path)


def checked_file(path: str | Path) -> Path:
    """The path, if it names a file that may hold weights.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, ValueError
        For a missing file; a folder; an empty file; a git-lfs pointer, a web page or another text in place of weights; an archive.
    """
    path = Path(path)
    if path.is_dir():
        within = sorted(file.name for file in path.iterdir() if file.suffix in (".safetensors", ".pt", ".pth", ".th", ".bin"))
        raise IsADirectoryError(f"{path} is a folder, but a checkpoint file is expected; it holds {some(within) or 'no file of weights'}.")
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}.")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is empty, as an interrupted save or download leaves it, and holds no weights; get it again.")
    for begin, found in _TAKEN_FOR_WEIGHTS:
        if head.startswith(begin):
            raise ValueError(f"{path} {found}.")
    if _is_text(head) and not _is_safetensors(head[:9]):
        kind = "a web page" if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<head", b"<?xml")) else "a text file"
        raise ValueError(f"{path} is {kind} and holds no weights (it begins {head[:24]!r}); download the file itself.")
    return path


def _is_safetensors(head: bytes) -> bool:
    """Whether the first nine bytes are a length and the brace of a JSON header."""
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 30


def _is_text(head: bytes) -> bool:
    """Whether bytes are printable text in UTF-8; a character cut off at the end counts as one."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) - error.start > 3:
            return False
        text = head[: error.start].decode("utf-8-sig")
    return all(character.isprintable() or character in "\t\n\r\f" for character in text)


def read_pickle(path: str | Path) -> dict:
    """Content of a PyTorch file; a pickle that asks for more than tensors and plain containers is refused, nothing executed.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    ValueError
        For a damaged file, a refused pickle, or content that is no dictionary.
    """
    path = checked_file(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
            named = path.suffix.lower() == ".safetensors"  # torch.load would believe the suffix, but not of an open file
            options = {"map_location": "cpu", "weights_only": True}
            content = torch.load(file, **options) if named else torch.load(path, mmap=zipfile.is_zipfile(path), **options)
    except pickle.UnpicklingError as error:
        reason = re.search(r"Unsupported (?:global|class|operand)[^.\n]*[.\w]*|GLOBAL [\w. ]+", str(error))
        raise ValueError(
            f"{path} was refused and nothing in it was executed: it asks for more than weights"
            f"{' (' + reason.group(0).strip() + ')' if reason else ''}, or is no checkpoint. Get safetensors from a trusted source."
        ) from error
    except PermissionError:
        raise
    except Exception as error:  # torch.load raises almost anything on damaged files
        first = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise ValueError(f"{path} is damaged or no PyTorch checkpoint ({first}); download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, but a checkpoint is a dictionary of weights.")
    return content


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, ValueError
        For a missing or damaged file.
    """
    path = checked_file(path)
    try:
        return safetensors.torch.load_file(path)
    except PermissionError:
        raise
    except Exception as error:  # safetensors raises its own class, which it does not export
        raise ValueError(f"{path} is damaged or no safetensors file ({error}); download it again.") from error


def weights_of(content: dict, path: str | Path) -> dict[str, Tensor]:
    """State dict of what a training program wrote: an entry of `ENTRIES` or the content itself, without the prefixes of wrappers.

    Raises
    ------
    ValueError
        If there is no such entry, or a value that is no tensor.
    """
    entry = next((name for name in ENTRIES if isinstance(content.get(name), dict)), None)
    state = content if entry is None else content[entry]
    if entry is None and not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} has no weights under {', '.join(ENTRIES)}, nor at its top; it holds {some(content) or 'nothing'}.")
    return tensors({_unwrapped(str(key)): value for key, value in state.items() if key != "n_averaged"}, path)


def _unwrapped(key: str) -> str:
    for wrapper in _WRAPPERS:
        key = key.replace(wrapper, "")
    while key.startswith("module."):
        key = key.removeprefix("module.")
    return key


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of a module's weights: equal exactly when the weights are."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_state(found: dict[str, Tensor], expected: dict[str, Tensor], source: str) -> None:
    """Raise ValueError that names the first differing keys, with both shapes, if two state dicts differ in keys or shapes."""
    differing = [
        f"{key} is {list(found[key].shape)} there and {list(value.shape)} here"
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ]
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    problems = []
    if differing:
        problems.append("; ".join(differing[:3]) + (f"; and {len(differing) - 3} more of another shape" if len(differing) > 3 else ""))
    if missing:
        problems.append(f"it lacks {some(missing)}")
    if extra:
        problems.append(f"it has {some(extra)} that this model lacks")
    if problems:
        raise ValueError(f"{source} does not fit this model: {'. '.join(problems)}. Build the model with the configuration of the file.")


def tensors(state: dict, path: str | Path) -> dict[str, Tensor]:
    """The state dict, if every value in it is a tensor; ValueError otherwise."""
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{path}: {key} is a {type(value).__name__}, but a tensor of weights is expected.")
    return state


def filled(model: ModelT, state: dict[str, Tensor], source: str) -> ModelT:
    """The model, built on the meta device, with these weights on the CPU; ValueError as `check_state`."""
    check_state(state, model.state_dict(), source)
    model.to_empty(device="cpu")
    model.load_state_dict(state)
    return model
