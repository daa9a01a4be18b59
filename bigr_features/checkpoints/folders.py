"""Folders of weights: of `save_model`, of a training run (finished or interrupted), of `bigr export`, and a folder with one file."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from ..functional.checks import some
from .files import filled, read_checkpoint
from .native import KINDS, load_model

log = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin")
ACCEPTED = (
    f"a file of weights ({', '.join(SUFFIXES)}), the folder of a run of `bigr train`, finished or not, or a folder that `bigr export` wrote"
)


def checked_weights(path: str | Path) -> Path:
    """The path of a file or folder; FileNotFoundError that names it, and says what would be accepted, if there is none."""
    found = Path(path).expanduser()
    if not str(path).strip() or not found.exists():
        raise FileNotFoundError(f"there is no file or folder {str(path)!r} of weights; give {ACCEPTED}.")
    return found


def load_trained(folder: str | Path) -> nn.Module:
    """Generator or tokenizer of a folder of `save_model`, or of a training run: its result, or else its newest checkpoint.

    Parameters
    ----------
    folder : str or Path
        What `save_model` wrote, or the folder of a run. Of a run that did not end, the averaged weights of its newest checkpoint are
        taken, and the log says so.

    Raises
    ------
    FileNotFoundError, ValueError
        For a folder that is neither, a run without a checkpoint, and damaged files.
    """
    folder = Path(folder)
    if (folder / "model" / "config.json").is_file():
        return load_model(folder / "model")
    settings = _settings_of_run(folder)
    if settings is None:
        return load_model(folder)
    steps = sorted(
        (int(match[1]), path)
        for path in (folder / "checkpoints").glob("step_*.pt")
        if (match := re.fullmatch(r"step_(\d+)\.pt", path.name))
    )
    if not steps:
        raise FileNotFoundError(f"the run {folder} did not end, and has no checkpoint yet; go on with it by --resume.")
    step, path = steps[-1]
    log.warning("the run %s did not end: taking its newest checkpoint, of step %d", folder, step)
    content = read_checkpoint(path)
    if not isinstance(content.get("ema"), dict):
        raise ValueError(f"{path} is no checkpoint of a training run: it has no averaged weights; it holds {some(content)}.")
    model_cls, config_cls = KINDS[_kind(settings)]
    return filled(model_cls(config_cls.from_dict(settings["model"]), device="meta"), content["ema"], str(path)).eval()


def load_parts(folder: str | Path) -> list[nn.Module] | None:
    """Generator and tokenizer of a folder of `bigr train` or `bigr export`; None if it holds other weights.

    Parameters
    ----------
    folder : str or Path
        A run; the folder that `bigr export` wrote, or the generator's folder in it; the `model` of a run.
    """
    folder = Path(folder)
    settings = _settings_of_run(folder)
    if (folder / "tokenizer" / "config.json").is_file():
        if settings is not None:
            return [load_trained(folder), load_model(folder / "tokenizer")]
        described = sorted(path.parent for path in folder.glob("*/config.json") if path.parent.name != "tokenizer")
        generators = [path for path in described if not (path / "manifest.json").is_file()]  # a cache of codes may lie here too
        if len(generators) != 1:
            names = some([path.name for path in generators])
            raise ValueError(f"{folder} holds {len(generators)} generators beside the tokenizer ({names}); name the folder of one.")
        return [load_model(generators[0]), load_model(folder / "tokenizer")]
    inner = folder / "model" if (folder / "model" / "config.json").is_file() else folder
    if _is_generator(inner):
        return [load_model(inner), load_model(inner.parent / "tokenizer")]
    if settings is not None and _kind(settings) != "BiGR":
        raise ValueError(f"{folder} is the run of a tokenizer, which is one half of a model; give the run of `bigr train` that used it.")
    if settings is not None:
        raise FileNotFoundError(
            f"the run {folder} has no tokenizer beside its generator: it stopped before its first step; start it again."
        )
    return None


def class_names_of(path: str | Path) -> list[str] | None:
    """Names of the classes that a generator was trained on, by number, where its folder knows them; None otherwise.

    Parameters
    ----------
    path : str or Path
        As for `load_parts`; or a file, beside which a config.json of ours may lie.
    """
    for content in _configs(path):
        names = content.get("class_names")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    return None


def feature_layer_of(path: str | Path) -> int | None:
    """0-based block that was chosen for the features of a generator's weights, where their folder knows one; None otherwise.

    Parameters
    ----------
    path : str or Path
        As for `class_names_of`.
    """
    found = (content.get("feature_layer") for content in _configs(path))
    return next((layer for layer in found if isinstance(layer, int)), None)


def _configs(path: str | Path) -> Iterator[dict]:
    """The config.json that may lie in a folder, beside a file, and in the folder of a generator's part."""
    path = Path(path).expanduser()
    folder = path if path.is_dir() else path.parent
    beside = [] if not path.is_dir() else [file.parent for file in folder.glob("*/config.json") if file.parent.name != "tokenizer"]
    for place in (folder, folder / "model", *beside):
        try:
            content = json.loads((place / "config.json").read_text())
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            yield content


def file_of(path: Path) -> Path:
    """The path of a file itself, or the one file of weights in a folder, such as timm's save_for_hf writes.

    Raises
    ------
    FileNotFoundError, ValueError
        For a folder that holds none, or several.
    """
    if not path.is_dir():
        return path
    within = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    by_stem = {file.stem: file for file in reversed(within)}  # model.safetensors before model.bin of the same weights
    if len(by_stem) == 1:
        return within[-1]
    if not within:
        raise FileNotFoundError(f"the folder {path} holds no weights; give {ACCEPTED}.")
    raise ValueError(f"{path} holds several files of weights ({some([file.name for file in within])}); name one of them.")


def _settings_of_run(folder: Path) -> dict | None:
    """Settings in the config.json of a training run; None for another folder."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    settings = content.get("settings") if isinstance(content, dict) else None
    return settings if isinstance(settings, dict) and isinstance(settings.get("model"), dict) else None


def _is_generator(folder: Path) -> bool:
    """Whether `save_model` wrote a generator into this folder; its tokenizer then lies beside it."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    content = json.loads(path.read_text())
    return isinstance(content, dict) and content.get("kind") == "BiGR"


def _kind(settings: dict) -> str:
    """Which of `KINDS` a run trains, by the settings of its model."""
    if "depth" in settings["model"]:
        return "BiGR"
    return "VQAutoencoder" if "codebook_size" in settings["model"] else "BinaryAutoencoder"
