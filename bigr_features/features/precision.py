"""The precision of an extraction: the faster one that gives the same features, chosen once for a store and kept when it is continued."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..functional.pooling import HEAD
from ..functional.precision import Precision, choose_precision
from ..storage.manifests import MANIFEST
from .readout import Readout
from .store import STORE

log = logging.getLogger(__name__)

CHOICES = ("auto", "fp32", "bf16", "int8")
CHECKED = 16  # images on which bf16 is compared with fp32
CHECKED_INT8 = 64  # and int8, of which neighbours are compared too
NEIGHBOURS = 10
LEAST_COSINE = 0.999  # for auto to take bf16
LEAST_COSINE_INT8 = 0.99  # below, int8 is warned of

Features = dict[str, np.ndarray]


def recorded_precision(folder: str | Path) -> dict | None:
    """The precision that a store was begun in, as its manifest says it; None without a store."""
    if not (Path(folder) / MANIFEST).is_file():
        return None
    manifest = STORE.manifest(Path(folder))
    return manifest.get("precision") or {"precision": manifest.get("dtype", "fp32")}


def precision_for(
    asked: str,
    device: torch.device,
    model: nn.Module,
    features: Callable[[dict, int], Features],
    *,
    exact: str | None,
    recorded: dict | None,
) -> dict:
    """What a manifest says of the precision, the chosen one under "precision".

    Parameters
    ----------
    asked : "auto", "fp32", "bf16" or "int8"
        auto takes what a store was begun in; of a new one the faster of fp32 and bf16, but fp32 where features have to be exact, and where
        those in bf16 differ: a cosine below 0.999. int8 is taken only if it is asked for.
    features : callable
        From a precision, as this function gives it, and a number of images to features (n, D) of the first images, by name.
    exact : str, optional
        Why features have to be exact, if they have to.
    recorded : dict, optional
        What the manifest of a store that is continued says.
    """
    if recorded is not None and asked in ("auto", recorded["precision"]):
        warn_if_slow(recorded["precision"], device, model, "store")
        return recorded
    if asked == "auto" and exact:
        return {**Precision("fp32", asked, None).as_dict(), "why": exact}
    if asked == "int8":
        return _int8(device, model, features, exact)
    chosen = choose_precision(asked, device, model)
    if chosen.name == "fp32":
        return chosen.as_dict()
    cosine = smallest_cosine(*(features({"precision": name}, CHECKED) for name in ("fp32", "bf16")))
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


def _int8(device: torch.device, model: nn.Module, features: Callable[[dict, int], Features], exact: str | None) -> dict:
    """int8 beside the faster precision for the rest, and how near its features are to those of fp32."""
    rest = "fp32" if exact else choose_precision("auto", device, model).name
    facts = {"precision": "int8", "asked": "int8", "rest": rest}
    exact_ones, rounded = (features(precision, CHECKED_INT8) for precision in ({"precision": "fp32"}, facts))
    cosine, kept = smallest_cosine(exact_ones, rounded), neighbours_kept(exact_ones, rounded)
    if cosine is not None and cosine < LEAST_COSINE_INT8:
        log.warning("features in int8 have a cosine of %.4f to those in fp32; bf16 would be nearer", cosine)
    return {
        **facts,
        "cosine_to_fp32": None if cosine is None else round(cosine, 6),
        "neighbours_kept": None if kept is None else round(kept, 4),
    }


def neighbours_kept(ours: Features, theirs: Features, k: int = NEIGHBOURS) -> float | None:
    """The share of the k most similar rows by cosine that two sets of features have in common, the least of all names.

    Of fewer than k + 2 rows, where all others are neighbours, None.
    """
    shares = []
    for name, rows in ours.items():
        if len(rows) < k + 2:
            return None
        near = [_nearest(np.asarray(x, dtype=np.float64).reshape(len(rows), -1), k) for x in (rows, theirs[name])]
        shares.append(np.mean([len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)]))
    return float(min(shares)) if shares else None


def _nearest(x: np.ndarray, k: int) -> list[list[int]]:
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    similarity = x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k].tolist()


def smallest_cosine(ours: Features, theirs: Features) -> float | None:
    """The least cosine between two sets of features, over rows and names; None of no rows."""
    found = []
    for name, rows in ours.items():
        a, b = (np.asarray(x, dtype=np.float64).reshape(len(rows), -1) for x in (rows, theirs[name]))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        found += list(np.where(lengths > 0, (a * b).sum(1) / np.maximum(lengths, 1e-300), np.all(a == b, axis=1)))
    return float(min(found)) if found else None


def why_exact(readout: Readout) -> str | None:
    """Why what is read has to be exact, so that auto takes fp32; None where it need not be."""
    if "bits" in readout.names:
        return "bits are exact in fp32"
    return "the head equals timm's own in fp32" if HEAD in readout.resolved_layers else None


def warn_if_slow(name: str, device: torch.device, model: nn.Module, what: str) -> None:
    """Say by how much the precision of a store or gallery that is continued is the slow one here, if it is."""
    if name != "bf16":
        return
    faster = choose_precision("auto", device, model)
    if faster.name != name:
        log.warning("the %s was begun in bf16 and goes on so, though that takes %.1f times as long as fp32 here", what, faster.ratio)
