"""The precision of a run: chosen once, kept when the run is resumed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import torch

from ..functional.precision import choose_precision
from .distributed import of_main

log = logging.getLogger(__name__)


def settled(config, device: torch.device | str, shape: tuple[int, int], *, goes_on: bool):
    """Settings with "fp32" or "bf16" in place of "auto", and why.

    A run that goes on keeps the precision it was begun with: another one would not give the same weights. Where that is the slow one on
    this machine, it is said.

    Parameters
    ----------
    config : dataclass
        With `precision` and `out`.
    shape : (int, int)
        Inputs and outputs of the product that is timed.
    goes_on : bool
        Whether `out` may hold a run that is continued.

    Returns
    -------
    config, Precision
    """
    recorded = _recorded(Path(config.out)) if goes_on and config.precision == "auto" else None
    chosen = choose_precision(config.precision if recorded is None else recorded, device, shape=shape)
    if recorded is not None:
        faster = choose_precision("auto", device, shape=shape)
        if faster.name != recorded:
            log.warning(
                "%s was begun in %s and goes on so, though %s is faster here (bf16 takes %.2f of the time of fp32)",
                config.out, recorded, faster.name, faster.ratio,
            )  # fmt: skip
    if config.precision == "auto" and recorded is None:
        log.info("precision %s: bf16 takes %.2f of the time of fp32 here", chosen.name, chosen.ratio)
    return replace(config, precision=chosen.name), chosen


def settled_for_all(accelerator, config, shape: tuple[int, int]):
    """The same of a training: every process does what the main one chose."""
    chosen, why = settled(config, accelerator.device, shape, goes_on=config.resume)
    return replace(config, precision=of_main(accelerator, chosen.precision)), why


def _recorded(out: Path) -> str | None:
    """What the manifest.json of a cache or the config.json of a run says, if there is one that can be read."""
    for name, keys in (("manifest.json", ("precision",)), ("config.json", ("settings", "precision"))):
        try:
            found = json.loads((out / name).read_text())
            for key in keys:
                found = found[key]
            return found
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None
