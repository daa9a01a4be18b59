"""Training state on disk: every file whole, the last ones and the best kept, resumed exactly."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path

import numpy as np
import torch

from ..checkpoints import read_pickle
from ..storage.atomic import replacing
from ..storage.json_files import write_json

FORMAT = 1


def save(folder: Path, state: dict, *, keep_last: int = 2, keep_steps: tuple[int, ...] = ()) -> Path:
    """Write `state` as `step_<step>.pt`, then delete what need not stay.

    Parameters
    ----------
    folder : Path
    state : dict
        Has `step`, and `best`: None or a dictionary with the `step` of the best checkpoint, which always stays.
    keep_last : int
        Newest checkpoints that stay.
    keep_steps : tuple of int
        Steps whose checkpoints stay for good.

    Raises
    ------
    ValueError
        If keep_last is below 1.
    OSError
        If the file cannot be written (a full disk); earlier checkpoints are as they were, and the last of them is named.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last={keep_last}; at least the newest checkpoint stays, so give 1 or more.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{state['step']:08d}.pt"
    for leftover in folder.glob(".step_*"):  # of a process that was killed in the middle
        leftover.unlink(missing_ok=True)
    try:
        with replacing(path) as temporary:
            torch.save({"format": FORMAT, **state}, temporary)
    except (OSError, RuntimeError) as error:
        kept = steps_in(folder)
        last = f"the last good checkpoint is that of step {kept[-1]}" if kept else "there is no earlier checkpoint"
        raise OSError(
            f"the checkpoint of step {state['step']} cannot be written to {folder} ({error}); {last}. Free space and resume."
        ) from error
    best = state.get("best")
    if best is not None:
        write_json(folder / "best.json", best)
    stay = {*steps_in(folder)[-keep_last:], *keep_steps, *([best["step"]] if best is not None else [])}
    for step in steps_in(folder):
        if step not in stay:
            (folder / f"step_{step:08d}.pt").unlink(missing_ok=True)
    return path


def improves(best: dict | None, name: str, value: float, *, higher: bool = False) -> bool:
    """Whether `value` of a validation beats the best so far, by which `best` holds it under `name`; NaN beats nothing."""
    if math.isnan(value):
        return False
    return best is None or (value > best[name] if higher else value < best[name])


def due(config, step: int, improved: bool) -> bool:
    """Whether a checkpoint is written after this step: at its turn, where asked for, at the end, and after the best validation so far."""
    return improved or step % config.checkpoint_every == 0 or step in config.keep_steps or step == config.steps


def steps_in(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, ascending."""
    return sorted(int(match[1]) for path in Path(folder).glob("step_*.pt") if (match := re.fullmatch(r"step_(\d+)\.pt", path.name)))


def load(folder: Path, step: int | None = None) -> dict:
    """State of the newest checkpoint in `folder`, or of step `step`.

    Raises
    ------
    FileNotFoundError, ValueError
    """
    steps = steps_in(folder)
    if not steps or (step is not None and step not in steps):
        raise FileNotFoundError(f"{folder} has no checkpoint{'' if step is None else f' of step {step}'}; it has those of steps {steps}.")
    path = Path(folder) / f"step_{steps[-1] if step is None else step:08d}.pt"
    state = read_pickle(path)
    if state.get("format") != FORMAT:
        raise ValueError(f"{path} is no training checkpoint of format {FORMAT}.")
    return state


def seed(number: int) -> None:
    """Seed every global source of randomness."""
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 (the global state is what libraries use)
    torch.manual_seed(number)


def random_state(generator: torch.Generator) -> dict:
    """State of every source of randomness, as plain containers and tensors."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002
    words, gauss = numpy["state"], [int(numpy["has_gauss"]), float(numpy["gauss"])]
    state = {
        "python": random.getstate(),
        "numpy": [numpy["bit_generator"], torch.from_numpy(words["key"].astype(np.int64)), int(words["pos"]), *gauss],
        "torch": torch.get_rng_state(),
        "generator": generator.get_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict, generator: torch.Generator) -> None:
    """Inverse of `random_state`."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    generator.set_state(state["generator"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
