"""The timm model that a command names."""

from __future__ import annotations

import ast
import logging
import os
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """Weights, arguments and device of a model.

    Parameters
    ----------
    random : bool
        Random weights, seeded, instead of the pretrained ones.
    checkpoint : str
        File of weights to load instead of the pretrained ones.
    model_args : tuple of str
        Arguments of timm.create_model, such as img_size=32 patch_size=4.
    device : str
        auto (an accelerator if there is one) or a torch device such as cpu.
    threads : int
        CPU threads; 0 for torch's default.
    """

    random: bool = False
    checkpoint: str = ""
    model_args: tuple[str, ...] = ()
    device: str = "auto"
    threads: int = 0

    @property
    def weights(self) -> str:
        """ "random", "pretrained", or the file of weights."""
        return "random" if self.random else self.checkpoint or "pretrained"


def build(config: WeightsOptions):
    """The timm model that `config` names, in eval mode.

    Parameters
    ----------
    config : WeightsOptions
        With `model`, a timm name, and `seed`, of random weights.

    Raises
    ------
    ValueError
        For a model that timm does not know, or one without pretrained weights.
    """
    import timm
    import torch

    arguments = parse_arguments(config.model_args)
    name = config.model.split(".")[0]
    if ":" not in config.model and not timm.is_model(name):
        near = timm.list_models(f"*{name[:6]}*")[:5]
        raise ValueError(f"there is no timm model {config.model!r}; {'similar: ' + ', '.join(near) if near else 'see timm.list_models()'}.")
    if config.random and config.checkpoint:
        raise ValueError("--random and --checkpoint were both given; give one of them.")
    pretrained = not config.random and not config.checkpoint
    if pretrained and ":" not in config.model and not timm.is_model_pretrained(config.model):
        raise ValueError(f"{config.model} has no pretrained weights; name a model that has, or give --checkpoint FILE or --random.")
    if config.random:
        log.warning("RANDOM weights: the features of %s say nothing about a trained model", config.model)
        torch.manual_seed(config.seed)
    arguments = {"num_classes": 0, **arguments}
    if not config.checkpoint:
        return timm.create_model(config.model, pretrained=pretrained, **arguments).eval()
    if name in timm.list_models(module="bigr"):  # these also read the official files, and folders of `bigr train`
        return timm.create_model(config.model, pretrained=True, pretrained_cfg_overlay={"file": config.checkpoint}, **arguments).eval()
    from ..checkpoints import load_weights

    model = timm.create_model(config.model, pretrained=False, **arguments)
    load_weights(model, config.checkpoint)
    return model.eval()


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


def device_of(name: str):
    """The torch device; of several accelerators, the one of LOCAL_RANK."""
    import torch

    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
