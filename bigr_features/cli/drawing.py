"""What all commands that draw pictures share: the model, progress, and how results are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ..data.pixels import to_pil
from ..functional.inference import autocast
from ..functional.precision import choose_precision
from ..functional.printing import one_line
from ..functional.progress import progress
from ..plots import pictures
from ..sampling.noise import check_seed
from ..sampling.settings import SamplingSettings
from .classes import class_number
from .conditions import check_prompted
from .drawing_options import DrawingConfig

CLASSED, CAPTIONED = "bigr_nano.fashion_mnist", "bigr_nano_t2i.fashion_mnist"  # models where none is named


C = TypeVar("C", bound=DrawingConfig)


class Session(Generic[C]):
    """One run of a command: the model and its name, its settings, labels as numbers, and the steps that were seen of the first image."""

    def __init__(self, config: C, command: str, model, name: str, class_names: Sequence[str] | None = None):
        self.config, self.command, self.model, self.name, self.class_names = config, command, model, name, class_names
        asked = () if model.generator.config.text is not None else getattr(config, "labels", ())
        self.labels = [class_number(str(label), class_names) for label in asked]
        self.null_class = model.generator.null_class
        generator = model.generator.config
        if (config.strip or config.gif) and (generator.causal or generator.categorical):
            raise ValueError(
                f"--strip and --gif show how bits are revealed where they are surest, but {name} draws "
                f"{'one token after the other' if generator.causal else 'classes'}; leave them out, or take bigr_l, bigr_nano, ..."
            )
        self.settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(SamplingSettings)}
        self.steps: list = []
        self.seeds: list[int] = []

    def title(self, label: int) -> str:
        """Name of a class for a caption; "class 3" where classes have no names."""
        names = self.class_names or ()
        return one_line(names[label]) if label < len(names) else f"class {label}"

    def draw(self, count: int, function: Callable[[slice, dict], Tensor], *, seeds: Sequence[int] | None = None, passes: int = 1) -> Tensor:
        """Images of `function(part, settings)` for parts of `count` images, under a progress bar.

        Parameters
        ----------
        function : callable
            Takes a slice of the images and the settings for `sample_codes`, seeds and on_step among them; gives images.
        passes : int
            How often `function` goes through all reveal steps.
        """
        self.seeds = [check_seed(self.config.seed + i) for i in range(count)] if seeds is None else [check_seed(seed) for seed in seeds]
        parts = [slice(start, min(start + self.config.batch_size, count)) for start in range(0, count, self.config.batch_size)]
        generator = self.model.generator.config
        steps = generator.num_tokens if generator.causal else self.settings["num_reveal_steps"] or SamplingSettings.num_reveal_steps
        images: list[Tensor] = []
        seen: list = []
        device = next(self.model.parameters()).device
        choose_precision(self.config.precision, device, self.model.generator)  # says where it is the slow one
        with autocast(device, self.config.precision), progress(total=len(parts) * passes * steps, unit="step", desc=self.command) as bar:

            def on_step(step) -> None:
                seen.append(step.step)
                finished = min(passes - 1, sum(later <= earlier for earlier, later in pairwise(seen)))
                bar.update(max(0, (len(images) * passes + finished) * steps + step.step + 1 - bar.n))
                if not images and (self.config.strip or self.config.gif):
                    self.steps.append(step)

            for part in parts:
                images.append(function(part, {**self.settings, "seeds": self.seeds[part], "on_step": on_step}).float().cpu())
                seen.clear()
                bar.update(len(images) * passes * steps - bar.n)
        return torch.cat(images)

    def save(self, picture, images: Tensor, names: Sequence[str] | None = None, **facts) -> None:
        """Write the picture, and what else the options ask for, and say so."""
        from ..sampling.process import frames_of, reveal_animation, reveal_strip

        config = self.config
        record = {**self.record(), **facts}
        pictures.save_png(config.out, picture, {**record, "seeds": self.seeds})
        written = [config.out]
        if config.results is not None:
            names = names if names is not None else [f"{i:04d}" for i in range(len(images))]
            for i, (name, image) in enumerate(zip(names, to_pil(images), strict=True)):
                own = {key: value[i] if isinstance(value, list) and len(value) == len(images) else value for key, value in facts.items()}
                pictures.save_png(config.results / f"{name}.png", image, {**self.record(), **own, "seed": self.seeds[i]})
            written.append(f"{len(images)} images in {config.results}")
        if config.strip or config.gif:
            frames = frames_of(self.model, self.steps)
            if config.strip:
                pictures.save_png(config.strip, reveal_strip(frames), {**record, "seed": self.seeds[0]})
                written.append(str(config.strip))
            if config.gif:
                pictures.save_gif(config.gif, reveal_animation(frames))
                written.append(str(config.gif))
        print("wrote " + ", ".join(written))

    def record(self) -> dict:
        """What a picture needs to be made again."""
        from importlib.metadata import version

        from ..checkpoints import fingerprint

        if not hasattr(self, "_identity"):
            self._identity = {"version": version("bigr-features"), "weights_sha256": fingerprint(self.model)}
        steps = self.settings["num_reveal_steps"] or SamplingSettings.num_reveal_steps
        return {
            "command": self.command,
            "model": " ".join([self.name, *self.config.model_args]),
            **self._identity,
            **self.settings,
            "num_reveal_steps": steps,
            "precision": self.config.precision,
        }


def session(config: C, command: str) -> Session[C]:
    """Check where results go, then load the model."""
    for name, suffix in (("out", ".png"), ("strip", ".png"), ("gif", ".gif")):
        path = getattr(config, name)
        if path is not None and Path(path).suffix.lower() != suffix:
            raise ValueError(f"--{name} {path} does not end in {suffix}.")
    if config.batch_size < 1:
        raise ValueError(f"--batch-size {config.batch_size} was given; give 1 or more.")
    check_seed(config.seed)
    if config.threads:
        torch.set_num_threads(config.threads)
    name = config.model or (CAPTIONED if config.text else CLASSED)
    model = load_generator(name, config.weights, config.device, config.model_args)
    check_prompted(config, model, name)
    if config.text_encoder is not None:
        _attach(model, name, config.text_encoder)
    return Session(config, command, model, name, names_of_classes(name, config.weights))


def _attach(model, name: str, path: str) -> None:
    """Give a model of captions the text encoder that an option names."""
    text = model.generator.config.text
    if text is None or text.own:
        raise ValueError(f"--text-encoder {path} was given, but {name} reads no features of an encoder; leave it out.")
    from ..models.text_encoders import load_text_encoder

    encoder = load_text_encoder(path, length=text.length, layer=text.layer)
    model.generator.attach_text_encoder(encoder.to(next(model.parameters()).device))


def names_of_classes(name: str, weights: Path | None) -> list[str] | None:
    """Names of the classes of a generator, by number, where its weights know them."""
    import timm

    from ..checkpoints import class_names_of

    path = weights if weights is not None else getattr(timm.get_pretrained_cfg(name), "file", None)
    return None if path is None else class_names_of(path)


def load_generator(name: str, weights: Path | None, device: str, arguments: Sequence[str] = ()):
    """The bigr model of timm of this name, with its own weights or those given, on its device and in eval mode.

    Raises
    ------
    ValueError
        For a model that does not generate, or has no weights.
    """
    import timm

    from ..backbones.weights import load_weights
    from ..functional.inference import local_device
    from .models import parse_arguments

    check_generator(name, weights)
    given = parse_arguments(tuple(arguments))
    model = timm.create_model(name, pretrained=True, **given) if weights is None else load_weights(name, weights, **given)
    return model.to(local_device(device)).eval()


def check_generator(name: str, weights: Path | None) -> None:
    """Raise ValueError for a model that does not generate, or has no weights; nothing is loaded."""
    import timm

    from .models import weights_there

    known = timm.list_models(module="bigr")
    if name.split(".")[0] not in known:
        raise ValueError(f"--model {name} is no generator; choose one of {', '.join(known)}.")
    if weights is None and not timm.is_model_pretrained(name):
        raise ValueError(f"{name} has no weights of its own; {weights_there(name)}, or give --weights.")
    if weights is not None and not Path(weights).exists():
        raise FileNotFoundError(f"--weights {weights} is not there.")


def no_null(labels: Sequence[int], run: Session, what: str) -> None:
    """Labels must be classes; the null class is named for what it is."""
    for label in labels:
        if label == run.null_class:
            raise ValueError(f"label {label} is the null class, which stands for no class; {what} needs one of 0..{run.null_class - 1}.")
        if not 0 <= label < run.null_class:
            raise ValueError(f"label {label} is out of range; {run.name} has the classes 0..{run.null_class - 1}.")
