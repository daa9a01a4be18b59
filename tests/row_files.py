"""Rows of the benchmarks of systems, as their tables read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

WHOLE = ("training", "generation", "chosen", "speed", "probes", "attentive")


def a_row(
    system: str, seed: int, accuracy: float, distance: float, seconds: float = 0.1, sha: str = "ab", steps: int = 100, tokenizer: str = "dd"
) -> dict:
    """What tables read of a whole row."""
    compared = {"network": {"sha256": sha}, "reference": {"sha256": "cd"}, "images": 50, "settings": {}}
    metrics = {"frechet": {"value": distance, "interval": [distance - 0.5, distance + 0.5]}}
    ceiling = {"what": "decoded real codes", "metrics": {"frechet": {"value": distance / 2}}}
    generation = {"comparison": compared, "metrics": metrics, "floor": None, "ceiling": ceiling, "judge_accuracy": 0.9}
    probes = {"linear_middle": {"top1": accuracy, "top1_interval": [accuracy - 0.01, accuracy + 0.01], "top5": 0.9}}
    training = {"generator_parameters": 2_500_000, "core_seconds": 60.0, "tokenizer": {"weights_sha256": tokenizer}}
    parts = {name: {} for name in WHOLE} | {
        "training": training,
        "generation": generation,
        "probes": probes,
        "speed": {"core_seconds_per_image": seconds},
    }
    settings = {"name": "d", "steps": steps, "batch_size": 8, "images": 50, "limit": None}
    kind = "vq" if system == "LlamaGen" else "binary"
    return {"system": system, "tokenizer": kind, "seed": seed, "settings": settings, "parts": parts}


def write(folder: Path, rows: Sequence[dict]) -> list[Path]:
    """Write rows as finished ones; gives their files."""
    (folder / "rows").mkdir(exist_ok=True)
    files = [folder / "rows" / f"{row['system']}_seed{row['seed']}.json" for row in rows]
    for path, row in zip(files, rows, strict=True):
        path.write_text(json.dumps(row))
    return files


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table, without its rule."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, *rows])
