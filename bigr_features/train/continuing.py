"""Weights that a training starts from: those of the same generator, or a trunk of classes that goes on with captions."""

from __future__ import annotations

import logging

import torch

from .. import checkpoints
from ..models.generator import BiGR

log = logging.getLogger(__name__)


@torch.no_grad()
def start_from(start: BiGR, model: BiGR, source: str) -> None:
    """Fill a new model with the weights of an earlier one.

    A model of captions takes everything from a model of classes but the classes; its null caption begins as the null class.

    Raises
    ------
    ValueError
        If they do not fit; what differs is named.
    """
    if not isinstance(start, BiGR):
        raise ValueError(f"{source} holds a {type(start).__name__}, but a generator is trained; give the folder of one.")
    state = start.state_dict()
    if model.config.text is not None and start.config.text is None:
        state["class_embedding.weight"] = state["class_embedding.weight"][start.null_class :]
        state |= {key: value for key, value in model.state_dict().items() if key.startswith("text.")}
        log.info("the trunk of %s was trained on %d classes and goes on with captions", source, start.config.num_classes)
    elif model.config.text is None and start.config.text is not None:
        raise ValueError(f"{source} was trained on captions; train with --text, or start from a model of classes.")
    checkpoints.check_state(state, model.state_dict(), source)
    model.load_state_dict(state)
