"""`bigr generate` and `bigr interpolate`: new pictures from classes."""

from __future__ import annotations

import torch

from ..data.pixels import to_uint8
from ..plots import pictures
from .drawing import Session, no_null, session
from .drawing_options import GenerateConfig, InterpolateConfig

NUM_UNCONDITIONAL = 16  # of a model that was trained without labels, if no number is given


def generate(config: GenerateConfig) -> None:
    """Run `bigr generate`."""
    run = session(config, "generate")
    config = run.config
    if config.num_per_label < 1:
        raise ValueError(f"--num-per-label {config.num_per_label} was given; give 1 or more.")
    if config.unconditional < 0:
        raise ValueError(f"--unconditional {config.unconditional} was given; give the number of images, 1 or more.")
    if config.unconditional and config.labels:
        raise ValueError("--unconditional and --labels were both given; give one of them.")
    without_class = config.unconditional
    if run.model.generator.config.unconditional and not config.labels:
        without_class = without_class or NUM_UNCONDITIONAL
    classes = [run.null_class] if without_class else _classes(config, run)
    rows = without_class or config.num_per_label
    labels = torch.tensor(classes).repeat(rows)
    images = run.draw(len(labels), lambda part, calls: run.model.generate(labels[part], **calls))
    cells = to_uint8(images)
    wide = len(classes) if not without_class else min(8, rows)
    columns = [run.title(label) for label in classes] if not without_class else None
    grid = pictures.sheet([cells[start : start + wide] for start in range(0, len(cells), wide)], columns=columns)
    run.save(grid, images, labels=labels.tolist())


def interpolate(config: InterpolateConfig) -> None:
    """Run `bigr interpolate`."""
    from ..sampling import interpolation

    run = session(config, "interpolate")
    config = run.config
    no_null(config.labels, run, "interpolation")
    if run.model.generator.config.unconditional:
        raise ValueError(f"{config.model} was trained without labels, and there is nothing to interpolate between; take another model.")
    if config.num_rows < 1:
        raise ValueError(f"--num-rows {config.num_rows} was given; give 1 or more.")
    mixed = len(config.labels)
    weights = (
        interpolation.normalized_weights([config.mixture], mixed)
        if config.mixture
        else interpolation.path_weights(mixed, config.num_images)
    )  # (n, J)
    rows = weights.repeat(config.num_rows, 1)
    seeds = [config.seed + row for row in range(config.num_rows) for _ in weights]
    images = run.draw(len(rows), lambda part, calls: interpolation.interpolate(run.model, config.labels, rows[part], **calls), seeds=seeds)
    cells = to_uint8(images)
    columns = [
        "\n".join(f"{weight:.0%} of {run.title(label)}" for label, weight in zip(config.labels, row, strict=True) if weight)
        for row in weights
    ]
    lines = [cells[start : start + len(weights)] for start in range(0, len(cells), len(weights))]
    run.save(pictures.sheet(lines, columns=columns), images, classes=list(config.labels), weights=rows.tolist())


def _classes(config: GenerateConfig, run: Session) -> list[int]:
    if config.labels:
        no_null(config.labels, run, "generation without --unconditional")
        return list(config.labels)
    if run.null_class > 20:
        some = " ".join(run.class_names[:2]) if run.class_names else "1 2 3"
        raise ValueError(f"{config.model} has {run.null_class} classes, too many for one grid; name some, such as --labels {some}.")
    return list(range(run.null_class))
