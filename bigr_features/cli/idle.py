"""Options that do nothing beside another one are refused: who gives them expects an effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from ..sampling.settings import SamplingSettings


class Rule(NamedTuple):
    """Options, what they need, and whether settings have it."""

    names: tuple[str, ...]
    needs: str
    holds: Callable[[Any], bool]


_READING = ("model", "layer", "random", "weights", "model_args", "batch_size", "num_workers")
_GUIDANCE = ("guidance_scale", "guidance_schedule", "guidance_interval", "guidance_power")
# what each option of a probe belongs to
_OF_PROBES = {
    "Cs": ("exact",), "base_lrs": ("mae",), "batch_size": ("mae",), "epochs": ("mae",), "warmup_epochs": ("mae",), "heads": ("attentive",),
    "queries": ("efficient",), "token_lrs": ("attentive", "efficient"), "token_epochs": ("attentive", "efficient"),
    "max_memory": ("exact", "mae", "attentive", "efficient"), "together": ("exact", "mae"), "k": ("knn",), "whiten": ("knn",),
    "score": ("retrieval",),
}  # fmt: skip


def _protocol_in(users: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda c: c.protocol in users


def _some_probe_in(users: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda c: not set(users).isdisjoint(c.probes)


_GUMBEL = Rule(("gumbel_schedule",), "--gumbel-temperature above 0", lambda c: c.gumbel_temperature > 0)
_NO_GUIDANCE = Rule(("guidance_schedule", "guidance_interval"), "--guidance-scale above 1", lambda c: c.guidance_scale > 1)
_LABELLED = Rule(_GUIDANCE, "--labels or --text", lambda c: bool(c.labels or c.text or c.negative_text))
_POWER = Rule(("guidance_power",), "--guidance-schedule power_cosine", lambda c: c.guidance_schedule == "power_cosine")
_NEGATIVE = Rule(("negative_text",), "--guidance-scale above 1", lambda c: c.guidance_scale > 1)
_DRAWN = [_GUMBEL, _NO_GUIDANCE, _POWER]
_SAMPLING = tuple(field.name for field in dataclasses.fields(SamplingSettings))

RULES: dict[str, list[Rule]] = {
    "train-tokenizer": [
        Rule(("perceptual_weight",), "--perceptual", lambda c: c.perceptual != "off"),
        Rule(
            ("adversarial_start", "discriminator_width", "discriminator_depth", "discriminator_learning_rate"),
            "--adversarial-weight above 0",
            lambda c: c.adversarial_weight > 0,
        ),
    ],
    "train": [
        Rule(("split", "flip", "sample_bits", "num_workers"), "--source", lambda c: c.source is not None),
        Rule(
            ("num_samples", "sample_reveal_steps", "sample_denoise_steps", "guidance_scale"),
            "--sample-every above 0",
            lambda c: c.sample_every > 0,
        ),
        Rule(("guidance_scale",), "labels (--no-unconditional)", lambda c: not c.unconditional),
        Rule(("captions", "caption_column", "caption_cache", "sample_prompts"), "--text", lambda c: c.captioned),
        Rule(("captions",), "--codes (the captions of --source come from it)", lambda c: c.codes is not None),
        Rule(("sample_prompts",), "--sample-every above 0", lambda c: c.sample_every > 0),
    ],
    "encode": [Rule(("seed",), "--sample-bits", lambda c: c.sample_bits)],
    "extract": [
        Rule(("split", "image_size", "sample_bits"), "--source", lambda c: c.source is not None),
        Rule(("ray_gpus",), "--ray", lambda c: c.ray > 0),
        Rule(("device",), "--ray 0 (Ray places its workers itself)", lambda c: c.ray == 0),
    ],
    "probe": [
        Rule((name,), f"--protocol {' or '.join(users)}", _protocol_in(users))
        for name, users in _OF_PROBES.items()
        if name not in ("k", "whiten", "score")
    ],
    "sweep": [Rule((name,), f"{' or '.join(users)} among --probes", _some_probe_in(users)) for name, users in _OF_PROBES.items()],
    "plot": [
        Rule(("perplexity", "backend"), "--method tsne", lambda c: c.method == "tsne"),
        Rule(("n_neighbors",), "--method umap", lambda c: c.method == "umap"),
        Rule(("images", "thumbnails"), "--html", lambda c: c.html is not None),
        Rule(("images",), "--thumbnails", lambda c: c.thumbnails),
    ],
    "index": [
        Rule((*_READING, "split", "limit", "pooling", "commit_every"), "--source", lambda c: c.store is None),
        Rule(("feature",), "--store", lambda c: c.store is not None),
    ],
    "search": [
        Rule(tuple(name for name in _READING if name not in ("batch_size", "num_workers")), "image files", lambda c: bool(c.queries)),
        Rule(("combine",), "image files or --ids", lambda c: c.by_class is None),
    ],
    "serve": [Rule(("weights", "model_args"), "--model (it is none)", lambda c: c.model != "none")],
    "generate": [
        *_DRAWN,
        _NEGATIVE,
        Rule(_GUIDANCE, "classes (no --unconditional)", lambda c: not c.unconditional or c.negative_text is not None),
        Rule(("num_per_label",), "classes (no --unconditional)", lambda c: not c.unconditional),
    ],
    "interpolate": [*_DRAWN, _NEGATIVE, Rule(("num_images",), "a way between classes (no --mixture)", lambda c: not c.mixture)],
    "inpaint": [*_DRAWN, _NEGATIVE, _LABELLED],
    "outpaint": [*_DRAWN, _NEGATIVE, _LABELLED],
    "edit": [*_DRAWN, _NEGATIVE],
    "enrich": [*_DRAWN, _NEGATIVE, _LABELLED],
    "evaluate-generation": [
        Rule(("weights", "model_args", "unconditional", *_SAMPLING), "--model", lambda c: bool(c.model)),
        *_DRAWN,
        Rule(("foreign_reference",), "--reference", lambda c: c.reference is not None),
        Rule(("split", "limit"), "a reference made of the data (no --reference)", lambda c: c.reference is None),
        Rule(("test_split",), "a data set", lambda c: bool(c.data)),
    ],
}


def refuse_idle(command: str, settings) -> None:
    """Refuse an option that differs from its default though what it needs is not asked for.

    Raises
    ------
    ValueError
        Naming the option, its value and what it needs.
    """
    defaults = {field.name: _default(field) for field in dataclasses.fields(settings)}
    for rule in RULES.get(command, ()):
        for name in rule.names:
            value = getattr(settings, name)
            if value != defaults[name] and not rule.holds(settings):
                raise ValueError(f"{_option(name, value)} has no effect without {rule.needs}; leave it out, or give that too.")


def _default(field: dataclasses.Field):
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _option(name: str, value) -> str:
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{dashed}" if value else f"--no-{dashed}"
    return f"--{dashed} {' '.join(map(str, value)) if isinstance(value, tuple | list) else value}"
