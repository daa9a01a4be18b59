"""Tokenizers that rows of all machines stand on: trained once, kept in half precision beside the results, with what they were made from.

    python benchmarks/kept.py RUN benchmarks/results/uniformity/cifar10/tokenizer_binary --core-seconds 1380

takes the finished run folder of `bigr train-tokenizer`; `uniformity.py` does the same with the runs of its own.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from bigr_features.checkpoints import fingerprint, load_model, save_model
from bigr_features.storage.json_files import json_bytes, write_json
from bigr_features.train.settings import TrainTokenizerConfig

ABOUT = "about.json"
# settings that do not shape the weights: where the run lies, how often it speaks, and on what it ran
FREE = (
    "source", "out", "preset", "validate_every", "checkpoint_every", "validation", "log_every", "keep_last", "keep_steps", "trackers",
    "project", "device", "threads", "num_workers", "resume", "config", "compile", "tf32", "dead_after", "discriminator_width",
    "discriminator_depth", "discriminator_learning_rate", "adversarial_start", "perceptual_weight",
)  # fmt: skip


def is_kept(folder: Path) -> bool:
    return (folder / "model.safetensors").is_file() and (folder / ABOUT).is_file()


def keep(run: Path, folder: Path, core_seconds: float) -> None:
    """Write the tokenizer of a finished run into a folder, in float16, with settings, cost and quality.

    Raises
    ------
    FileNotFoundError
        If the run did not end.
    """
    if not (run / "model" / "model.safetensors").is_file():
        raise FileNotFoundError(f"{run} holds no finished tokenizer (model/model.safetensors); go on with the run by --resume.")
    save_model(load_model(run / "model"), folder, torch.float16)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    measured = [line for line in lines if line.get("split") == "validation"]
    where = json.loads((run / "environment.json").read_text())
    about = {
        "settings": shaping(json.loads((run / "config.json").read_text())["settings"]),
        "core_seconds": core_seconds,
        "validation": measured[-1] if measured else None,
        "validated": "before the weights were rounded to float16",
        "weights_sha256": fingerprint(load_model(folder)),
        "machine": {name: where.get(name) for name in ("machine", "torch", "instruction_sets", "precision")},
    }
    write_json(folder / ABOUT, about)


def about(folder: Path, wanted: TrainTokenizerConfig) -> dict:
    """What is known of a kept tokenizer.

    Raises
    ------
    ValueError
        If it was trained with other settings than are wanted now, naming them.
    """
    found = json.loads((folder / ABOUT).read_text())
    asked = shaping(json.loads(json_bytes(asdict(wanted))))
    differing = {name: (found["settings"].get(name), value) for name, value in asked.items() if found["settings"].get(name) != value}
    if differing:
        said = "; ".join(f"{name} {there!r} there, {now!r} now" for name, (there, now) in differing.items())
        raise ValueError(f"the tokenizer in {folder} was trained with other settings ({said}); give these, or another --kept folder.")
    return found


def shaping(settings: dict) -> dict:
    """Of a run's settings as JSON has them, those that shape its weights."""
    return {name: value for name, value in settings.items() if name not in FREE}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="finished run folder")
    parser.add_argument("folder", type=Path, help="folder to keep the tokenizer in")
    parser.add_argument("--core-seconds", type=float, required=True, help="processor time of the training")
    args = parser.parse_args()
    keep(args.run, args.folder, args.core_seconds)
    print(f"kept {args.folder}")


if __name__ == "__main__":
    main()
