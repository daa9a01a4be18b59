"""The timm entries: `import bigr_features`, then `timm.create_model("bigr_l")`."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._builder import resolve_pretrained_cfg
from timm.models._manipulate import adapt_input_conv
from torch import Tensor

from .. import checkpoints
from ..models.config import GeneratorConfig
from ..models.presets import PRESETS, is_preset_field, preset_configs
from .backbone import LEARNED_POSITIONS, BiGRBackbone, drop_generative_entries, resample_positions

__all__ = list(PRESETS)

log = logging.getLogger(__name__)

OFFICIAL_HUB_ID = "haoosz/BiGR"
# generator file on the Hub: the tokenizer file it was trained with
OFFICIAL_TOKENIZERS = {
    "gpt/bigr_L_d24.pt": "bae/bae_d24/binaryae_ema_1000000.th",
    "gpt/bigr_XL_d24.pt": "bae/bae_d24/binaryae_ema_1000000.th",
    "gpt/bigr_XXL_d24.pt": "bae/bae_d24/binaryae_ema_1000000.th",
    "gpt/bigr_XXL_d32.pt": "bae/bae_d32/binaryae_ema_950000.th",
    "gpt/bigr_L_d32_512.pt": "bae/bae_d32_512/binaryae_ema_720000.th",
}


def _cfg(**kwargs) -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 0,
        "input_size": (3, 256, 256),
        "fixed_input_size": True,
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "first_conv": "tokenizer.encoder.blocks.0",
        "classifier": "head",
        "license": "mit",
        "paper_name": "BiGR: Harnessing Binary Latent Codes for Image Generation and Improved Visual Representation Capabilities",
        "paper_ids": "arXiv:2410.14672",
        **kwargs,
    }


def _official(filename: str, **kwargs) -> dict[str, Any]:
    origin = "https://github.com/haoosz/BiGR"
    return _cfg(hf_hub_id=OFFICIAL_HUB_ID, hf_hub_filename=filename, origin_url=origin, **kwargs)


def _shipped(folder: str, **kwargs) -> dict[str, Any]:
    return _cfg(file=str(files("bigr_features") / "assets" / "bigr_nano" / folder), **kwargs)


default_cfgs = generate_default_cfgs(
    {
        "bigr_l.d24_in1k": _official("gpt/bigr_L_d24.pt"),
        "bigr_xl.d24_in1k": _official("gpt/bigr_XL_d24.pt"),
        "bigr_xxl.d24_in1k": _official("gpt/bigr_XXL_d24.pt"),
        "bigr_xxl_d32.in1k": _official("gpt/bigr_XXL_d32.pt"),
        "bigr_l_512.d32_in1k": _official("gpt/bigr_L_d32_512.pt", input_size=(3, 512, 512)),
        "bigr_nano.fashion_mnist": _shipped("fashion_mnist", input_size=(3, 32, 32)),
        "bigr_nano.fashion_mnist_uncond": _shipped("fashion_mnist_uncond", input_size=(3, 32, 32)),
    }
)


@register_model
def bigr_l(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """BiGR-L on 24-bit codes: 24 blocks, width 1024, 16 heads; 256 x 256 images, 16 x 16 tokens."""
    return _create_backbone("bigr_l", pretrained, **kwargs)


@register_model
def bigr_xl(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """BiGR-XL on 24-bit codes: 36 blocks, width 1280, 20 heads; 256 x 256 images, 16 x 16 tokens."""
    return _create_backbone("bigr_xl", pretrained, **kwargs)


@register_model
def bigr_xxl(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """BiGR-XXL on 24-bit codes: 48 blocks, width 1536, 24 heads; 256 x 256 images, 16 x 16 tokens."""
    return _create_backbone("bigr_xxl", pretrained, **kwargs)


@register_model
def bigr_xxl_d32(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """BiGR-XXL on 32-bit codes; otherwise as bigr_xxl."""
    return _create_backbone("bigr_xxl_d32", pretrained, **kwargs)


@register_model
def bigr_l_512(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """BiGR-L on 32-bit codes of 512 x 512 images, 32 x 32 tokens; a transcoder of 6 blocks and width 1280."""
    return _create_backbone("bigr_l_512", pretrained, **kwargs)


@register_model
def bigr_nano(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """A BiGR small enough to train on a laptop: 32 x 32 images, 8 x 8 tokens of 16 bits."""
    return _create_backbone("bigr_nano", pretrained, **kwargs)


def _create_backbone(arch: str, pretrained: bool, **kwargs) -> BiGRBackbone:
    """Build the model of a preset, with any field of its configurations changed by keyword, and load its weights."""
    if "drop_path_rate" in kwargs:
        kwargs["drop_path"] = kwargs.pop("drop_path_rate")
    changes = {name: kwargs.pop(name) for name in list(kwargs) if is_preset_field(name)}
    tokenizer, generator = preset_configs(arch, **changes)
    out_indices = kwargs.pop("out_indices", 3)
    filter_fn, parts = checkpoint_filter_fn, None
    if pretrained:
        sources = {name: kwargs.get(name) for name in ("pretrained_cfg", "pretrained_cfg_overlay")}
        parts = read_parts(resolve_pretrained_cfg(arch, **sources).to_dict(), generator, kwargs.get("cache_dir"))
    if parts is not None:
        if parts.trained_as is not None:
            _check_same_function(parts.trained_as, generator)
            if parts.trained_as.unconditional:
                generator = replace(generator, class_dropout=1.0)
        # what was read here goes in through timm's filter, in place of a source that timm would read itself
        overlay = dict(kwargs.get("pretrained_cfg_overlay") or {}, state_dict={"parts": torch.empty(0)})
        classifier = parts.state.get("head.weight")
        if classifier is not None and len(classifier) == kwargs.get("num_classes", 0):
            overlay["num_classes"] = len(classifier)  # otherwise timm would leave it out
        kwargs["pretrained_cfg_overlay"] = overlay

        def filter_fn(_, model):
            return checkpoint_filter_fn(parts.state, model)

    model = build_model_with_cfg(
        BiGRBackbone,
        arch,
        pretrained,
        pretrained_filter_fn=filter_fn,
        feature_cfg={"out_indices": out_indices, "feature_cls": "getter"},
        tokenizer=tokenizer,
        generator=generator,
        **kwargs,
    )
    model.pretrained_cfg.pop("state_dict", None)
    return model


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: BiGRBackbone) -> dict[str, Tensor]:
    """A whole model's weights, fitted to this model's parts, channels and grid; what then still differs is an error that names it."""
    state = drop_generative_entries(dict(state_dict), model)
    if "head.weight" in state and len(state["head.weight"]) != model.num_classes:
        log.warning(
            "left out the classifier of the checkpoint, %d classes; this model has %d", len(state["head.weight"]), model.num_classes
        )
        state = {key: value for key, value in state.items() if not key.startswith("head.")}
    config = model.tokenizer.config
    last = max((int(key.split(".")[3]) for key in state if key.startswith("tokenizer.decoder.blocks.")), default=None)
    if last is not None:
        for part in ("weight", "bias"):
            key = f"tokenizer.decoder.blocks.{last}.{part}"
            state[key] = _adapt_output_channels(state[key], config.in_chans)
    for positions in (f"generator.{name}" for name in LEARNED_POSITIONS):
        if positions in state:
            state[positions] = resample_positions(state[positions], model.generator.config.grid_size)
    compared = {key: value for key, value in state.items() if not key.startswith("head.")}
    first = "tokenizer.encoder.blocks.0.weight"
    if first in compared and compared[first].dim() == 4 and compared[first].shape[1] != config.in_chans:
        compared[first] = adapt_input_conv(config.in_chans, compared[first], base_chans=compared[first].shape[1])
    expected = {key: value for key, value in model.state_dict().items() if not key.startswith("head.")}
    checkpoints.check_state(compared, expected, "the checkpoint")
    return state


def _adapt_output_channels(value: Tensor, channels: int) -> Tensor:
    """Weights or bias of the decoder's last convolution for another number of channels: one is the mean, more repeat in turn."""
    if value.shape[0] == channels:
        return value
    if channels == 1:
        return value.mean(0, keepdim=True)
    return value[torch.arange(channels) % value.shape[0]]


class _Parts(NamedTuple):
    """State dict of the whole model, and the generator's configuration if the weights come with one."""

    state: dict[str, Tensor]
    trained_as: GeneratorConfig | None


def _check_same_function(trained: GeneratorConfig, built: GeneratorConfig) -> None:
    """Raise ValueError where weights fit, but would compute something else than in training: fields that no shape shows."""
    names = ("num_heads", "input_positions", "causal", "norm_eps", "rope_base", "num_timesteps", "noise_schedule", "predict_flip")
    differing = [name for name in names if getattr(trained, name) != getattr(built, name)]
    if differing:
        given = ", ".join(f"{name}={getattr(trained, name)!r}" for name in differing)
        here = ", ".join(f"{name}={getattr(built, name)!r}" for name in differing)
        raise ValueError(f"the weights were trained with {given}, but this model has {here}; create it with {given}.")


def read_parts(cfg: dict[str, Any], generator: GeneratorConfig, cache_dir: str | Path | None = None) -> _Parts | None:
    """The whole model's weights, if a pretrained configuration names a local file or its two parts; None for what timm reads itself.

    The parts are two official files, or the folders `model` (or another name) and `tokenizer` that `bigr train` writes side by side.
    """
    if cfg.get("source") in ("hf-hub", "local-dir") or cfg.get("state_dict"):
        return None
    path, trained_as = Path(cfg["file"]) if cfg.get("file") else None, None
    models = checkpoints.load_parts(path) if path is not None and path.is_dir() else None
    if models is not None:
        trained_as = models[0].config if isinstance(models[0].config, GeneratorConfig) else None
        parts = [model.state_dict() for model in models]
    elif path is not None:
        path = checkpoints.file_of(checkpoints.checked_weights(path))
        content = checkpoints.read_checkpoint(path)
        if not checkpoints.is_official_generator(content):
            return _Parts(checkpoints.weights_of(content, path), None)
        parts = _official_parts(path, _tokenizer_beside(path, cfg), generator)
    elif cfg.get("hf_hub_filename") in OFFICIAL_TOKENIZERS:
        from huggingface_hub import hf_hub_download

        names = (cfg["hf_hub_filename"], OFFICIAL_TOKENIZERS[cfg["hf_hub_filename"]])
        parts = _official_parts(*(hf_hub_download(cfg["hf_hub_id"], name, cache_dir=cache_dir) for name in names), generator)
    else:
        return None
    named = zip(("generator", "tokenizer"), parts, strict=True)
    return _Parts({f"{name}.{key}": value for name, part in named for key, value in part.items()}, trained_as)


def _official_parts(generator_file: str | Path, tokenizer_file: str | Path, config: GeneratorConfig) -> list[dict[str, Tensor]]:
    return [checkpoints.read_official_generator(generator_file, config), checkpoints.read_official_tokenizer(tokenizer_file)]


def _tokenizer_beside(generator_file: Path, cfg: dict[str, Any]) -> Path:
    """The tokenizer's `.th` file that belongs to a local generator file: beside it, or where the Hub's folders would have it."""
    named = OFFICIAL_TOKENIZERS.get(cfg.get("hf_hub_filename") or "")
    candidates = sorted(generator_file.parent.glob("*.th"))
    if named:
        hub_layout = generator_file.parent.parent / named
        candidates = [generator_file.parent / Path(named).name, hub_layout, *candidates]
    found = [path for path in candidates if path.is_file()]
    others = [path for path in found if path.name != Path(named).name] if named else found
    if named and found and found[0] not in others:
        return found[0]
    if len(others) == 1:
        return others[0]
    expected = f"{Path(named).name}" if named else "one .th file"
    raise FileNotFoundError(
        f"{generator_file} is the generator of an official model, which is two files; its tokenizer ({expected}) was not found "
        f"in {generator_file.parent}. Put it there."
        + (f" Several .th files are there: {', '.join(path.name for path in others)}." if len(others) > 1 else "")
    )
