"""AdamW and its parameter groups."""

from __future__ import annotations

import torch
from torch import nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups, as the public training code makes them: without and with weight decay.

    No decay for one-dimensional parameters, biases, and everything in the denoiser of a generator. Everything else decays: also the
    class, mask and position embeddings and the offsets of adaLN, which have more dimensions.
    """
    decayed, kept = list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = parameter.ndim <= 1 or name.endswith(".bias") or "denoiser." in name
        (kept if exempt else decayed).append(parameter)
    return [{"params": kept, "weight_decay": 0.0}, {"params": decayed, "weight_decay": weight_decay}]


def build_optimizer(
    model: nn.Module, learning_rate: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95)
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; each group remembers its `base_lr` for the schedule."""
    groups = [group for group in parameter_groups(model, weight_decay) if group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    for group in optimizer.param_groups:
        group["base_lr"] = learning_rate
    return optimizer
