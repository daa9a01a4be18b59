"""The whole state of a training, to and from one checkpoint."""

from __future__ import annotations

import logging

import torch
from torch import nn

from . import checkpoint, distributed
from .ema import EMA
from .run import Run

log = logging.getLogger(__name__)


def save(
    run: Run,
    step: int,
    best: dict | None,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: EMA,
    generator: torch.Generator,
    accelerator,
    more: dict | None = None,
) -> None:
    """Write the checkpoint of step `step`: weights, averaged weights, optimiser, randomness of every process, and the settings.

    The position in the data is the step. Every process calls this; the main one writes.
    """
    from accelerate.utils import gather_object

    randomness = gather_object([checkpoint.random_state(generator)])
    content = {
        "step": step,
        "best": best,
        "settings": run.settings,
        "random": randomness,
        "model": distributed.model_state(model),
        "optimizer": distributed.optimizer_state(model, optimizer),
        **(more or {}),
    }
    with ema.swapped():
        content["ema"] = distributed.model_state(model)
    if run.main:
        checkpoint.save(run.checkpoints, content, keep_last=run.config.keep_last, keep_steps=run.config.keep_steps)
    accelerator.wait_for_everyone()


def restore(content: dict, model: nn.Module, optimizer, ema: EMA, generator: torch.Generator, accelerator) -> tuple[int, dict | None]:
    """Put a checkpoint's content into everything; returns its step and the best so far."""
    distributed.load_states(model, optimizer, content["ema"], content["optimizer"])
    ema.reset()
    distributed.load_states(model, optimizer, content["model"], content["optimizer"])
    processes = len(content["random"])
    if processes == accelerator.num_processes:
        checkpoint.restore_random_state(content["random"][accelerator.process_index], generator)
    else:
        generator.set_state(content["random"][0]["generator"])
        log.warning("the run had %d processes and now has %d; dropout will draw other numbers", processes, accelerator.num_processes)
    return content["step"], content["best"]
