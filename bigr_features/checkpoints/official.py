"""The official files of BiGR, read into our models and written from them.

They are pickles (`.pt` for the generator, `.th` for the tokenizer), read with `weights_only=True`: nothing but tensors, plain
containers and the `argparse.Namespace` of training files unpickles.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..functional.bernoulli import keep_probabilities
from ..functional.checks import some
from ..models.autoencoder import BinaryAutoencoder
from ..models.config import GeneratorConfig
from ..models.generator import BiGR
from ..models.tokenizer_config import TokenizerConfig
from .files import VQ_CODEBOOK, filled, read_pickle, tensors
from .names import TRUNK_NAMES, renamed

_GENERATOR_NAMES = [
    ("embedding.mask_embedding", "mask_tok"),
    ("embedding.proj", "tok_embeddings"),
    *TRUNK_NAMES,
    ("position_embedding", "diffusion_pos_embed_learned"),
    ("trunk.modulation.proj", "adaLN.1"),
    ("trunk.blocks.#.modulation_offset", "layers.#.ada_gss"),
    ("transcoder.denoiser.time_embedding.fc1", "denoise_mlp.t_embedder.mlp.0"),
    ("transcoder.denoiser.time_embedding.fc2", "denoise_mlp.t_embedder.mlp.2"),
    ("transcoder.denoiser.code_embedding", "denoise_mlp.x_embedder"),
    ("transcoder.denoiser.condition_embedding", "denoise_mlp.c_embedder"),
    ("transcoder.denoiser.blocks.#.fc1", "denoise_mlp.blocks.#.mlp.0"),
    ("transcoder.denoiser.blocks.#.fc2", "denoise_mlp.blocks.#.mlp.2"),
    ("transcoder.denoiser.blocks.#.modulation", "denoise_mlp.blocks.#.adaLN_modulation.1"),
    ("transcoder.denoiser.modulation", "denoise_mlp.final_layer.adaLN_modulation.1"),
    ("transcoder.denoiser.head", "denoise_mlp.final_layer.linear"),
]
_TOKENIZER_NAMES = [
    ("quantizer.proj", "quantize.proj.0"),
    ("quantizer.embedding", "quantize.embed.weight"),
    *(
        (f"{ours}.blocks.#{part}", f"{official}.blocks.#{renamed}")
        for ours, official in (("encoder", "encoder"), ("decoder", "generator"))
        for part, renamed in ((".shortcut", ".conv_out"), (".proj", ".proj_out"), ("", ""))
    ),
]
_DENOISER = "denoise_mlp."
_DENOISER_COPY = "diffusion_processor._denoise_fn."
_SCHEDULE = "diffusion_processor.scheduler."


def load_official_generator(path: str | Path, config: GeneratorConfig, *, weights: str = "ema") -> BiGR:
    """Generator with the weights of an official `.pt` file.

    Parameters
    ----------
    path : str or Path
        A published file (one copy of the weights, under "ema"), or one that the public training script wrote.
    config : GeneratorConfig
        Size of the model in the file.
    weights : "ema" or "model"
        Averaged weights, or the raw ones of a training file.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing, damaged or foreign file, one that would execute code, or a model of another size (differing keys are named).
    """
    state = read_official_generator(path, config, weights=weights)
    return filled(BiGR(config, device="meta"), state, f"{path} (entry {weights!r})")


def load_official_tokenizer(path: str | Path, config: TokenizerConfig) -> BinaryAutoencoder:
    """Tokenizer with the `ae.` entries of an official `.th` file; discriminator and perceptual network in it are left out.

    The tokenizers of ELM (`binaryae_ema.th`, arXiv:2410.16257) are such files. Its "deterministic" ones differ in how their bits were
    made in training, not in their entries.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_official_generator`.
    """
    return filled(BinaryAutoencoder(config, device="meta"), read_official_tokenizer(path), str(path))


def read_official_generator(path: str | Path, config: GeneratorConfig, *, weights: str = "ema") -> dict[str, Tensor]:
    """State dict, in our names, of an official generator file; the denoiser's copy and the schedule tables are checked and left out."""
    content = read_pickle(path)
    state = content
    if "mask_tok" not in content:
        if weights not in content:
            raise ValueError(f"{path} has no entry {weights!r}; it holds {some(content)}.")
        state = content[weights]
    if not isinstance(state, dict):
        raise ValueError(f"{path}: entry {weights!r} is a {type(state).__name__}, but a dictionary of weights is expected.")
    state = {key.removeprefix("module."): value for key, value in tensors(state, path).items()}
    for key in [key for key in state if key.startswith(_DENOISER_COPY)]:
        copy, original = state.pop(key), state.get(_DENOISER + key.removeprefix(_DENOISER_COPY))
        if original is None or not torch.equal(copy, original):
            raise ValueError(f"{path}: {key} differs from {_DENOISER}*, but both name the same parameter; the file is inconsistent.")
    tables = _schedule_tables(config)
    for key in [key for key in state if key.startswith(_SCHEDULE)]:
        found, expected = state.pop(key), tables.get(key)
        if expected is None or found.shape != expected.shape or not torch.allclose(found.float(), expected, atol=1e-5):
            raise ValueError(
                f"{path}: {key} is not the {config.noise_schedule} schedule of {config.num_timesteps} timesteps; "
                "give the noise_schedule and num_timesteps that the model was trained with."
            )
    return renamed(state, _GENERATOR_NAMES, to_official=False)


def read_official_tokenizer(path: str | Path) -> dict[str, Tensor]:
    """State dict, in our names, of an official tokenizer file, without the entries that the network never uses."""
    content = read_pickle(path)
    state = {key.removeprefix("ae."): value for key, value in content.items() if key.startswith("ae.")}
    tensors(state, path)
    if not state:
        if any(VQ_CODEBOOK in part for part in (content, *content.values()) if isinstance(part, dict)):
            raise ValueError(f"{path} holds a VQ tokenizer, not a binary tokenizer; read it with load_llamagen_tokenizer.")
        raise ValueError(f"{path} has no 'ae.' entries, so it is no official tokenizer; it holds {some(content)}.")
    unused = {key for key in state if key.startswith("generator.logsigma.")}
    for key, value in state.items():
        block = key.removesuffix(".conv1.weight")
        if block != key and value.shape[0] == value.shape[1]:  # a shortcut runs only where the width changes
            unused |= {f"{block}.conv_out.weight", f"{block}.conv_out.bias"}
    return renamed({key: value for key, value in state.items() if key not in unused}, _TOKENIZER_NAMES, to_official=False)


def official_generator_state(model: BiGR) -> dict[str, Tensor]:
    """The model's weights under official names, with the denoiser's second copy and the schedule tables, as an official file holds them."""
    state = renamed(model.state_dict(), _GENERATOR_NAMES, to_official=True)
    copies = {_DENOISER_COPY + key.removeprefix(_DENOISER): value for key, value in state.items() if key.startswith(_DENOISER)}
    return {**state, **copies, **_schedule_tables(model.config)}


def official_tokenizer_state(model: BinaryAutoencoder) -> dict[str, Tensor]:
    """The model's weights under official names (without the `ae.` prefix); zeros stand where official files hold unused weights."""
    state = renamed(model.state_dict(), _TOKENIZER_NAMES, to_official=True)
    for key, value in list(state.items()):
        block = key.removesuffix(".conv1.weight")
        if block != key and f"{block}.conv_out.weight" not in state:
            state[f"{block}.conv_out.weight"] = value.new_zeros(*value.shape[:2], 1, 1)
            state[f"{block}.conv_out.bias"] = value.new_zeros(value.shape[0])
    width, images = model.config.channels * model.config.channel_multipliers[0], model.config.in_chans
    like = next(iter(state.values()))
    for name, shape in (
        ("0.weight", (width, width, 3, 3)),
        ("0.bias", (width,)),
        ("2.weight", (images, width, 1, 1)),
        ("2.bias", (images,)),
    ):
        state[f"generator.logsigma.{name}"] = like.new_zeros(shape)
    return state


def is_official_generator(content: dict) -> bool:
    """Whether what a checkpoint file holds is an official generator, published or written by the public training script."""
    entries = [content, *(content[key] for key in ("ema", "model") if isinstance(content.get(key), dict))]
    return any("diffusion_pos_embed_learned" in entry for entry in entries)


def _schedule_tables(config: GeneratorConfig) -> dict[str, Tensor]:
    keep = keep_probabilities(config.num_timesteps, config.noise_schedule)
    stay = torch.cat([keep[:1], keep[1:] / keep[:-1]])
    tables = {"k_final": keep, "b_final": (1 - keep) / 2, "beta": stay, "cumbeta": stay.cumprod(0)}
    return {_SCHEDULE + name: table.float() for name, table in tables.items()}
