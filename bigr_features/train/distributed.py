"""What one and several processes share: start-up, the share of a batch, whole state dicts."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


def start(config):
    """Accelerator of this process, after checking that the batch can be shared out.

    Parameters
    ----------
    config : dataclass
        With out, batch_size (global), micro_batches (parts in which each process runs its share), device ("auto" or "cpu"),
        precision ("auto", "fp32", or "bf16": autocast, the weights stay float32), tf32, threads (0: PyTorch's own choice), trackers.

    Raises
    ------
    ValueError
        If processes times micro-batches does not divide the batch, or a setting has no such value.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import ProjectConfiguration
    except ImportError as error:
        raise ImportError("training needs `accelerate`: pip install bigr-features[train]") from error

    for name, allowed in (("device", ("auto", "cpu")), ("precision", ("auto", "fp32", "bf16"))):
        if getattr(config, name) not in allowed:
            raise ValueError(f"{name}={getattr(config, name)!r} is unknown; choose one of {', '.join(allowed)}.")
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="no",  # autocast is entered where the loss is computed
        log_with=list(config.trackers) or None,
        project_config=ProjectConfiguration(project_dir=str(config.out), logging_dir=str(Path(config.out) / "tensorboard")),
    )
    if config.tf32 and accelerator.device.type != "cuda":
        raise ValueError(f"tf32=True, but TensorFloat-32 is of CUDA and this run is on {accelerator.device.type}; leave it out.")
    if accelerator.device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = config.tf32
    parts = accelerator.num_processes * config.micro_batches
    if config.batch_size < 1 or config.batch_size % parts:
        raise ValueError(
            f"batch_size={config.batch_size} cannot be shared by {accelerator.num_processes} processes in {config.micro_batches} "
            f"micro-batches each; give a multiple of {parts}."
        )
    return accelerator


def share(accelerator, count: int) -> slice:
    """Which of `count` items of a global batch are this process's."""
    size = count // accelerator.num_processes
    return slice(accelerator.process_index * size, (accelerator.process_index + 1) * size)


def mean_over_processes(accelerator, values: Tensor) -> Tensor:
    """Mean of a tensor over all processes."""
    return accelerator.reduce(values, reduction="mean") if accelerator.num_processes > 1 else values


def of_main(accelerator, value):
    """What the main process says, so that all do the same where rounding could part them."""
    if accelerator.num_processes == 1:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def shard(module: nn.Module, blocks) -> nn.Module:
    """Shard parameters over all processes (FSDP), gathered block by block in a pass. For optimisers that are built afterwards.

    PyTorch's own `fully_shard`, since accelerate's wrapper of it refuses processes on CPUs.
    """
    from torch.distributed.fsdp import fully_shard

    if not torch.distributed.is_initialized():
        raise ValueError("--fsdp shards over several processes, but there is one; start them with torchrun or accelerate launch.")
    for block in blocks:
        fully_shard(block)
    fully_shard(module, reshard_after_forward=True)  # also the root, since averages are swapped in after validation passes
    return module


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scale gradients down to a joint norm of at most `max_norm`; returns the norm before."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Whole state dict on the CPU, also of a sharded model. A copy: training on does not change it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {key: value.clone() for key, value in state.items()}


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
    """Whole optimiser state by parameter name, also of a sharded model."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    return get_optimizer_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def load_states(model: nn.Module, optimizer: torch.optim.Optimizer, weights: dict, optimizer_values: dict) -> None:
    """Inverse of `model_state` and `optimizer_state`, whatever the number of processes was."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict, set_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, weights, options=options)
    set_optimizer_state_dict(model, optimizer, optimizer_values, options=options)


def parts(count: int, pieces: int) -> list[tuple[bool, slice]]:
    """`pieces` equal slices of a batch of `count`, each with whether it is the last."""
    size = count // pieces
    return [(i + 1 == pieces, slice(i * size, (i + 1) * size)) for i in range(pieces)]
