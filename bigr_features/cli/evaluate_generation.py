"""`bigr evaluate-generation`: how good are generated images?"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ..sampling.settings import SamplingSettings
from .metric_options import NetworkOptions, load_network, progress

log = logging.getLogger(__name__)

SAMPLING = tuple(field.name for field in fields(SamplingSettings))
GRID = 8  # pictures along a side


@dataclass(frozen=True, kw_only=True)
class EvaluateGenerationConfig(NetworkOptions, SamplingSettings):
    """Measure a model, or a folder of images, against a data set: Frechet distances, KID, Inception score, precision, recall, density,
    coverage, and copies of training images.

    Beside them stand the floor (real test images) and, of a model, the ceiling (test images decoded from their codes). A run that was
    stopped goes on where it was and gives the same images.

    Parameters
    ----------
    data : str
        Real images: "sample:fashion_mnist", a folder or file of parquet, arrow or images, or the id of a data set on the Hub. May be left
        out with --reference; floor and ceiling then are, too.
    out : Path
        Folder for report.json, samples.png and, of a model, the images in samples/.
    model : str
        A bigr model of timm to draw images from. Give this or --samples.
    weights : Path, optional
        Its weights instead of its own: what `bigr train` or `bigr export` wrote.
    model_args : tuple of str
        Arguments of timm.create_model for it, such as code_dim=12.
    samples : str
        Images to measure instead: a folder of them, all of one size, or an .npz with arr_0.
    images : int
        Number of images: to draw, or at most so many of a folder, evenly spread. Of real test images as many, where there are.
    unconditional : bool
        Draw images without a class, instead of all classes in turn.
    reference : Path, optional
        Statistics that `bigr reference` wrote, instead of computing them from the data.
    foreign_reference : bool
        Take a reference that does not say which network made it.
    split : str
        Split of the data that is the reference; what the model was trained on.
    test_split : str
        Split of the floor; test by default, if there is one; "" for none.
    limit : int, optional
        Take at most so many images of the reference split, evenly spread, to try the command.
    image_size : int, optional
        Crop and resize all pictures to this side; default the model's, or that of the samples.
    few_samples : bool
        Give Frechet distances also of fewer images than twice the features, where bias is most of them.
    resamples : int
        Resamples of each bootstrap interval; 0 for none.
    score_block : int
        Images of a block of the Inception score, shuffled: 5,000 as in ADM.
    seed : int
        Image i has seed + i; resamples and subsets are drawn from it, too.
    adm_npz : Path, optional
        Also write the samples as .npz for ADM's evaluator.
    compare : tuple of Path
        Reports of earlier runs to show beside this one; refused if network, reference, number of images or settings differ.
    """

    data: Annotated[str, tyro.conf.Positional] = ""
    out: Path
    model: str = ""
    weights: Path | None = None
    model_args: tuple[str, ...] = ()
    samples: str = ""
    images: int = 10_000
    unconditional: bool = False
    reference: Path | None = None
    foreign_reference: bool = False
    split: str = "train"
    test_split: str | None = None
    limit: int | None = None
    image_size: int | None = None
    few_samples: bool = False
    resamples: int = 200
    score_block: int = 5000
    seed: int = 0
    adm_npz: Path | None = None
    compare: tuple[Path, ...] = ()


def evaluate_generation(config: EvaluateGenerationConfig) -> None:
    """Run the command; prints a table, writes the report and a picture."""
    from ..evaluate.generation_report import table
    from ..evaluate.reports import environment, write_json

    _check(config)
    others = {path.parent.name or str(path): _read_report(path) for path in config.compare}
    model = _model(config) if config.model else None
    network = load_network(config)
    drawn = _from_model(config, model) if model is not None else _from_pictures(config)
    found = _measure(config, network, model, drawn)
    result = {"command": "evaluate-generation", **found, "environment": environment()}
    write_json(config.out / "report.json", result)
    _grid(config.out / "samples.png", drawn)
    columns = {config.model or Path(config.samples).name: result}
    notes = []
    for name in ("floor", "ceiling"):
        part = result[name]
        if part is not None and part["comparison"] == result["comparison"]:
            columns[f"{name} ({part['what']})"] = part
        elif part is not None:
            notes.append(f"{name} is not shown: it has {part['images']} images, the samples {result['comparison']['images']}")
    print(table(columns | others))
    for name, reason in result["metrics"]["left_out"].items():
        notes.append(f"{name} is left out: {reason}")
    print("\n".join([*notes, f"wrote {config.out / 'report.json'} and samples.png"]))


class _Samples:
    """The pictures that are measured, wherever they come from: batches of uint8 RGB, labels, facts."""

    def __init__(self, count, size, batches, labels, facts, prepare=lambda: None):
        self.count, self.size, self.batches, self.labels, self.facts, self.prepare = count, size, batches, labels, facts, prepare


def _check(config: EvaluateGenerationConfig) -> None:
    if bool(config.model) == bool(config.samples):
        raise ValueError(f"--model {config.model!r} and --samples {config.samples!r}: give one of them.")
    if not config.data and config.reference is None:
        raise ValueError("there is nothing to compare with; give a data set, or --reference FILE.")
    if config.images < 2 or config.resamples < 0:
        raise ValueError(f"--images {config.images}, --resamples {config.resamples}; expected 2 or more, and 0 or more.")
    if config.adm_npz is not None and config.adm_npz.suffix.lower() != ".npz":
        raise ValueError(f"--adm-npz {config.adm_npz} does not end in .npz.")


def _model(config: EvaluateGenerationConfig):
    from .drawing import load_generator

    model = load_generator(config.model, config.weights, config.device, config.model_args)
    if model.generator.config.text is not None and not config.unconditional:
        raise ValueError(
            f"{config.model} draws what prompts describe and has no classes; measure it with --unconditional, or draw images of prompts by "
            "`bigr generate --text ... --results FOLDER` and give --samples FOLDER."
        )
    return model


def _from_model(config: EvaluateGenerationConfig, model) -> _Samples:
    """Images of a model, in a folder that goes on where it was."""
    import torch

    from ..checkpoints import fingerprint
    from ..features.sample_folder import SampleFolder, classes_in_turn

    settings = {name: getattr(config, name) for name in SAMPLING}
    generator = model.generator
    without = config.unconditional or generator.config.unconditional
    labels = None if without else classes_in_turn(config.images, generator.null_class)
    classes = "none" if without else f"{generator.null_class} in turn"
    facts = {"model": config.model, "weights_sha256": fingerprint(model), "sampling": settings, "seed": config.seed, "classes": classes}
    folder = SampleFolder(config.out / "samples", facts)
    device = next(model.parameters()).device

    def generate(own, seeds):
        if generator.config.text is not None:
            return model.generate(text=generator.null_captions(len(seeds)), seeds=seeds, **settings)
        asked = torch.from_numpy(own).to(device) if own is not None else torch.full((len(seeds),), generator.null_class, device=device)
        return model.generate(asked, seeds=seeds, **settings)

    def draw():
        missing = len(folder.missing(labels, config.images))
        if missing:
            with progress(config.images, "drawing") as advance:
                advance(config.images - missing)
                options = {"seed": config.seed, "batch_size": config.batch_size, "on_batch": advance}
                folder.draw(generate, labels, config.images, **options)

    def batches(size):
        for start in range(0, config.images, size):
            yield folder.read(labels, range(start, min(start + size, config.images)))

    return _Samples(config.images, model.img_size, batches, labels, facts, draw)


def _from_pictures(config: EvaluateGenerationConfig) -> _Samples:
    """A folder or file of images."""
    from ..features.picture_sets import PictureSet

    pictures = PictureSet(config.samples, "train", config.image_size, config.images, strict=True)
    size = pictures.first_size()
    if size[0] != size[1]:
        raise ValueError(f"the pictures of {config.samples} are {size[1]} x {size[0]}; expected squares, or give --image-size.")

    def batches(count):
        for batch, _ in pictures.batches(count):
            yield batch

    labels = None if pictures.labels is None else pictures.labels[: len(pictures)]
    return _Samples(len(pictures), size[0], batches, labels, {"folder": Path(config.samples).name})


def _measure(config: EvaluateGenerationConfig, network, model, drawn: _Samples) -> dict:
    """The report: reference first, so that too few images are refused before any is drawn."""
    from ..evaluate.generation import MetricSettings
    from ..evaluate.reference import read_reference, write_samples
    from ..features import generation_evaluation as work
    from ..features.picture_sets import PictureSet

    settings = MetricSettings(few_samples=config.few_samples, resamples=config.resamples, score_block=config.score_block, seed=config.seed)
    size = config.image_size or drawn.size
    if config.reference is not None:
        made = read_reference(config.reference)
        with progress(0 if made.images is None else len(made.images), "reference") as advance:
            reference = work.outputs_of_reference(network, made, advance, config.foreign_reference)
    else:
        pictures = PictureSet(config.data, config.split, size, config.limit)
        with progress(len(pictures), "reference") as advance:
            reference = work.reference_outputs(network, pictures, advance)
    work.check_image_count(drawn.count, reference[0], settings)
    drawn.prepare()
    with progress(drawn.count, "samples") as advance:
        outputs, facts = work.network_outputs(network, drawn.batches(work.READ), advance)
    if config.adm_npz is not None:
        write_samples(config.adm_npz, drawn.batches(work.READ), drawn.count, drawn.labels)
    floor = ceiling = floor_labels = None
    test = _test_pictures(config, size)
    if test is not None:
        read: list[np.ndarray] = []

        def real():
            read.clear()
            for batch, numbers in test.batches(work.READ):
                read.append(numbers)
                yield batch

        with progress(len(test), "real test images") as advance:
            found, own = work.network_outputs(network, real(), advance)
            floor = found, {"what": "real test images", **own}
        floor_labels = None if test.labels is None else test.labels[np.concatenate(read)]
        if model is not None:
            with progress(len(test), "decoded test images") as advance:
                found, own = work.network_outputs(network, work.decoded(model, real()), advance)
                ceiling = found, {"what": "decoded real codes", **own}
    sets = {"labels": drawn.labels, "floor": floor, "floor_labels": floor_labels, "ceiling": ceiling}
    return work.report(network, (outputs, {**drawn.facts, **facts}), reference, settings, **sets)


def _test_pictures(config: EvaluateGenerationConfig, size: int):
    """As many real test images as there are samples; None where there is no such split, unless it was asked for."""
    from ..features.picture_sets import PictureSet

    if not config.data or config.test_split == "":
        return None
    try:
        return PictureSet(config.data, config.test_split or "test", size, config.images)
    except ValueError as error:
        if config.test_split is not None:
            raise
        log.warning("no floor, no ceiling, no look for copies: %s", error)
        return None


def _read_report(path: Path) -> dict:
    path = path / "report.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there is no report {path}; give what `bigr evaluate-generation` wrote.")
    try:
        found = json.loads(path.read_bytes())
        if not {"comparison", "metrics"} <= set(found):
            raise ValueError("it has no comparison or metrics")
    except ValueError as error:
        raise ValueError(f"{path} is no report of `bigr evaluate-generation` ({error}).") from error
    return found


def _grid(path: Path, drawn: _Samples) -> None:
    """The first pictures, in rows."""
    from ..plots.pictures import save_png, sheet

    cells = list(next(iter(drawn.batches(GRID * GRID))))
    rows = [cells[start : start + GRID] for start in range(0, len(cells), GRID)]
    save_png(path, sheet(rows), drawn.facts)
