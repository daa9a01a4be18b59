"""Files of weights for any timm model, such as timm's training script writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from ..functional.checks import some
from .files import check_state, checked_file, read_checkpoint, weights_of

log = logging.getLogger(__name__)

NUMPY_SUFFIXES = (".npz", ".npy")  # the JAX formats, which some timm models read themselves


def load_weights(model: nn.Module, path: str | Path) -> list[str]:
    """Load a file of weights into a timm model; a classifier in it that the model was created without (num_classes=0) is left out.

    Returns
    -------
    list of str
        The entries of the classifier that were left out, which the log names too.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, ValueError
        As `read_checkpoint`; and for a classifier of another number of classes, or weights of another model, naming the first
        differing entries and their shapes.
    """
    path = checked_file(path)
    if path.suffix.lower() in NUMPY_SUFFIXES:
        _load_numpy(model, path)
        return []
    state, left = without_classifier(weights_of(read_checkpoint(path), path), model, path)
    expected = model.state_dict()
    for key, value in expected.items():
        if key.endswith("num_batches_tracked"):  # counters, which files of before torch 0.4.1 lack
            state.setdefault(key, value)
    check_state(state, expected, str(path))
    model.load_state_dict(state)
    return left


def without_classifier(state: dict[str, Tensor], model: nn.Module, path: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """The state dict without the classifier that this model lacks, and the names of what was left out.

    Raises
    ------
    ValueError
        If the model has a classifier, but of another number of classes.
    """
    expected = model.state_dict()
    prefixes = tuple(f"{name}." for name in classifier_names(model))
    of_classifier = [key for key in state if key.startswith(prefixes)]
    left = [key for key in of_classifier if key not in expected] if getattr(model, "num_classes", 0) == 0 else []
    for key in of_classifier:
        found: Sequence[int] = state[key].shape
        wanted: Sequence[int] = expected[key].shape if key in expected else ()
        if key.endswith(".weight") and found[1:] == wanted[1:] and found[:1] != wanted[:1]:
            raise ValueError(
                f"{path} has a classifier of {found[0]} classes ({key} is {list(found)}), but the model was created with num_classes="
                f"{wanted[0]}; create it with num_classes={found[0]}, or with num_classes=0 for features alone."
            )
    if left:
        log.warning("left out the classifier of %s (%s): features are taken before it", path, some(left))
    return {key: value for key, value in state.items() if key not in set(left)}, left


def classifier_names(model: nn.Module) -> list[str]:
    """Names of a timm model's classifiers, such as head, fc or head.fc."""
    named = (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or ("head", "fc", "classifier")
    return [named] if isinstance(named, str) else list(named)


def _load_numpy(model: nn.Module, path: Path) -> None:
    if not hasattr(model, "load_pretrained"):
        raise ValueError(f"{path} is a NumPy file, which {type(model).__name__} does not read; give safetensors or a PyTorch file.")
    try:
        model.load_pretrained(str(path))
    except Exception as error:  # each model has a reader of its own
        raise ValueError(f"{path} is no NumPy checkpoint of {type(model).__name__} ({type(error).__name__}: {error}).") from error
