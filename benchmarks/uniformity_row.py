"""One row: a system with a seed, trained, sampled, timed and probed, part by part.

n images, N tokens, D features
"""

from __future__ import annotations

import itertools
import json
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import timm
import torch
from row_shared import Shared, core_seconds, cost, of_training

from bigr_features.checkpoints import fingerprint
from bigr_features.evaluate.attentive_probe import AttentiveProbe
from bigr_features.evaluate.generation import MetricSettings
from bigr_features.evaluate.knn import KNNClassifier
from bigr_features.evaluate.linear_probe import LinearProbe
from bigr_features.evaluate.reports import environment, evaluation_result, write_json
from bigr_features.evaluate.selection import choose
from bigr_features.features import generation_evaluation as work
from bigr_features.features.sample_folder import SampleFolder, classes_in_turn
from bigr_features.models.presets import preset_configs
from bigr_features.storage.atomic import replacing
from bigr_features.train.generator import train
from bigr_features.train.settings import TrainConfig

log = logging.getLogger("rows")
PICTURED = ("LlamaGen", "S3")  # the features of these at seed 0 are kept for the poster's first picture
KEPT_FOR_PICTURE = 1_000  # test images
BATCH_OF_SPEED = 16
TRIAL_DENOISE_STEPS = 8
BATCH_OF_FEATURES = 128
SPLITS = ("train", "test")
TOPS = ("top1", "top1_interval", "top5", "top5_interval")


class Row:
    """A system with a seed.

    Parameters
    ----------
    shared : Shared
    name : str
        Of the system.
    system : System
    seed : int
    parts : sequence of str
        What a finished row has; all of `PARTS` by default.
    """

    PARTS = ("training", "generation", "chosen", "speed", "probes", "attentive")

    def __init__(self, shared: Shared, name: str, system, seed: int, parts=PARTS):
        self.shared, self.args, self.name, self.system, self.seed, self.parts = shared, shared.args, name, system, seed, parts
        self.folder = shared.folder / f"{system.weights or name}_seed{seed}"
        self.finished = self.args.out / "rows" / f"{name}_seed{seed}.json"
        self.begun = self.args.begun / self.finished.name
        self.sampling = dict(system.sampling)
        if self.args.trial and "num_denoise_steps" in self.sampling:
            self.sampling["num_denoise_steps"] = min(TRIAL_DENOISE_STEPS, self.sampling["num_denoise_steps"])

    def run(self, parts: list[str] | None = None) -> None:
        """Do what the row lacks, and write it after each part; when it has all, to the finished rows, with the log of its training."""
        row = self._found()
        todo = [part for part in self.parts if part not in row["parts"] and (parts is None or part in parts)]
        if todo:
            self._train()
        else:
            log.info("%s, seed %d: all there", self.name, self.seed)
        for part in todo:
            log.info("%s, seed %d: %s", self.name, self.seed, part)
            started = time.process_time()
            row["parts"][part] = getattr(self, f"_{part}")()
            row["core_seconds"][part] = round(time.process_time() - started, 1)
            row["environment"] = environment()
            write_json(self.begun, row)
        if set(self.parts) <= set(row["parts"]) and not self.finished.is_file():
            self.finished.parent.mkdir(parents=True, exist_ok=True)
            if self.system.weights is None:
                shutil.copyfile(self.folder / "log.jsonl", self.finished.with_suffix(".jsonl"))
            write_json(self.finished, row)
            self.begun.unlink()

    def _found(self) -> dict:
        settings = self.shared.settings
        for path in (self.finished, self.begun):
            if path.is_file():
                row = json.loads(path.read_text())
                if row["settings"] != settings:
                    raise ValueError(f"{path} was made with {row['settings']}, now {settings}; give another --out and --work folder.")
                return row
        system = self.system
        about = {"system": self.name, "preset": system.preset, "tokenizer": system.tokenizer, "changes": system.changes, "seed": self.seed}
        return {**about, "sampling": self.sampling, "settings": settings, "parts": {}, "core_seconds": {}}

    def _train(self) -> None:
        args = self.args
        model = preset_configs(self.system.preset, **self.system.changes, generator_num_classes=self.shared.num_classes)[1]
        shaping = {
            "steps": args.steps,
            "batch_size": args.batch_size,
            "learning_rate": args.learning_rate,
            "warmup_steps": args.warmup_steps,
            "precision": args.precision,
        }
        if (self.folder / "model" / "model.safetensors").is_file():
            there = json.loads((self.folder / "config.json").read_text())["settings"]
            found = {name: there[name] for name in shaping}
            if found != shaping:
                raise ValueError(f"{self.folder} was trained with {found}, now {shaping}; give another --work folder.")
            return
        tokenizer, codes = self.shared.codes(self.system)
        settings = TrainConfig(
            tokenizer=tokenizer,
            out=self.folder,
            codes=codes,
            preset=self.system.preset,
            model=model,
            unconditional=model.unconditional,
            schedule="cosine",
            ema_decay=0.999,
            sample_every=0,
            seed=self.seed,
            **{**of_training(args, args.steps), **shaping},
        )
        with core_seconds(self.folder):
            train(replace(settings, resume=(self.folder / "checkpoints").is_dir()))

    @cached_property
    def model(self):
        """The trained backbone."""
        overlay = {"file": str(self.folder)}
        classes = {"generator_num_classes": self.shared.num_classes}
        options = {"pretrained": True, "pretrained_cfg_overlay": overlay, "num_classes": 0}
        return timm.create_model(self.system.preset, **options, **self.system.changes, **classes).eval()

    @property
    def labels(self) -> bool:
        """Whether images are drawn by class."""
        return not self.model.generator.config.unconditional

    # ------------------------------------------------------------------------------------------------------- parts of a row

    def _training(self) -> dict:
        generator = self.model.generator
        _, known = self.shared.tokenizer(self.system)
        return {
            "trunk_parameters": sum(p.numel() for p in generator.trunk.parameters()),
            "generator_parameters": sum(p.numel() for p in generator.parameters()),
            "tokenizer_parameters": sum(p.numel() for p in self.model.tokenizer.parameters()),
            "core_seconds": cost(self.folder),
            "images_seen": self.args.steps * self.args.batch_size,
            "weights_sha256": fingerprint(self.model),
            "tokenizer": {name: known[name] for name in ("weights_sha256", "core_seconds", "validation", "validated")},
        }

    def _generation(self) -> dict:
        return self._measured(self.sampling, "images")

    def _chosen(self) -> dict:
        """Sampling settings that bring images of other seeds nearest to the training images; measured as the others are."""
        (reference, _), network = self.shared.reference, self.shared.judge[0]
        quick = MetricSettings(few_samples=True, resamples=0)
        tried = []
        for values in itertools.product(*self.system.choices.values()):
            choice = {**self.sampling, **dict(zip(self.system.choices, values, strict=True))}
            pictures, _ = self._draw(choice, f"images_choice_{len(tried)}", self.args.choice_images, seed=10**6 + self.seed)
            outputs, _ = work.network_outputs(network, pictures())
            distance = work.generation_metrics(outputs, replace(reference, pooled=None), quick)["frechet"]["value"]
            tried.append({"settings": choice, "frechet_to_training_images": distance})
            log.info("%s: %.3f", choice, distance)
        best = min(tried, key=lambda entry: entry["frechet_to_training_images"])
        folder = "images" if best["settings"] == self.sampling else "images_chosen"  # they would be the same images
        return {**self._measured(best["settings"], folder), "tried": tried}

    def _speed(self) -> dict:
        """Processor time of an image, best of three (in a trial, of one); other programs disturb it less than the time on the clock."""
        labels, found = torch.from_numpy(classes_in_turn(BATCH_OF_SPEED, self.shared.num_classes)), []
        for i in range(1 if self.args.trial else 3):
            clock, processor = time.perf_counter(), time.process_time()
            self._generate(labels.numpy() if self.labels else None, [i * 100 + k for k in range(len(labels))], self.sampling)
            spent = time.process_time() - processor, time.perf_counter() - clock
            found.append([seconds / BATCH_OF_SPEED for seconds in spent])
        core, clock = map(list, zip(*found, strict=True))
        where = {"batch": BATCH_OF_SPEED, "threads": torch.get_num_threads()}
        return {"core_seconds_per_image": min(core), **where, "all": core, "clock": clock}

    def _probes(self) -> dict:
        """Accuracies of linear probes at the middle layer and at the layer held-out images choose, and of k-NN."""
        labels, test_labels = (self.shared.real[name][1] for name in SPLITS)
        features = [self._features(name) for name in SPLITS]
        middle = self.model.feature_layer
        if self.args.benchmark == "uniformity" and self.name in PICTURED and self.seed == 0:
            kept = {"features": features[1][middle][:KEPT_FOR_PICTURE].astype(np.float16), "labels": test_labels[:KEPT_FOR_PICTURE]}
            self.finished.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.finished.with_suffix(".npz")) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, **kept)
        layers = {str(layer): layer for layer in features[0]}
        found = {"middle_layer": middle, "layers": len(layers), "smallest_class": int(np.bincount(labels).min())}
        neighbors = tuple(k for k in (10, 20, 100) if k <= 0.8 * len(labels))

        def tested(choice, layer: int, votes: bool = False) -> dict:
            scores = choice.estimator.predict_proba(features[1][layer])
            result = evaluation_result(scores, test_labels, choice.estimator.classes_, {}, votes)
            return {"layer": layer, **{name: result[name] for name in TOPS}, **choice.rows[choice.name]}

        linear = LinearProbe(Cs=(0.001, 0.01, 0.1, 1.0, 10.0))
        choice = choose({str(middle): (linear, features[0][middle])}, labels, seed=0)
        found["linear_middle"] = tested(choice, middle)
        choice = choose({name: (linear, features[0][layer]) for name, layer in layers.items()}, labels, seed=0)
        found["linear_chosen"] = {**tested(choice, layers[choice.name]), "held_out": choice.rows}
        knn = KNNClassifier(neighbors, 0.07)
        choice = choose({name: (knn, features[0][layer]) for name, layer in layers.items()}, labels, seed=0)
        found["knn"] = tested(choice, layers[choice.name], votes=True)
        return found

    def _attentive(self) -> dict:
        """Accuracy of an attentive probe over the tokens of the middle layer."""
        layer = self.model.feature_layer
        for name in SPLITS:
            if not self._tokens(name).is_file():
                self._features(name)
        train, test = (np.load(self._tokens(name), mmap_mode="r") for name in SPLITS)
        probe = AttentiveProbe(lrs=(1e-3,), epochs=(10,)).fit(train, self.shared.real["train"][1])
        logits = probe.logits(test)
        for name in SPLITS:
            self._tokens(name).unlink()
        result = evaluation_result(np.asarray(logits), self.shared.real["test"][1], probe.classes_, {})
        return {"layer": layer, **{name: result[name] for name in TOPS}}

    # ------------------------------------------------------------------------------------------------------------- tools

    def _tokens(self, split: str) -> Path:
        """File of the middle layer's tokens (n, N, D), float16, between the parts that need them."""
        return self.folder / f"tokens_{split}.npy"

    def _features(self, split: str) -> dict[int, np.ndarray]:
        """Means over the tokens of every layer, (n, D); a row that has an attentive probe keeps the middle layer's tokens for it."""
        images = self.shared.real[split][0]
        keeps, middle = "attentive" in self.parts, self.model.feature_layer
        parts: list[dict[int, np.ndarray]] = []
        with replacing(self._tokens(split)) if keeps else nullcontext() as temporary:
            out = None
            for start in range(0, len(images), BATCH_OF_FEATURES):
                layers = self._layers(images[start : start + BATCH_OF_FEATURES].float() / 255)
                parts.append({layer: tokens.mean(1).numpy() for layer, tokens in enumerate(layers)})
                if keeps:
                    tokens = layers[middle].numpy()
                    if out is None:
                        out = np.lib.format.open_memmap(temporary, "w+", np.float16, (len(images), *tokens.shape[1:]))
                    out[start : start + len(tokens)] = tokens
            if out is not None:
                out.flush()
        return {layer: np.concatenate([part[layer] for part in parts]) for layer in parts[0]}

    @torch.no_grad()
    def _layers(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Tokens (b, N, D) of every layer for images in [0, 1]."""
        return self.model.forward_intermediates(images, output_fmt="NLC", intermediates_only=True)

    @torch.no_grad()
    def _generate(self, labels: np.ndarray | None, seeds: list[int], sampling: dict) -> torch.Tensor:
        """Images (b, C, H, W) of classes, or of none."""
        classes = torch.from_numpy(labels) if labels is not None else torch.full((len(seeds),), self.model.generator.null_class)
        return self.model.generate(classes, seeds=seeds, **sampling)

    def _draw(self, sampling: dict, folder: str, count: int, seed: int) -> tuple[Callable, np.ndarray | None]:
        """Images of these settings, in a folder that goes on where it was: a function that reads them in batches, and their labels."""
        labels = classes_in_turn(count, self.shared.num_classes) if self.labels else None
        facts = {"model": self.system.preset, "weights_sha256": fingerprint(self.model), "sampling": sampling, "seed": seed}
        own = "" if self.system.weights is None else f"_{self.name}"
        samples = SampleFolder(self.folder / f"{folder}{own}", facts)
        samples.draw(lambda classes, seeds: self._generate(classes, seeds, sampling), labels, count, seed=seed)

        def batches():
            for start in range(0, count, work.READ):
                yield samples.read(labels, range(start, min(start + work.READ, count)))

        return batches, labels

    def _measured(self, sampling: dict, folder: str) -> dict:
        pictures, labels = self._draw(sampling, folder, self.args.images, self.seed * 10**5)
        network, facts = self.shared.judge
        samples, own = work.network_outputs(network, pictures())
        found = work.report(
            network,
            (samples, {"sampling": sampling, **own}),
            self.shared.reference,
            self.shared.settings_of_metrics(),
            labels=labels,
            floor=self.shared.test,
            ceiling=self.shared.ceiling(self.system.tokenizer, self.model),
        )
        return {**found, "judge_accuracy": facts["test_accuracy"]}
