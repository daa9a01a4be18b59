"""One door for weights of any timm model: files of any program, official files, and folders of trainings and exports."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import timm
from torch import nn

from .. import checkpoints
from ..models.presets import PRESETS, is_preset_field, preset_configs
from .backbone import BiGRBackbone
from .baselines import load_bits
from .bigr import checkpoint_filter_fn
from .parts import read_parts

_OF_TRAINING = ("class_dropout", "token_dropout", "residual_dropout", "ffn_dropout", "drop_path")


def load_weights(model: nn.Module | str, path: str | Path, **arguments) -> nn.Module:
    """A timm model with weights from a file or folder, in eval mode.

    Parameters
    ----------
    model : nn.Module or str
        A timm model, which is filled; or the name of one, which is created without a classifier unless `arguments` has num_classes.
    path : str or Path
        A file of weights of any suffix: safetensors or a PyTorch file, of timm, of a training program, or official. For BiGR models also
        a run of `bigr train`, finished or interrupted (its newest checkpoint, which the log says), and what `bigr export` wrote. A
        classifier in it that the model lacks is left out, which the log says.
    **arguments
        Of timm.create_model, with a name.

    Raises
    ------
    FileNotFoundError
        Naming the path, and what would be accepted.
    ValueError
        For what holds no weights, and for weights of another architecture: the first differing entries with both shapes, and the
        arguments that would fit where the weights come with their configuration.
    """
    path = checkpoints.checked_weights(path)
    if model == "bits":
        return load_bits(path).eval()
    if model == "pixels":
        raise ValueError(f"pixels have no weights, but {path} was given; leave it out.")
    if isinstance(model, str):
        arguments = {"num_classes": 0, **arguments}
        if model.split(".")[0] in PRESETS:
            try:
                return timm.create_model(model, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **arguments).eval()
            except ValueError as error:
                raise ValueError(f"{path}: {error}{_fitting(model, path, arguments)}") from error
        model = timm.create_model(model, pretrained=False, **arguments)
    elif arguments:
        raise TypeError(f"arguments {', '.join(arguments)} belong to the name of a model, but a {type(model).__name__} was given.")
    if isinstance(model, BiGRBackbone):
        parts = read_parts({"file": str(path)}, model.generator.config)
        assert parts is not None, "a file was named"
        model.load_state_dict(checkpoint_filter_fn(parts.state, model))
        return model.eval()
    if path.is_dir() and checkpoints.load_parts(path) is not None:
        raise ValueError(f"{path} holds a BiGR model, not weights of {type(model).__name__}; name a bigr model, such as bigr_nano.")
    checkpoints.load_weights(model, checkpoints.file_of(path))
    return model.eval()


def _fitting(model: str, path: Path, arguments: dict) -> str:
    """The arguments with which a model of this name would have the configuration that its weights were trained with, in words."""
    parts = checkpoints.load_parts(path) if path.is_dir() else None
    if parts is None:
        return ""
    changes = fitting_arguments(model.split(".")[0], parts[1].config, parts[0].config, **arguments)
    changes = {name: value for name, value in changes.items() if name not in (*_OF_TRAINING, "in_chans", "text")}
    if not changes:
        return ""
    listed = " ".join(f"{name}={value!r}".replace(" ", "") for name, value in changes.items())
    return f" The weights were trained with other settings: create {model} with them (--model-args {listed})."


def fitting_arguments(arch: str, tokenizer, generator, **arguments) -> dict:
    """The arguments of timm.create_model with which a named size has these configurations, besides those given."""
    built = preset_configs(arch, **{name: value for name, value in arguments.items() if is_preset_field(name)})
    changes: dict[str, object] = {}
    for trained, own in zip((tokenizer, generator), built, strict=True):
        found, wanted = asdict(trained), asdict(own)
        changes |= {name: found[name] for name in wanted if name in found and found[name] != wanted[name]}
    if generator.text is not None:
        changes.pop("num_classes", None)  # there are none
    if "num_classes" in changes:
        changes["generator_num_classes"] = changes.pop("num_classes")
    if "image_size" in changes:
        changes["img_size"] = changes.pop("image_size")
    changes.pop("grid_size", None)  # it follows from the tokenizer
    return changes
