"""Learning rate as a function of the step."""

from __future__ import annotations

import math

import torch

SCHEDULES = ("constant", "cosine")


def learning_rate_factor(step: int, *, warmup_steps: int, total_steps: int, schedule: str = "constant", final: float = 0.0) -> float:
    """What the base learning rate is multiplied by in step `step`, 1-based.

    It rises linearly to 1 over `warmup_steps`. Then it stays ("constant"), or falls along half a cosine to `final` at
    `total_steps` ("cosine").
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"learning-rate schedule {schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}.")
    if step < warmup_steps:
        return step / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every parameter group its `base_lr` times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
