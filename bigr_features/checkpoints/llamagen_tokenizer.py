"""The tokenizer files of LlamaGen (`vq_ds16_c2i.pt`, `vq_ds8_c2i.pt`), read into our model and written from it.

They are pickles, read with `weights_only=True`; safetensors with the same names are read too.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..functional.checks import some
from ..models.tokenizer_config import VQTokenizerConfig
from ..models.vq_autoencoder import VQAutoencoder
from .files import VQ_CODEBOOK, filled, read_checkpoint, weights_of

_PARTS = {"shortcut": "nin_shortcut", "proj": "proj_out"}  # within a block, where ours and theirs differ
_RECENT = "quantize.codebook_used"  # ring of the last indices that training saw
_RECENT_SIZE = 65536  # whatever the size of the codebook


def load_llamagen_tokenizer(path: str | Path, config: VQTokenizerConfig, *, weights: str | None = None) -> VQAutoencoder:
    """VQ tokenizer with the weights of an official file.

    Parameters
    ----------
    path : str or Path
    config : VQTokenizerConfig
        Shape of the model in the file; the default is that of `vq_ds16_c2i.pt`.
    weights : str, optional
        Entry of the file to take, such as "model" for the raw weights of a training file. By default what `weights_of` finds, the averaged
        ones ("ema") first.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        For a missing, damaged or foreign file, one that would execute code, or a model of another size (differing keys are named).
    """
    if not isinstance(config, VQTokenizerConfig):
        raise TypeError(f"a VQ tokenizer is built from a VQTokenizerConfig, but a {type(config).__name__} was given.")
    model = VQAutoencoder(config, device="meta")
    return filled(model, read_llamagen_tokenizer(path, model, weights=weights), str(path))


def read_llamagen_tokenizer(path: str | Path, model: VQAutoencoder, *, weights: str | None = None) -> dict[str, Tensor]:
    """State dict for `model`, in our names, of an official file; names that it does not know stay as they are, to be refused."""
    content = read_checkpoint(path)
    if any(key.startswith("ae.") for key in content):
        raise ValueError(
            f"{path} holds a binary tokenizer, not a VQ tokenizer; read it with load_official_tokenizer and a TokenizerConfig."
        )
    if weights is not None:
        if not isinstance(content.get(weights), dict):
            entries = [key for key, value in content.items() if isinstance(value, dict)]
            raise ValueError(f"{path} has no weights {weights!r}; it holds {some(entries or content)}.")
        content = content[weights]
    state = weights_of(content, path)
    if VQ_CODEBOOK not in state:
        raise ValueError(f"{path} has no {VQ_CODEBOOK!r} among its weights, so it is no VQ tokenizer; it holds {some(state)}.")
    ours = {official: name for name, official in official_names(model).items()}
    return {ours.get(name, name): value for name, value in state.items() if name != _RECENT}


def llamagen_tokenizer_state(model: VQAutoencoder) -> dict[str, Tensor]:
    """The model's weights under official names, as entry "model" of an official file holds them; the ring of indices starts with zeros."""
    names = official_names(model)
    state = {names[name]: value for name, value in model.state_dict().items()}
    return {**state, _RECENT: torch.zeros(_RECENT_SIZE, device=state[VQ_CODEBOOK].device)}


def official_names(model: VQAutoencoder) -> dict[str, str]:
    """Official name of each entry of the model's state dict. Our blocks are numbered through, official ones by level."""
    modules = {"to_latent": "quant_conv", "from_latent": "post_quant_conv", "quantizer.embedding": VQ_CODEBOOK}
    for side, blocks in (("encoder", _encoder_blocks(model.config)), ("decoder", _decoder_blocks(model.config))):
        modules |= {f"{side}.blocks.{number}": f"{side}.{block}" for number, block in enumerate(blocks)}
    names = {}
    for name in model.state_dict():
        ours = ".".join(name.split(".")[: 3 if ".blocks." in name else 2])
        ours = ours if ours in modules else name.split(".")[0]
        parts = name.removeprefix(ours).split(".")
        names[name] = modules[ours] + ".".join(_PARTS.get(part, part) for part in parts)
    return names


def _encoder_blocks(config: VQTokenizerConfig) -> list[str]:
    """Official names of the blocks of our encoder, in order."""
    blocks = ["conv_in"]
    for level, attention in enumerate(config.attention_levels):
        if level > 0:
            blocks.append(f"conv_blocks.{level - 1}.downsample")
        blocks += _level(level, config.num_res_blocks, attention)
    return [*blocks, "mid.0", "mid.1", "mid.2", "norm_out", "", "conv_out"]  # an activation has no name


def _decoder_blocks(config: VQTokenizerConfig) -> list[str]:
    """Official names of the blocks of our decoder, in order; level 0 is the coarsest here."""
    blocks = ["conv_in", "mid.0", "mid.1", "mid.2"]
    for level, attention in enumerate(reversed(config.attention_levels)):
        if level > 0:
            blocks.append(f"conv_blocks.{level - 1}.upsample")
        blocks += _level(level, config.num_decoder_blocks, attention)
    return [*blocks, "norm_out", "", "conv_out"]


def _level(level: int, depth: int, attention: bool) -> list[str]:
    kinds = ("res", "attn") if attention else ("res",)
    return [f"conv_blocks.{level}.{kind}.{i}" for i in range(depth) for kind in kinds]
