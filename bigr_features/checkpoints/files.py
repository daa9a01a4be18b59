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
WEIGHTS_ENTRIES = ("ema", "model", "module", "state_dict")  # in the order in which they are looked for


def read_pickle(path: str | Path) -> dict:
    """Content of a `.pt` or `.th` file; a pickle that asks for more than tensors and plain containers is refused, nothing executed.

    Raises
    ------
    FileNotFoundError
    ValueError
        For a damaged file, a refused pickle, or content that is no dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}.")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        reason = re.search(r"Unsupported (?:global|class|operand)[^.\n]*[.\w]*|GLOBAL [\w. ]+", str(error))
        raise ValueError(
            f"{path} was refused and nothing in it was executed: it asks for more than weights"
            f"{' (' + reason.group(0).strip() + ')' if reason else ''}, or is no checkpoint. Get safetensors from a trusted source."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise ValueError(f"{path} is damaged or no PyTorch checkpoint ({reason}); download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, but a checkpoint is a dictionary of weights.")
    return content


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing or damaged file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}.")
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # safetensors raises its own class, which it does not export
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from error


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


def weights_entry(content: dict, known: str, path: str | Path, weights: str | None = None) -> dict[str, Tensor]:
    """State dict of a file that may hold several, or is one itself; prefixes of wrappers are taken off its names.

    Parameters
    ----------
    content : dict
        As `read_pickle` gives it.
    known : str
        A name that the state dict must have.
    path : str or Path
        Named in errors.
    weights : str, optional
        The entry to take; by default the first there is of ema, model, module, state_dict, or else the whole file.
    """
    if weights is not None and weights not in content:
        raise ValueError(f"{path} has no entry {weights!r}; it holds {some(content)}.")
    named = [name for name in WEIGHTS_ENTRIES if isinstance(content.get(name), dict)] if weights is None else [weights]
    state = content[named[0]] if named else content
    if not isinstance(state, dict):
        raise ValueError(f"{path}: entry {weights!r} is a {type(state).__name__}, but a dictionary of weights is expected.")
    state = {key.removeprefix("module.").removeprefix("_orig_mod."): value for key, value in state.items()}
    if known not in state:
        raise ValueError(f"{path} has no {known!r} among its weights; it holds {some(state)}.")
    return tensors(state, path)
