"""Running means of training metrics that make the device wait only when they are read."""

from __future__ import annotations

import time
from collections import Counter

import torch
from torch import Tensor

from .distributed import mean_over_processes
from .run import Run


class NonFiniteLoss(RuntimeError):
    """Training met a loss or gradient that is not a number."""


class Monitor:
    """Means since the last reading, and the first step at which loss or gradient norm was not finite."""

    def __init__(self, accelerator):
        self.accelerator = accelerator
        self.first_bad = torch.zeros((), dtype=torch.int64, device=accelerator.device)
        self._clear()

    def _clear(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.counts: Counter[str] = Counter()
        self.since = time.perf_counter()

    def add(self, step: int, metrics: dict[str, Tensor], gradient_norm: Tensor) -> None:
        """Count one step. The metrics have a `loss`; others may come later."""
        for name, value in {**metrics, "gradient_norm": gradient_norm}.items():
            self.totals[name] = self.totals.get(name, 0) + value.detach().float()
            self.counts[name] += 1
        bad = ~torch.isfinite(metrics["loss"].detach().float() + gradient_norm.detach())
        self.first_bad = torch.where(bad & (self.first_bad == 0), step, self.first_bad)

    def check(self, last_good: int | None) -> None:
        """Raise NonFiniteLoss, naming the step, if a loss or gradient was not finite."""
        first_bad = self.first_bad
        if self.accelerator.num_processes > 1:
            first_bad = self.accelerator.gather(first_bad[None])
            first_bad = first_bad[first_bad > 0].min() if (first_bad > 0).any() else first_bad[0]
        step = int(first_bad)
        if step:
            kept = f"the last good checkpoint is that of step {last_good}" if last_good else "no checkpoint had been written before"
            raise NonFiniteLoss(
                f"loss or gradient norm was not finite at step {step}; training stopped, and {kept}. "
                "Lower the learning rate, lengthen the warm-up or use --precision fp32."
            )

    def report(
        self,
        run: Run,
        step: int,
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        last_good: int | None,
        more: dict[str, float] | None = None,
    ) -> dict[str, float]:
        """Log what `read` gives, with the learning rate, images per second, and `more`, after `check`."""
        self.check(last_good)
        values = self.read() | {"learning_rate": optimizer.param_groups[0]["lr"], **(more or {})}
        values["images_per_second"] = values["steps_per_second"] * batch_size
        run.log(self.accelerator, step, "train", values)
        return values

    def read(self) -> dict[str, float]:
        """Means since the last reading, and steps per second."""
        means = mean_over_processes(self.accelerator, torch.stack([self.totals[name] / self.counts[name] for name in self.totals]))
        result = dict(zip(self.totals, means.tolist(), strict=True))
        result["steps_per_second"] = self.counts["loss"] / (time.perf_counter() - self.since)
        self._clear()
        return result
