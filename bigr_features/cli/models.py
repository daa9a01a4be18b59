"""The timm model that a command names."""

from __future__ import annotations

import ast
import logging
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """Weights, arguments and device of a model.

    Parameters
    ----------
    random : bool
        Random weights, seeded, instead of the pretrained ones.
    weights : str
        Weights to load instead of the pretrained ones: a file (.safetensors, .pt, .pth, .th, .bin) or the folder of a training or export.
    model_args : tuple of str
        Arguments of timm.create_model, such as img_size=32 patch_size=4.
    device : str
        auto (an accelerator if there is one) or a torch device such as cpu.
    threads : int
        CPU threads; 0 for torch's default.
    """

    random: bool = False
    weights: str = ""
    model_args: tuple[str, ...] = ()
    device: str = "auto"
    threads: int = 0

    @property
    def origin(self) -> str:
        """ "random", "pretrained", or the absolute path of the weights, which is found from any working directory."""
        return "random" if self.random else str(Path(self.weights).expanduser().resolve()) if self.weights else "pretrained"


def build(config: WeightsOptions, model: str, seed: int = 0):
    """A timm model with the weights that `config` names, in eval mode.

    Parameters
    ----------
    config : WeightsOptions
    model : str
        Its name in timm.
    seed : int
        Seed of random weights.

    Raises
    ------
    ValueError
        For a model that timm does not know, or one without pretrained weights.
    """
    import timm
    import torch

    from ..backbones.baselines import BASELINES
    from .help import near

    arguments = parse_arguments(config.model_args)
    name = model.split(".")[0]
    if ":" not in model and not timm.is_model(name):
        alike = near(name, timm.list_models())
        raise ValueError(f"there is no timm model {model!r}; {'similar: ' + ', '.join(alike) if alike else 'see timm.list_models()'}.")
    if config.random and config.weights:
        raise ValueError("--random and --weights were both given; give one of them.")
    pretrained = not config.random and not config.weights
    if pretrained and model not in BASELINES and ":" not in model and not timm.is_model_pretrained(model):
        raise ValueError(f"{model} has no pretrained weights; {weights_there(model)}, or give --weights PATH or --random.")
    if config.random:
        log.warning("RANDOM weights: the features of %s say nothing about a trained model", model)
        torch.manual_seed(seed)
    arguments = {"num_classes": 0, **arguments}
    if not config.weights:
        return timm.create_model(model, pretrained=pretrained, **arguments).eval()
    from ..backbones.weights import load_weights

    return load_weights(model, config.weights, **arguments)


def weights_there(model: str) -> str:
    """What to name in place of weights that are not there: those of the same architecture, the likeliest ones of many."""
    import timm

    from .help import near

    name, _, tag = model.partition(".")
    known = timm.list_pretrained(f"{name}.*")
    found = near(model, known) or known[:3] if tag else known[:3]
    return f"there {'is' if len(found) == 1 else 'are'} {', '.join(found)}" if found else "name a model that has"


def parse_arguments(pairs: tuple[str, ...]) -> dict:
    """Keyword arguments of "name=value" texts; values are Python literals, or text."""
    arguments = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"model argument {pair!r} is not of the form name=value.")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments
