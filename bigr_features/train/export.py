"""From a training run to weights that `timm.create_model(..., pretrained=True)` loads."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import timm
import torch

from .. import checkpoints
from ..backbones.hub import save_hub_folder
from ..backbones.weights import fitting_arguments
from ..models.config import GeneratorConfig
from ..models.generator import BiGR
from . import checkpoint
from .settings import ExportConfig

log = logging.getLogger(__name__)
FACTS = ("steps", "batch_size", "learning_rate", "weight_decay", "schedule", "ema_decay", "precision", "seed")
DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def export(config: ExportConfig) -> Path:
    """Write what `config` names; returns the generator's folder, or that for the Hub.

    Raises
    ------
    FileNotFoundError, ValueError
        For a folder that is no run of `bigr train`, a step without checkpoint, or an unknown dtype; for the Hub, if there is a model.
    """
    if config.dtype not in DTYPES:
        raise ValueError(f"dtype={config.dtype!r}; choose one of {', '.join(DTYPES)}.")
    if not (config.run / "config.json").is_file() or not (config.run / "tokenizer").is_dir():
        raise FileNotFoundError(f"{config.run} is no run folder of `bigr train`; it has no config.json and tokenizer.")
    if config.step is None and (config.run / "model" / "config.json").is_file():
        generator, source = checkpoints.load_model(config.run / "model"), "the finished model"
    else:
        content = checkpoint.load(config.run / "checkpoints", config.step)
        settings = json.loads((config.run / "config.json").read_text())["settings"]
        generator = BiGR(GeneratorConfig.from_dict(settings["model"]))
        generator.load_state_dict(content["ema"])
        source = f"step {content['step']}"
    names = checkpoints.class_names_of(config.run)
    if config.hub:
        log.info("wrote %s of %s to %s, ready for huggingface_hub.upload_folder", source, config.run, config.out)
        return _for_hub(config, generator, source, names)
    checkpoints.save_model(generator, config.out / config.name, DTYPES[config.dtype], names, config.feature_layer)
    checkpoints.save_model(checkpoints.load_model(config.run / "tokenizer"), config.out / "tokenizer", DTYPES[config.dtype])
    log.info("wrote %s of %s to %s and %s", source, config.run, config.out / config.name, config.out / "tokenizer")
    return config.out / config.name


def _for_hub(config: ExportConfig, generator: BiGR, source: str, class_names: list[str] | None) -> Path:
    """One folder of timm's files and a model card."""
    content = json.loads((config.run / "config.json").read_text())
    settings, tokenizer = content["settings"], checkpoints.load_model(config.run / "tokenizer")
    arguments = fitting_arguments(settings["preset"], tokenizer.config, generator.config)
    if config.feature_layer is not None:
        arguments["feature_layer"] = config.feature_layer
    model = timm.create_model(settings["preset"], num_classes=0, **arguments)
    model.generator.load_state_dict(generator.state_dict())
    model.tokenizer.load_state_dict(tokenizer.state_dict())
    facts = {
        "data": settings["source"] or f"{content['identity']['fingerprint of the data']} (fingerprint of a cache of codes)",
        "weights": f"averaged, of {source}",
        **{name: settings[name] for name in FACTS},
        **_last_validation(config.run),
    }
    dtype = DTYPES[config.dtype]
    return save_hub_folder(model if dtype is None else model.to(dtype), config.out, facts, class_names)


def _last_validation(run: Path) -> dict:
    """The newest line of the log about held-out images."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] if (run / "log.jsonl").is_file() else []
    found = [line for line in lines if line["split"] == "validation"]
    if not found:
        return {}
    values = ", ".join(f"{name} {value:.4g}" for name, value in found[-1].items() if isinstance(value, float))
    return {"held-out images": f"step {found[-1]['step']:,}: {values}"}
