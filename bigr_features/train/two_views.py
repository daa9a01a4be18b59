"""A second training term, off by default: two views of an image have like features, after VICReg (arXiv:2105.04906).

The generator's own loss stays what it is. The views are different crops or mirror images whose codes lie in the cache, each with its own
mask, so that the term costs a small head and no further pass through the trunk.
B sequences, of which 2 i and 2 i + 1 are views of one image; D width
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .optimizer import build_optimizer
from .schedule import set_learning_rate
from .settings import TrainConfig

VARIANCE_WEIGHT = 1.0  # to that of the invariance, as in the paper (25 to 25)
COVARIANCE_WEIGHT = 0.04  # 1 to 25
EXPANSION = 4  # width of the head to that of the features


def vicreg(first: Tensor, second: Tensor, epsilon: float = 1e-4) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of VICReg (Equations 1 to 5 of arXiv:2105.04906) of embeddings of two views, each (n, d), n > 1.

    Returns
    -------
    invariance : mean squared distance of the views.
    variance : mean hinge that pulls each dimension's standard deviation over the batch up to 1, mean of both views.
    covariance : squared off-diagonal entries of the covariance matrix over d, sum of both views.

    Raises
    ------
    ValueError
        For shapes that differ, or fewer than two images.
    """
    if first.shape != second.shape or first.dim() != 2 or len(first) < 2:
        raise ValueError(f"embeddings of shapes {tuple(first.shape)} and {tuple(second.shape)}; expected twice (n, d), n of 2 or more.")
    invariance = F.mse_loss(first, second)
    variance, covariance = first.new_zeros(()), first.new_zeros(())
    for view in (first, second):
        variance = variance + F.relu(1 - (view.var(0) + epsilon).sqrt()).mean() / 2
        centred = view - view.mean(0)
        matrix = centred.T @ centred / (len(view) - 1)
        covariance = covariance + (matrix.square().sum() - matrix.diagonal().square().sum()) / view.shape[1]
    return invariance, variance, covariance


class ViewHead(nn.Module):
    """Two layers that the term sees features through, and that nobody needs afterwards."""

    def __init__(self, width: int):
        super().__init__()
        hidden = EXPANSION * width
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Linear(hidden, hidden))

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings (B, EXPANSION D) of pooled features (B, D)."""
        return self.layers(features)


def view_layer(config: TrainConfig) -> int:
    """Block whose features are made alike: the middle one, where features are taken from, unless one is named."""
    return config.model.middle_layer if config.two_view_layer is None else config.two_view_layer


def check_views(config: TrainConfig, num_views: int, num_processes: int) -> None:
    """Refuse settings that the term cannot work with.

    Raises
    ------
    ValueError
        For a negative weight, data with one view, batches that hold no pairs, a block that the model lacks, and sharded parameters.
    """
    weight, parts = config.two_view_weight, config.micro_batches * num_processes
    if weight < 0:
        raise ValueError(f"two_view_weight={weight}; expected 0 or more.")
    if weight == 0:
        return
    if num_views < 2:
        raise ValueError(
            f"two_view_weight={weight} needs two views of an image, but these have one; encode them with --views flip, "
            "ten_crop or augmented."
        )
    if config.fsdp:
        raise ValueError("two_view_weight does not work with fsdp yet; leave one of them out.")
    if config.batch_size % (2 * parts) or config.batch_size < 4 * parts:
        raise ValueError(
            f"batch_size={config.batch_size} in {parts} parts (processes times micro-batches) does not hold pairs of views; each part "
            f"needs an even number, 4 or more: give a multiple of {2 * parts}, at least {4 * parts}."
        )
    if not 0 <= view_layer(config) < config.model.depth:
        raise ValueError(f"two_view_layer={config.two_view_layer}; the model has blocks 0..{config.model.depth - 1}.")


class TwoViews:
    """The term, its head and the head's optimiser; one process's or micro-batch's images are compared with each other only.

    Parameters
    ----------
    config : TrainConfig
        Of which `two_view_weight`, the model's width, rate and decay count.
    accelerator : accelerate.Accelerator
    """

    def __init__(self, config: TrainConfig, accelerator):
        self.weight = config.two_view_weight
        self.head = ViewHead(config.model.width).to(accelerator.device)
        self.module = accelerator.prepare(self.head)
        self.optimizer = build_optimizer(self.head, config.learning_rate, config.weight_decay, config.betas)

    def terms(self, pooled: Tensor) -> dict[str, Tensor]:
        """The weighted term, and its parts for the log, of pooled features (B, D), views of an image side by side."""
        embeddings = self.module(pooled.float())
        invariance, variance, covariance = vicreg(embeddings[0::2], embeddings[1::2])
        term = self.weight * (invariance + VARIANCE_WEIGHT * variance + COVARIANCE_WEIGHT * covariance)
        return {"two_view": term, "view_invariance": invariance, "view_variance": variance, "view_covariance": covariance}

    def step(self, factor: float, max_norm: float) -> None:
        """One step of the head, at the rate of the generator's schedule."""
        set_learning_rate(self.optimizer, factor)
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), max_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict:
        return {"model": self.head.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, values: dict) -> None:
        self.head.load_state_dict(values["model"])
        self.optimizer.load_state_dict(values["optimizer"])
