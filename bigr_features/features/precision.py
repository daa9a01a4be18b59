"""The precision of an extraction: the faster one that gives the same features, chosen once for a store and kept when it is continued."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..functional.precision import Precision, choose_precision
from ..storage.manifests import MANIFEST
from .store import STORE

log = logging.getLogger(__name__)

CHECKED = 16  # images on which the two precisions are compared
LEAST_COSINE = 0.999

Features = dict[str, np.ndarray]


def recorded_precision(folder: str | Path) -> dict | None:
    """The precision that a store was begun in, as its manifest says it; None without a store."""
    if not (Path(folder) / MANIFEST).is_file():
        return None
    manifest = STORE.manifest(Path(folder))
    return manifest.get("precision") or {"precision": manifest.get("dtype", "fp32")}


def precision_for(
    asked: str, device: torch.device, model: nn.Module, features: Callable[[str], Features], *, exact: str | None, recorded: dict | None
) -> dict:
    """What a manifest says of the precision, the chosen one under "precision".

    Parameters
    ----------
    asked : "auto", "fp32" or "bf16"
        auto takes what a store was begun in; of a new one the faster, but fp32 where features have to be exact, and where those in bf16
        differ: a cosine below 0.999.
    features : callable
        From a precision to features (n, D) of the first images, by name.
    exact : str, optional
        Why features have to be exact, if they have to.
    recorded : dict, optional
        What the manifest of a store that is continued says.
    """
    if recorded is not None and asked in ("auto", recorded["precision"]):
        _warn_if_slow(recorded["precision"], device, model)
        return recorded
    if asked == "auto" and exact:
        return {**Precision("fp32", asked, None).as_dict(), "why": exact}
    chosen = choose_precision(asked, device, model)
    if chosen.name == "fp32":
        return chosen.as_dict()
    cosine = smallest_cosine(features("fp32"), features("bf16"))
    facts = {**chosen.as_dict(), "cosine_to_fp32": None if cosine is None else round(cosine, 6)}
    if cosine is not None and cosine < LEAST_COSINE:
        log.warning("features in bf16 have a cosine of %.4f to those in fp32%s", cosine, "; taking fp32" if asked == "auto" else "")
        if asked == "auto":
            facts["precision"] = "fp32"
    if asked == "auto":
        log.info(
            "precision %s: bf16 takes %.2f of the time of fp32 here, cosine %s", facts["precision"], chosen.ratio, facts["cosine_to_fp32"]
        )
    return facts


def smallest_cosine(ours: Features, theirs: Features) -> float | None:
    """The least cosine between two sets of features, over rows and names; None of no rows."""
    found = []
    for name, rows in ours.items():
        a, b = (np.asarray(x, dtype=np.float64).reshape(len(rows), -1) for x in (rows, theirs[name]))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found += list(np.where(lengths > 0, (a * b).sum(1) / np.maximum(lengths, 1e-300), np.all(a == b, axis=1)))
    return float(min(found)) if found else None


def _warn_if_slow(name: str, device: torch.device, model: nn.Module) -> None:
    faster = choose_precision("auto", device, model)
    if name == "bf16" and faster.name != name:
        log.warning("the store was begun in bf16 and goes on so, though that takes %.1f times as long as fp32 here", faster.ratio)
