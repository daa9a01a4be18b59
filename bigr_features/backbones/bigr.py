"""The timm entries: `import bigr_features`, then `timm.create_model("bigr_l")`."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.resources import files
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._builder import resolve_pretrained_cfg
from timm.models._manipulate import adapt_input_conv
from torch import Tensor

from .. import checkpoints
from ..data.captions import vocabulary
from ..functional.positions import resample_positions
from ..models.presets import GENERATORS, PRESETS, is_preset_field, preset_configs
from .backbone import LEARNED_POSITIONS, BiGRBackbone, drop_generative_entries
from .parts import LLAMAGEN_HUB_ID, OFFICIAL_HUB_ID, check_same_function, read_parts

__all__ = list(PRESETS)

log = logging.getLogger(__name__)


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


def _llamagen(filename: str) -> dict[str, Any]:
    return _cfg(
        hf_hub_id=LLAMAGEN_HUB_ID,
        hf_hub_filename=filename,
        origin_url="https://github.com/FoundationVision/LlamaGen",
        paper_name="Autoregressive Model Beats Diffusion: Llama for Scalable Image Generation",
        paper_ids="arXiv:2406.06525",
        **_MINUS_1_TO_1,
    )


_MINUS_1_TO_1 = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # pixels as the VQ tokenizer takes them
_NANO = {"input_size": (3, 32, 32)}


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
        "bigr_l_t2i.untrained": _cfg(),
        "bigr_nano_t2i.fashion_mnist": _shipped("fashion_mnist_t2i", input_size=(3, 32, 32)),
        "llamagen_b.c2i_in1k": _llamagen("c2i_B_256.pt"),
        "llamagen_l.c2i_in1k": _llamagen("c2i_L_256.pt"),
        "llamagen_nano.untrained": _cfg(**_NANO, **_MINUS_1_TO_1),
        "bigr_l_cat_ar.untrained": _cfg(),
        "bigr_l_cat_mask.untrained": _cfg(),
        "bigr_l_bin_ar.untrained": _cfg(),
        "bigr_nano_cat_ar.untrained": _cfg(**_NANO),
        "bigr_nano_cat_mask.untrained": _cfg(**_NANO),
        "bigr_nano_bin_ar.untrained": _cfg(**_NANO),
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


@register_model
def bigr_l_t2i(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """BiGR-L on captions: features of a T5 encoder, 2,048 wide, 120 tokens; otherwise as bigr_l."""
    return _create_backbone("bigr_l_t2i", pretrained, **kwargs)


@register_model
def bigr_nano_t2i(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """bigr_nano on captions of 12 words, read by a word-level encoder inside; by default it knows the words of `data.captions`."""
    text = GENERATORS["bigr_nano_t2i"].text
    assert text is not None
    kwargs.setdefault("text", replace(text, vocabulary=vocabulary()))
    return _create_backbone("bigr_nano_t2i", pretrained, **kwargs)


@register_model
def llamagen_b(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """LlamaGen-B: VQ tokenizer of 16,384 codes, causal, 12 blocks, width 768; 256 x 256 images, 16 x 16 tokens."""
    return _create_backbone("llamagen_b", pretrained, **kwargs)


@register_model
def llamagen_l(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """LlamaGen-L: VQ tokenizer of 16,384 codes, causal, 24 blocks, width 1024; 256 x 256 images, 16 x 16 tokens."""
    return _create_backbone("llamagen_l", pretrained, **kwargs)


@register_model
def llamagen_nano(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """LlamaGen of the size of bigr_nano: 32 x 32 images, 8 x 8 tokens of 4,096 codes."""
    return _create_backbone("llamagen_nano", pretrained, **kwargs)


@register_model
def bigr_l_cat_ar(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """S0 of the paper's Table 1: 16-bit codes as one of 65,536 classes, causal, otherwise as bigr_l."""
    return _create_backbone("bigr_l_cat_ar", pretrained, **kwargs)


@register_model
def bigr_l_cat_mask(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """S1 of the paper's Table 1: 16-bit codes as one of 65,536 classes, masked, otherwise as bigr_l."""
    return _create_backbone("bigr_l_cat_mask", pretrained, **kwargs)


@register_model
def bigr_l_bin_ar(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """S2 of the paper's Table 1: 16-bit codes and the Bernoulli transcoder, causal, otherwise as bigr_l."""
    return _create_backbone("bigr_l_bin_ar", pretrained, **kwargs)


@register_model
def bigr_nano_cat_ar(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """S0 of the size of bigr_nano: 12-bit codes as one of 4,096 classes, causal."""
    return _create_backbone("bigr_nano_cat_ar", pretrained, **kwargs)


@register_model
def bigr_nano_cat_mask(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """S1 of the size of bigr_nano: 12-bit codes as one of 4,096 classes, masked."""
    return _create_backbone("bigr_nano_cat_mask", pretrained, **kwargs)


@register_model
def bigr_nano_bin_ar(pretrained: bool = False, **kwargs) -> BiGRBackbone:
    """S2 of the size of bigr_nano: 16-bit codes and the Bernoulli transcoder, causal."""
    return _create_backbone("bigr_nano_bin_ar", pretrained, **kwargs)


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
            check_same_function(parts.trained_as, generator)
            if parts.trained_as.text is not None:
                generator = generator.replace(text=parts.trained_as.text)  # its vocabulary, or its encoder
            if parts.trained_as.unconditional:
                generator = replace(generator, class_dropout=1.0)
        if kwargs.get("feature_layer") is None and parts.feature_layer is not None and parts.feature_layer < generator.depth:
            kwargs["feature_layer"] = parts.feature_layer
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
    """A whole model's weights, fitted to this model's parts, channels and grid; raises ValueError for entries that still do not fit."""
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
