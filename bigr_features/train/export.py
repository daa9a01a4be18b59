"""From a training run to weights that `timm.create_model(..., pretrained=True)` loads."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch

from .. import checkpoints
from ..models.config import GeneratorConfig
from ..models.generator import BiGR
from . import checkpoint
from .settings import ExportConfig

log = logging.getLogger(__name__)
DTYPES = {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}


def export(config: ExportConfig) -> Path:
    """Write what `config` names; returns the generator's folder.

    Raises
    ------
    FileNotFoundError, ValueError
        For a folder that is no run of `bigr train`, a step without checkpoint, or an unknown dtype.
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
    checkpoints.save_model(generator, config.out / config.name, DTYPES[config.dtype], names)
    checkpoints.save_model(checkpoints.load_model(config.run / "tokenizer"), config.out / "tokenizer", DTYPES[config.dtype])
    log.info("wrote %s of %s to %s and %s", source, config.run, config.out / config.name, config.out / "tokenizer")
    return config.out / config.name
