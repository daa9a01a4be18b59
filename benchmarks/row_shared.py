"""What all rows of a data set stand on: judge, reference, tokenizers, codes, real images. Each is made when it is first needed."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import kept
import numpy as np
import torch
from judge import train_judge
from row_options import settings_of

from bigr_features.data import open_images
from bigr_features.evaluate.generation import MetricSettings
from bigr_features.evaluate.reports import write_json
from bigr_features.features import generation_evaluation as work
from bigr_features.features.metric_network import metric_network
from bigr_features.features.picture_sets import PictureSet
from bigr_features.models.presets import TOKENIZERS, preset_configs
from bigr_features.train.code_cache import encode
from bigr_features.train.settings import EncodeConfig, TrainTokenizerConfig
from bigr_features.train.tokenizer import train_tokenizer

log = logging.getLogger("rows")


class Shared:
    """Judge, reference, tokenizers, codes and real images of a data set.

    Parameters
    ----------
    args : argparse.Namespace
        What `row_options.settle` gives.
    """

    def __init__(self, args):
        self.args = args
        self.settings = settings_of(args)
        self.folder: Path = args.work
        self._ceilings: dict[str, tuple] = {}

    @cached_property
    def judge(self):
        """The judge network, and the content of its judge.json. One is kept for all machines."""
        args, folder = self.args, self.args.kept / "judge"
        settings = {"epochs": args.judge_epochs, "limit": args.limit, "test": args.test_split}
        if not (folder / "judge.json").is_file():
            train_judge(args.dataset, self.folder / "judge", **settings)
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("judge.safetensors", "judge.json"):
                shutil.copyfile(self.folder / "judge" / name, folder / name)
        facts = train_judge(args.dataset, folder, **settings)  # which reads it, and refuses another one
        return metric_network("judge_cnn", folder / "judge.safetensors", batch_size=256), facts

    @cached_property
    def reference(self):
        """ReferenceOutputs of the training images, and their facts."""
        log.info("features of the training images by the judge")
        found, facts = work.reference_outputs(self.judge[0], PictureSet(self.args.dataset, "train", self.size, self.args.limit))
        return found, {**facts, "source": self.args.name}

    @cached_property
    def test(self):
        """Outputs of as many real test images as a row has, and their facts."""
        outputs, facts = work.network_outputs(self.judge[0], (batch for batch, _ in self._test_pictures().batches(work.READ)))
        return outputs, {"what": "real test images", **facts}

    def ceiling(self, tokenizer: str, model):
        """Outputs of the same test images, decoded from their codes by the tokenizer of that name, which `model` has; and their facts."""
        if tokenizer not in self._ceilings:
            batches = (batch for batch, _ in self._test_pictures().batches(work.READ))
            outputs, facts = work.network_outputs(self.judge[0], work.decoded(model, batches))
            self._ceilings[tokenizer] = outputs, {"what": "decoded real codes", **facts}
        return self._ceilings[tokenizer]

    def _test_pictures(self) -> PictureSet:
        return PictureSet(self.args.dataset, self.args.test_split, self.size, min(self.args.images, self.args.limit or 10**9))

    @property
    def size(self) -> int:
        return TOKENIZERS["bigr_nano"].image_size

    @cached_property
    def real(self) -> dict[str, tuple[torch.Tensor, np.ndarray]]:
        """Pixels (n, 3, S, S) uint8 and labels (n,) of the training and the test images, for the probes.

        Raises
        ------
        ValueError
            For images without labels, or of one class: before anything is trained.
        """
        found = {}
        for name, split in (("train", "train"), ("test", self.args.test_split)):
            images = open_images(self.args.dataset, split, size=self.size, limit=self.args.limit)
            if images.labels is None:
                raise ValueError(f"{self.args.dataset} (split {split!r}) has no labels, and accuracy needs them.")
            if len(np.unique(images.labels)) < 2:
                raise ValueError(f"{self.args.dataset} (split {split!r}) has one class only; accuracy needs 2 or more.")
            pixels = images.read(np.arange(len(images)))[0]
            found[name] = torch.from_numpy(pixels).permute(0, 3, 1, 2), images.labels
        return found

    @cached_property
    def num_classes(self) -> int:
        return int(self.real["train"][1].max()) + 1

    def settings_of_metrics(self) -> MetricSettings:
        """Distances of a trial have too few images, and are mostly bias: said in the row."""
        few = min(self.args.images, len(self.reference[0].pooled)) < 2 * self.judge[0].model.num_features
        return MetricSettings(few_samples=few, resamples=self.args.resamples)

    def tokenizer(self, system) -> tuple[Path, dict]:
        """Folder of a system's tokenizer, which is trained where none is kept, and what is known of it."""
        args, name = self.args, f"tokenizer_{system.tokenizer}"
        run, folder = self.folder / name, self.args.kept / name
        settings = TrainTokenizerConfig(
            source=args.dataset,
            out=run,
            preset=system.preset,
            model=preset_configs(system.preset, **system.changes)[0],
            limit=args.limit,
            steps=args.tokenizer_steps,
            batch_size=args.tokenizer_batch_size,
            warmup_steps=min(200, args.tokenizer_steps // 10),
            **of_training(args, args.tokenizer_steps),
        )
        if kept.is_kept(folder):
            log.info("%s: taken from %s", name, folder)
        else:
            if not (run / "model" / "model.safetensors").is_file():
                with core_seconds(run):
                    train_tokenizer(replace(settings, resume=(run / "checkpoints").is_dir()))
            kept.keep(run, folder, cost(run))
        return folder, kept.about(folder, settings)

    def codes(self, system) -> tuple[Path, Path]:
        """Tokenizer and cache of codes of a system, made once for all that share them."""
        args, out = self.args, self.folder / f"codes_{system.tokenizer}"
        tokenizer = self.tokenizer(system)[0]
        config = EncodeConfig(tokenizer, args.dataset, out, views="flip", limit=args.limit, device="cpu", precision="fp32")
        encode(replace(config, threads=args.threads))
        return tokenizer, out


@contextmanager
def core_seconds(folder: Path):
    """Adds the processor time spent inside to the folder's cost.json, also where it is interrupted."""
    started = time.process_time()
    try:
        yield
    finally:
        if folder.is_dir():
            write_json(folder / "cost.json", {"core_seconds": cost(folder) + time.process_time() - started})


def cost(folder: Path) -> float:
    """Processor time that a run has taken so far, in core-seconds."""
    path = folder / "cost.json"
    return json.loads(path.read_text())["core_seconds"] if path.is_file() else 0.0


def of_training(args, steps: int) -> dict:
    """Settings that trainings of tokenizers and of systems share."""
    every = max(1, min(500, steps // 4))
    rows = {"validate_every": every, "checkpoint_every": every, "validation": min(1_000, (args.limit or 10**9) // 10)}
    return {**rows, "precision": args.precision, "trackers": (), "device": "cpu", "threads": args.threads}


def run_rows(args, run: Callable[[Shared, str, int], None]) -> None:
    """Call `run` with what rows share, a name and a seed, for each that is asked for; nothing if the table alone is."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    shared = Shared(args)
    for seed in [] if args.table else args.seed:
        for name in args.only:
            run(shared, name, seed)
