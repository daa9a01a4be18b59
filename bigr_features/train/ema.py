"""Exponential moving average of a model's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Averaged copy of the trainable parameters, updated in place by one fused call.

    Parameters
    ----------
    model : nn.Module
        Its parameters now are the first average. Sharded parameters are averaged shard by shard.
    decay : float
        Share of the average that stays at each update.
    warmup : bool
        Use min(decay, (1 + step) / (10 + step)), so that the first steps are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, warmup: bool = False):
        if not 0 <= decay < 1:
            raise ValueError(f"ema decay {decay} lies outside [0, 1).")
        self.decay, self.warmup = decay, warmup
        self._model = model
        self.average = [local(parameter).detach().clone() for parameter in model.parameters()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the parameters after optimiser step `step`, 1-based."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        torch._foreach_lerp_(self.average, [local(parameter).detach() for parameter in self._model.parameters()], 1 - decay)

    @torch.no_grad()
    def reset(self) -> None:
        """Take the model's parameters of now as the average."""
        torch._foreach_copy_(self.average, [local(parameter) for parameter in self._model.parameters()])

    @torch.no_grad()
    def set_rows(self, parameter: Tensor, rows: Tensor) -> None:
        """Take these rows of one of the model's parameters as their average."""
        for average, mine in zip(self.average, self._model.parameters(), strict=True):
            if mine is parameter:
                average[rows] = mine[rows]
                return
        raise ValueError("the parameter is none of the model's.")

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model holds the averaged parameters inside the `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        current = [local(parameter) for parameter in self._model.parameters()]
        held = [tensor.clone() for tensor in current]
        torch._foreach_copy_(current, self.average)
        torch._foreach_copy_(self.average, held)


def local(parameter: Tensor) -> Tensor:
    """The part of a parameter that lives in this process."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter
