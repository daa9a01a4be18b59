"""Settings that every training command has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a training runs, whatever it trains.

    Parameters
    ----------
    micro_batches : int
        Parts in which each process runs its share of a batch (gradient accumulation).
    max_grad_norm : float
        Gradients are clipped to this norm.
    ema_warmup : bool
        Average over few steps at first.
    validation : int
        Images of the training split held out for validation.
    log_every : int
        Steps between lines of the log.
    keep_last : int
        Newest checkpoints that stay, besides the best.
    keep_steps : tuple of int
        Steps whose checkpoints stay for good.
    precision : str
        fp32 or bf16 (autocast; weights stay float32).
    compile : bool
        Use torch.compile.
    trackers : tuple of str
        Where metrics go besides log.jsonl: names that accelerate knows (tensorboard, wandb, ...).
    device : str
        auto (an accelerator if there is one) or cpu.
    threads : int
        CPU threads of a process, 0 for the default.
    num_workers : int
        Processes that decode images, for sets too large for memory.
    seed : int
        Of weights, data order and draws.
    resume : bool
        Continue the run in `out`, if there is one.
    config : Path, optional
        Settings to start from: a run folder or its config.json.
    """

    micro_batches: int = 1
    max_grad_norm: float = 1.0
    ema_warmup: bool = True
    validation: int = 2_000
    log_every: int = 50
    keep_last: int = 2
    keep_steps: tuple[int, ...] = ()
    precision: str = "fp32"
    compile: bool = False
    trackers: tuple[str, ...] = ("tensorboard",)
    device: str = "auto"
    threads: int = 0
    num_workers: int = 0
    seed: int = 0
    resume: bool = False
    config: Path | None = None


FREE = (
    "config", "resume", "validate_every", "log_every", "checkpoint_every", "keep_last", "keep_steps", "trackers", "device", "threads",
    "num_workers",
)  # fmt: skip
