"""`bigr generate` and `bigr interpolate`: new pictures from classes or prompts."""

from __future__ import annotations

from ..data.pixels import to_uint8
from ..plots import pictures
from .conditions import Conditions, headings
from .drawing import Session, no_null, session
from .drawing_options import GenerateConfig, InterpolateConfig

NUM_UNCONDITIONAL = 16  # of a model that was trained without labels, if no number is given


def generate(config: GenerateConfig) -> None:
    """Run `bigr generate`."""
    run = session(config, "generate")
    if config.num_per_label < 1:
        raise ValueError(f"--num-per-label {config.num_per_label} was given; give 1 or more.")
    if config.unconditional < 0:
        raise ValueError(f"--unconditional {config.unconditional} was given; give the number of images, 1 or more.")
    if config.unconditional and config.labels:
        raise ValueError("--unconditional and --labels were both given; give one of them.")
    if config.unconditional and config.text:
        raise ValueError("--unconditional and --text were both given; give one of them.")
    drawn, columns = _asked(config, run)
    rows = 1 if columns is None else config.num_per_label
    drawn = drawn.repeated(rows)
    images = run.draw(len(drawn), lambda part, calls: run.model.generate(**drawn.of(part), **calls))
    cells = to_uint8(images)
    wide = len(columns) if columns is not None else min(8, len(cells))
    grid = pictures.sheet([list(cells[start : start + wide]) for start in range(0, len(cells), wide)], columns=columns)
    run.save(grid, images, **drawn.facts)


def _asked(config: GenerateConfig, run: Session) -> tuple[Conditions, list[str] | None]:
    """A row of images, and the headings of its columns; None of images without condition, which are all in it."""
    captions = run.model.generator.config.text is not None
    if config.text:
        return Conditions(text=list(config.text), negative=config.negative_text), headings(config.text)
    if captions and not config.unconditional:
        raise ValueError(f"{run.name} draws what prompts describe; give --text, or --unconditional N for images without a prompt.")
    without = config.unconditional
    if run.model.generator.config.unconditional and not run.labels:
        without = without or NUM_UNCONDITIONAL
    if without:
        none = Conditions(text=[""] * without, negative=config.negative_text) if captions else Conditions([run.null_class] * without)
        return none, None
    classes = _classes(run)
    return Conditions(classes), [run.title(label) for label in classes]


def interpolate(config: InterpolateConfig) -> None:
    """Run `bigr interpolate`."""
    from ..sampling import interpolation

    run = session(config, "interpolate")
    if run.model.generator.config.text is not None:
        ends: dict[str, list] = {"text": list(config.text)}
        if len(config.text) < 2:
            raise ValueError(f"{len(config.text)} prompts were given, and an interpolation needs 2 or more; give --text twice.")
    else:
        no_null(run.labels, run, "interpolation")
        ends = {"labels": list(run.labels)}
    if run.model.generator.config.unconditional:
        raise ValueError(f"{run.name} was trained without labels, and there is nothing to interpolate between; take another model.")
    if config.num_rows < 1:
        raise ValueError(f"--num-rows {config.num_rows} was given; give 1 or more.")
    names = list(map(run.title, run.labels)) if "labels" in ends else headings(config.text)
    mixed = len(names)
    weights = (
        interpolation.normalized_weights([config.mixture], mixed)
        if config.mixture
        else interpolation.path_weights(mixed, config.num_images)
    )  # (n, J)
    rows = weights.repeat(config.num_rows, 1)
    away = {} if config.negative_text is None else {"negative_text": config.negative_text}
    seeds = [config.seed + row for row in range(config.num_rows) for _ in weights]
    images = run.draw(
        len(rows), lambda part, calls: interpolation.interpolate(run.model, weights=rows[part], **away, **ends, **calls), seeds=seeds
    )
    cells = to_uint8(images)
    columns = ["\n".join(f"{weight:.0%} of {name}" for name, weight in zip(names, row, strict=True) if weight) for row in weights]
    lines = [list(cells[start : start + len(weights)]) for start in range(0, len(cells), len(weights))]
    run.save(
        pictures.sheet(lines, columns=columns),
        images,
        **({"classes": ends["labels"]} if "labels" in ends else {"prompts": ends["text"]}),
        weights=rows.tolist(),
        **away,
    )


def _classes(run: Session) -> list[int]:
    if run.labels:
        no_null(run.labels, run, "generation without --unconditional")
        return list(run.labels)
    if run.null_class > 20:
        some = " ".join(run.class_names[:2]) if run.class_names else "1 2 3"
        raise ValueError(f"{run.name} has {run.null_class} classes, too many for one grid; name some, such as --labels {some}.")
    return list(range(run.null_class))
