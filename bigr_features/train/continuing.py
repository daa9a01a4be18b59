"""Weights that a training starts from: those of the same generator, or a trunk of classes that goes on with captions.

B captions, T tokens, D width
"""

from __future__ import annotations

import logging

import numpy as np
import torch

from .. import checkpoints
from ..models.generator import BiGR
from .captions import TrainingCaptions
from .sampler import SampledBatch

log = logging.getLogger(__name__)

LESSON_STEPS, LESSON_BATCH = 400, 128


@torch.no_grad()
def start_from(start: BiGR, model: BiGR, source: str) -> None:
    """Fill a new model with the weights of an earlier one.

    A model of captions takes everything from a model of classes but the classes; its null caption begins as the null class.

    Raises
    ------
    ValueError
        If they do not fit; what differs is named.
    """
    state = start.state_dict()
    if model.config.text is not None and start.config.text is None:
        state["class_embedding.weight"] = state["class_embedding.weight"][start.null_class :]
        state |= {key: value for key, value in model.state_dict().items() if key.startswith("text.")}
        log.info("the trunk of %s was trained on %d classes and goes on with captions", source, start.config.num_classes)
    elif model.config.text is None and start.config.text is not None:
        raise ValueError(f"{source} was trained on captions; train with --text, or start from a model of classes.")
    checkpoints.check_state(state, model.state_dict(), source)
    model.load_state_dict(state)


def teach_classes(start: BiGR, model: BiGR, captions: TrainingCaptions, labels: np.ndarray, items: np.ndarray, seed: int) -> float:
    """Before a trunk of classes goes on with captions: regress what captions give to it on the vectors of their images' classes.

    Only the text condition is trained, and the trunk is not run, so that this takes seconds; the model of captions then begins as good at
    classes as the captions are clear about them.

    Parameters
    ----------
    start, model : BiGR
        Of classes, and of captions.
    labels : int64 array (n,)
        Of the images of `captions`.
    items : int64 array
        Images to learn from.
    seed : int

    Returns
    -------
    float
        Share of the variance of class vectors that captions explain at the end, in (-inf, 1].
    """
    assert model.text is not None
    null = model.class_embedding.weight[model.null_class].detach()
    table = start.class_embedding.weight.detach().to(null.device)
    optimizer = torch.optim.AdamW(model.text.parameters(), lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=LESSON_STEPS)
    random = np.random.default_rng([seed, 6])
    explained = 0.0
    for step in range(LESSON_STEPS):
        chosen = items[random.integers(len(items), size=min(LESSON_BATCH, len(items)))]
        given = model.text(captions.batch(SampledBatch(step, chosen)).to(null.device), null)
        target = table[torch.from_numpy(labels[chosen]).to(null.device)][:, None]  # (B, 1, D)
        shown = given.visible[..., None].to(null.dtype)
        mean = (given.prefix * shown).sum(1, keepdim=True) / shown.sum(1, keepdim=True)
        error = ((given.vector - target) ** 2).mean() + ((mean - target) ** 2).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        explained = 1 - error.item() / 2 / max(target.var(0, unbiased=False).mean().item(), 1e-12)
    model.zero_grad()
    log.info("captions explain %.1f %% of what tells the classes of the first weights apart", 100 * explained)
    return explained
