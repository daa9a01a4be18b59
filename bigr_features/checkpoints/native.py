"""Our own format: a folder with `model.safetensors` and `config.json`, from which a model is rebuilt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch

from ..models.autoencoder import BinaryAutoencoder
from ..models.config import GeneratorConfig
from ..models.config_fields import Config
from ..models.generator import BiGR
from ..models.tokenizer_config import TokenizerConfig, VQTokenizerConfig
from ..models.vq_autoencoder import VQAutoencoder
from ..storage.atomic import write_atomically
from ..storage.json_files import write_json
from .files import filled, read_safetensors

FORMAT_VERSION = 1
KINDS: dict[str, tuple[type, type[Config]]] = {
    "BinaryAutoencoder": (BinaryAutoencoder, TokenizerConfig),
    "VQAutoencoder": (VQAutoencoder, VQTokenizerConfig),
    "BiGR": (BiGR, GeneratorConfig),
}


def save_model(
    model: BinaryAutoencoder | VQAutoencoder | BiGR,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    class_names: Sequence[str] | None = None,
    feature_layer: int | None = None,
) -> None:
    """Write `model.safetensors` and `config.json` into a folder; each file appears whole or not at all.

    Parameters
    ----------
    model : BinaryAutoencoder, VQAutoencoder or BiGR
        Timm backbones are saved with `timm.models.save_for_hf`.
    folder : str or Path
        Created if missing.
    dtype : torch.dtype, optional
        Store floats in it; as they are by default.
    class_names : sequence of str, optional
        Names of the classes of a generator, by number; `folders.class_names_of` gives them back.
    feature_layer : int, optional
        0-based block whose outputs are the features of a generator, where another than the middle one was chosen for these weights.

    Raises
    ------
    TypeError, ValueError
        For another kind of model, or a block that it lacks.
    """
    kind = type(model).__name__
    if kind not in KINDS:
        raise TypeError(f"save_model takes {' or '.join(KINDS)}, not {kind}; save a timm backbone with timm.models.save_for_hf.")
    depth = getattr(model.config, "depth", 0)
    if feature_layer is not None and not 0 <= feature_layer < depth:
        raise ValueError(f"feature_layer={feature_layer}; this {kind} has {f'blocks 0..{depth - 1}' if depth else 'no blocks'}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()}
    config = {"format": FORMAT_VERSION, "kind": kind, "config": model.config.to_dict()}
    if class_names is not None:
        config["class_names"] = list(class_names)
    if feature_layer is not None:
        config["feature_layer"] = feature_layer
    write_atomically(folder / "model.safetensors", safetensors.torch.save(state))
    write_json(folder / "config.json", config)


def load_model(folder: str | Path) -> BinaryAutoencoder | VQAutoencoder | BiGR:
    """Model that `save_model` wrote, in float32 and eval mode.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing or damaged file, or weights that do not fit the configuration.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no model (it has no {name}); give the folder of a run of `bigr train` or `bigr train-tokenizer`, "
                "or of an export."
            )
    try:
        content = json.loads((folder / "config.json").read_text())
        kind, config = content["kind"], dict(content["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged or not written by save_model ({error}).") from error
    if not isinstance(kind, str) or kind not in KINDS or content.get("format") != FORMAT_VERSION:
        raise ValueError(f"{folder} holds {kind!r} in format {content.get('format')!r}; this version reads {', '.join(KINDS)} in format 1.")
    model_cls, config_cls = KINDS[kind]
    state = {key: value.float() for key, value in read_safetensors(folder / "model.safetensors").items()}
    return filled(model_cls(config_cls.from_dict(config), device="meta"), state, str(folder)).eval()
