"""One row of `uniformity.py`: a system with a seed, trained, sampled, timed and probed; and what rows share.

n images, N tokens, D features
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import timm
import torch
from judge import train_judge

from bigr_features.checkpoints import fingerprint
from bigr_features.data import open_images
from bigr_features.evaluate.attentive_probe import AttentiveProbe
from bigr_features.evaluate.generation import MetricSettings
from bigr_features.evaluate.knn import KNNClassifier
from bigr_features.evaluate.linear_probe import LinearProbe
from bigr_features.evaluate.reports import environment, evaluation_result, write_json
from bigr_features.evaluate.selection import choose
from bigr_features.features import extract_features
from bigr_features.features import generation_evaluation as work
from bigr_features.features.metric_network import metric_network
from bigr_features.features.picture_sets import PictureSet
from bigr_features.features.sample_folder import SampleFolder, classes_in_turn
from bigr_features.models.presets import TOKENIZERS, preset_configs
from bigr_features.storage.atomic import replacing
from bigr_features.train.code_cache import encode
from bigr_features.train.generator import train
from bigr_features.train.settings import EncodeConfig, TrainConfig, TrainTokenizerConfig
from bigr_features.train.tokenizer import train_tokenizer

log = logging.getLogger(__name__)
KEPT_FOR_PICTURE = 2_000  # test images whose features are kept for the t-SNE


class Shared:
    """What all rows of a data set stand on: judge, reference, tokenizers, codes, real images. Each is made when it is first needed."""

    def __init__(self, args, systems: dict):
        self.args, self.systems = args, systems
        self.folder: Path = args.work

    @cached_property
    def judge(self):
        """The judge network, and the content of its judge.json."""
        args = self.args
        facts = train_judge(args.dataset, self.folder / "judge", epochs=args.judge_epochs, limit=args.limit, test=args.test_split)
        return metric_network("judge_cnn", self.folder / "judge" / "judge.safetensors", batch_size=256), facts

    @cached_property
    def reference(self):
        """ReferenceOutputs of the training images, and their facts."""
        log.info("features of the training images by the judge")
        return work.reference_outputs(self.judge[0], PictureSet(self.args.dataset, "train", self.size, self.args.limit))

    @cached_property
    def test(self):
        """Outputs of as many real test images as a row has, and their facts."""
        pictures = PictureSet(self.args.dataset, self.args.test_split, self.size, min(self.args.images, self.args.limit or 10**9))
        outputs, facts = work.network_outputs(self.judge[0], (batch for batch, _ in pictures.batches(work.READ)))
        return outputs, {"what": "real test images", **facts}

    @property
    def size(self) -> int:
        return TOKENIZERS["bigr_nano"].image_size

    @cached_property
    def real(self) -> dict[str, tuple[torch.Tensor, np.ndarray]]:
        """Pixels (n, 3, S, S) in [0, 1] and labels (n,) of the training and the test images, for the probes."""
        found = {}
        for name, split in (("train", "train"), ("test", self.args.test_split)):
            images = open_images(self.args.dataset, split, size=self.size, limit=self.args.limit)
            if images.labels is None:
                raise ValueError(f"{self.args.dataset} (split {split!r}) has no labels, and accuracy needs them.")
            pixels = images.read(np.arange(len(images)))[0]
            found[name] = torch.from_numpy(pixels).permute(0, 3, 1, 2), images.labels
        return found

    def settings_of_metrics(self) -> MetricSettings:
        """Distances of a trial have too few images, and are mostly bias: said in the row."""
        few = min(self.args.images, len(self.reference[0].pooled)) < 2 * self.judge[0].model.num_features
        return MetricSettings(few_samples=few, resamples=self.args.resamples)

    def codes(self, system) -> tuple[Path, Path]:
        """Tokenizer and cache of codes of a system, made once for all that share them."""
        args, folder = self.args, self.folder / f"tokenizer_{system.tokenizer}"
        config = preset_configs(system.preset, **system.changes)[0]
        settings = TrainTokenizerConfig(
            source=args.dataset,
            out=folder,
            preset=system.preset,
            model=config,
            limit=args.limit,
            steps=args.tokenizer_steps,
            batch_size=args.batch_size,
            warmup_steps=min(200, args.tokenizer_steps // 10),
            **_of_training(args, args.tokenizer_steps),
        )
        if not (folder / "model" / "model.safetensors").is_file():
            with core_seconds(folder):
                train_tokenizer(replace(settings, resume=(folder / "checkpoints").is_dir()))
        out = self.folder / f"codes_{system.tokenizer}"
        encode(EncodeConfig(tokenizer=folder / "model", source=args.dataset, out=out, views="flip", limit=args.limit, device="cpu"))
        return folder / "model", out


class Row:
    """A system with a seed.

    Parameters
    ----------
    shared : Shared
    name : str
        Of the system.
    system : System
    seed : int
    """

    PARTS = ("training", "generation", "chosen", "speed", "probes")

    def __init__(self, shared: Shared, name: str, system, seed: int):
        self.shared, self.args, self.name, self.system, self.seed = shared, shared.args, name, system, seed
        self.folder = shared.folder / f"{name}_seed{seed}"
        self.path = shared.folder / "rows" / f"{name}_seed{seed}.json"

    def run(self, parts: list[str]) -> None:
        """Do what the row does not have yet, and write it after each part."""
        args = self.args
        names = ("name", "steps", "tokenizer_steps", "batch_size", "learning_rate", "images", "limit", "judge_epochs")
        settings = {name: getattr(args, name) for name in names}
        row = {"system": self.name, "preset": self.system.preset, "seed": self.seed, "settings": settings, "parts": {}}
        if self.path.is_file():
            found = json.loads(self.path.read_text())
            if found["settings"] != settings:
                raise ValueError(f"{self.path} was made with {found['settings']}, now {settings}; give another --work folder.")
            row = found
        self._train()
        for part in self.PARTS:
            if part in parts and part not in row["parts"]:
                log.info("%s, seed %d: %s", self.name, self.seed, part)
                row["parts"][part] = getattr(self, f"_{part}")()
                row["environment"] = environment()
                write_json(self.path, row)

    def _train(self) -> None:
        args = self.args
        if (self.folder / "model" / "model.safetensors").is_file():
            return
        tokenizer, codes = self.shared.codes(self.system)
        settings = TrainConfig(
            tokenizer=tokenizer,
            out=self.folder,
            codes=codes,
            preset=self.system.preset,
            model=preset_configs(self.system.preset, **self.system.changes, generator_num_classes=self._num_classes())[1],
            steps=args.steps,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            warmup_steps=min(args.warmup_steps, args.steps // 10),
            schedule="cosine",
            ema_decay=0.999,
            sample_every=0,
            seed=self.seed,
            **_of_training(args, args.steps),
        )
        with core_seconds(self.folder):
            train(replace(settings, resume=(self.folder / "checkpoints").is_dir()))

    def _num_classes(self) -> int:
        return int(self.shared.real["train"][1].max()) + 1

    @cached_property
    def model(self):
        """The trained backbone."""
        overlay = {"file": str(self.folder)}
        classes = {"generator_num_classes": self._num_classes()}
        options = {"pretrained": True, "pretrained_cfg_overlay": overlay, "num_classes": 0}
        return timm.create_model(self.system.preset, **options, **self.system.changes, **classes).eval()

    # ------------------------------------------------------------------------------------------------------- parts of a row

    def _training(self) -> dict:
        generator = self.model.generator
        trunk = sum(p.numel() for p in generator.trunk.parameters())
        tokenizer_cost = _cost(self.shared.folder / f"tokenizer_{self.system.tokenizer}")
        return {
            "trunk_parameters": trunk,
            "generator_parameters": sum(p.numel() for p in generator.parameters()),
            "tokenizer_parameters": sum(p.numel() for p in self.model.tokenizer.parameters()),
            "core_seconds": _cost(self.folder),
            "tokenizer_core_seconds": tokenizer_cost,
            "images_seen": self.args.steps * self.args.batch_size,
            "weights_sha256": fingerprint(self.model),
        }

    def _generation(self) -> dict:
        return self._measured(self.system.sampling, "images")

    def _chosen(self) -> dict:
        """Sampling settings that bring images of other seeds nearest to the training images; measured as the others are."""
        (reference, _), network = self.shared.reference, self.shared.judge[0]
        quick = MetricSettings(few_samples=True, resamples=0)
        tried = []
        for values in itertools.product(*self.system.choices.values()):
            choice = {**self.system.sampling, **dict(zip(self.system.choices, values, strict=True))}
            pictures, _ = self._draw(choice, f"images_choice_{len(tried)}", self.args.choice_images, seed=10**6 + self.seed)
            outputs, _ = work.network_outputs(network, pictures())
            distance = work.generation_metrics(outputs, replace(reference, pooled=None), quick)["frechet"]["value"]
            tried.append({"settings": choice, "frechet_to_training_images": distance})
            log.info("%s: %.3f", choice, distance)
        best = min(tried, key=lambda entry: entry["frechet_to_training_images"])
        return {**self._measured(best["settings"], "images_chosen"), "tried": tried}

    def _speed(self) -> dict:
        """Seconds an image, best of three, a batch of 16 on the threads of this run."""
        labels, found = torch.arange(16) % self._num_classes(), []
        for i in range(3):
            started = time.perf_counter()
            self.model.generate(labels, generator=torch.Generator().manual_seed(i), **self.system.sampling)
            found.append((time.perf_counter() - started) / 16)
        return {"seconds_per_image": min(found), "batch": 16, "threads": torch.get_num_threads(), "all": found}

    def _probes(self) -> dict:
        """Accuracies of linear probes at the middle layer and at the layer held-out images choose, of k-NN, and of the attentive probe."""
        (train, labels), (test, test_labels) = self.shared.real["train"], self.shared.real["test"]
        features = [self._features(images) for images in (train, test)]
        middle = self.model.feature_layer
        np.savez_compressed(
            self.folder / "middle.npz",
            features=features[1][middle][:KEPT_FOR_PICTURE].astype(np.float16),
            labels=test_labels[:KEPT_FOR_PICTURE],
        )
        layers = {str(layer): layer for layer in features[0]}
        few = np.bincount(labels).min()
        found = {"middle_layer": middle, "layers": len(layers)}
        neighbors = tuple(k for k in (10, 20, 100) if k <= 0.8 * len(labels))

        def tested(choice, layer: int, votes: bool = False) -> dict:
            scores = choice.estimator.predict_proba(features[1][layer])
            result = evaluation_result(scores, test_labels, choice.estimator.classes_, {}, votes)
            kept = ("top1", "top1_interval", "top5", "top5_interval")
            return {"layer": layer, **{name: result[name] for name in kept}, **choice.rows[choice.name]}

        linear = LinearProbe(Cs=(0.001, 0.01, 0.1, 1.0, 10.0))
        choice = choose({str(middle): (linear, features[0][middle])}, labels, seed=0)
        found["linear_middle"] = tested(choice, middle)
        choice = choose({name: (linear, features[0][layer]) for name, layer in layers.items()}, labels, seed=0)
        found["linear_chosen"] = {**tested(choice, layers[choice.name]), "held_out": choice.rows}
        knn = KNNClassifier(neighbors, 0.07)
        choice = choose({name: (knn, features[0][layer]) for name, layer in layers.items()}, labels, seed=0)
        found["knn"] = tested(choice, layers[choice.name], votes=True)
        found["attentive"] = self._attentive(middle, labels, test_labels)
        found["smallest_class"] = int(few)
        return found

    def _attentive(self, layer: int, labels: np.ndarray, test_labels: np.ndarray) -> dict:
        train, test = (self._tokens(self.shared.real[name][0], layer, self.folder / f"tokens_{name}.npy") for name in ("train", "test"))
        try:
            probe = AttentiveProbe(lrs=(1e-3,), epochs=(10,)).fit(train, labels)
            logits = probe.logits(test)
        finally:
            for name in ("train", "test"):
                (self.folder / f"tokens_{name}.npy").unlink(missing_ok=True)
        result = evaluation_result(np.asarray(logits), test_labels, probe.classes_, {})
        return {"layer": layer, **{name: result[name] for name in ("top1", "top1_interval", "top5", "top5_interval")}}

    # ------------------------------------------------------------------------------------------------------------- tools

    def _features(self, images: torch.Tensor) -> dict[int, np.ndarray]:
        parts = [extract_features(self.model, part.float() / 255, progress=False) for part in images.split(4096)]
        return {layer: np.concatenate([part[layer] for part in parts]) for layer in parts[0]}

    @torch.no_grad()
    def _tokens(self, images: torch.Tensor, layer: int, path: Path) -> np.ndarray:
        """Tokens (n, N, D) of a layer, float16 on disk."""
        with replacing(path) as temporary:
            out = None
            for start in range(0, len(images), 256):
                part = images[start : start + 256].float() / 255
                options = {"indices": [layer], "output_fmt": "NLC", "intermediates_only": True, "stop_early": True}
                tokens = self.model.forward_intermediates(part, **options)[0].numpy()
                if out is None:
                    out = np.lib.format.open_memmap(temporary, "w+", np.float16, (len(images), *tokens.shape[1:]))
                out[start : start + 256] = tokens
            out.flush()
        return np.load(path, mmap_mode="r")

    def _draw(self, sampling: dict, folder: str, count: int, seed: int) -> tuple[Callable, np.ndarray]:
        """Images of these settings, in a folder that goes on where it was: a function that reads them in batches, and their labels."""
        labels = classes_in_turn(count, self._num_classes())
        facts = {"model": self.system.preset, "weights_sha256": fingerprint(self.model), "sampling": sampling, "seed": seed}
        samples = SampleFolder(self.folder / folder, facts)

        def generate(own, seeds):
            return self.model.generate(torch.from_numpy(own), seeds=seeds, **sampling)

        samples.draw(generate, labels, count, seed=seed)

        def batches():
            for start in range(0, count, work.READ):
                yield samples.read(labels, range(start, min(start + work.READ, count)))

        return batches, labels

    def _measured(self, sampling: dict, folder: str) -> dict:
        pictures, labels = self._draw(sampling, folder, self.args.images, self.seed * 10**5)
        network, facts = self.shared.judge
        samples, own = work.network_outputs(network, pictures())
        test = PictureSet(self.args.dataset, self.args.test_split, self.shared.size, len(self.shared.test[0]))
        decoded = work.network_outputs(network, work.decoded(self.model, (batch for batch, _ in test.batches(work.READ))))
        found = work.report(
            network,
            (samples, {"sampling": sampling, **own}),
            self.shared.reference,
            self.shared.settings_of_metrics(),
            labels=labels,
            floor=self.shared.test,
            ceiling=(decoded[0], {"what": "decoded real codes", **decoded[1]}),
        )
        return {**found, "judge_accuracy": facts["test_accuracy"]}


@contextmanager
def core_seconds(folder: Path):
    """Adds the processor time spent inside to the folder's cost.json, also where it is interrupted."""
    started = time.process_time()
    try:
        yield
    finally:
        if folder.is_dir():
            write_json(folder / "cost.json", {"core_seconds": _cost(folder) + time.process_time() - started})


def _cost(folder: Path) -> float:
    path = folder / "cost.json"
    return json.loads(path.read_text())["core_seconds"] if path.is_file() else 0.0


def _of_training(args, steps: int) -> dict:
    every = max(1, min(500, steps // 4))
    rows = {"validate_every": every, "checkpoint_every": every, "validation": min(1_000, (args.limit or 10**9) // 10)}
    return {**rows, "trackers": (), "device": "cpu", "threads": args.threads}
