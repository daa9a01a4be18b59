"""Reading and writing weights: our own format, and the official files of BiGR.

Ours is a folder with `model.safetensors` and `config.json`. Official files are pickles (`.pt`, `.th`); they are read with
`weights_only=True`, and nothing but tensors, plain containers and the `argparse.Namespace` of training files unpickles.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import pickle
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from .bernoulli import keep_probabilities
from .models.autoencoder import BinaryAutoencoder
from .models.config import GeneratorConfig, TokenizerConfig
from .models.generator import BiGR

FORMAT_VERSION = 1
KINDS = {"BinaryAutoencoder": (BinaryAutoencoder, TokenizerConfig), "BiGR": (BiGR, GeneratorConfig)}

# (ours, official), as templates in which # stands for a block's number
_GENERATOR_NAMES = [
    ("embedding.mask_embedding", "mask_tok"),
    ("embedding.proj", "tok_embeddings"),
    ("class_embedding.weight", "cls_embedding.embedding_table.weight"),
    ("position_embedding", "diffusion_pos_embed_learned"),
    ("trunk.modulation.proj", "adaLN.1"),
    ("trunk.blocks.#.modulation_offset", "layers.#.ada_gss"),
    ("trunk.blocks.#.attention.qkv", "layers.#.attention.wqkv"),
    ("trunk.blocks.#.attention.proj", "layers.#.attention.wo"),
    ("trunk.blocks.#.attention_norm", "layers.#.attention_norm"),
    ("trunk.blocks.#.feed_forward.gate", "layers.#.feed_forward.w1"),
    ("trunk.blocks.#.feed_forward.up", "layers.#.feed_forward.w3"),
    ("trunk.blocks.#.feed_forward.down", "layers.#.feed_forward.w2"),
    ("trunk.blocks.#.feed_forward_norm", "layers.#.ffn_norm"),
    ("trunk.norm", "norm"),
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


# ---------------------------------------------------------------------------------------------------------- official files


def load_official_generator(
    path: str | Path, config: GeneratorConfig, *, weights: str = "ema", generator_cls: Callable[..., BiGR] = BiGR
) -> BiGR:
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
        For a missing, damaged or foreign file, one that would execute code, or a model of another size (the first differing keys are named).
    """
    model = generator_cls(config, device="meta")
    state = read_official_generator(path, config, weights=weights)
    return _filled(model, state, f"{path} (entry {weights!r})")


def load_official_tokenizer(path: str | Path, config: TokenizerConfig) -> BinaryAutoencoder:
    """Tokenizer with the `ae.` entries of an official `.th` file; discriminator and perceptual network in it are left out.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_official_generator`.
    """
    return _filled(BinaryAutoencoder(config, device="meta"), read_official_tokenizer(path), str(path))


def read_official_generator(path: str | Path, config: GeneratorConfig, *, weights: str = "ema") -> dict[str, Tensor]:
    """State dict, in our names, of an official generator file. The denoiser's second copy and the schedule tables are checked, then left out."""
    content = read_pickle(path)
    state = content
    if "mask_tok" not in content:
        if weights not in content:
            raise ValueError(f"{path} has no entry {weights!r}; it holds {_some(content)}.")
        state = content[weights]
    state = {key.removeprefix("module."): value for key, value in state.items()}
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
    return {_rename(key, _GENERATOR_NAMES, to_official=False) or key: value for key, value in state.items()}


def read_official_tokenizer(path: str | Path) -> dict[str, Tensor]:
    """State dict, in our names, of an official tokenizer file, without the entries that the network never uses."""
    content = read_pickle(path)
    state = {key.removeprefix("ae."): value for key, value in content.items() if key.startswith("ae.")}
    if not state:
        raise ValueError(f"{path} has no 'ae.' entries, so it is no official tokenizer; it holds {_some(content)}.")
    kept = {}
    for key, value in state.items():
        unused_shortcut = ".conv_out." in key and state[f"{key.split('.conv_out.')[0]}.conv1.weight"].shape[:2] == _square(state, key)
        if not (unused_shortcut or key.startswith("generator.logsigma.")):
            kept[_rename(key, _TOKENIZER_NAMES, to_official=False) or key] = value
    return kept


def official_generator_state(model: BiGR) -> dict[str, Tensor]:
    """The model's weights under official names, with the denoiser's second copy and the schedule tables, as an official file holds them."""
    state = {_rename(key, _GENERATOR_NAMES, to_official=True): value for key, value in model.state_dict().items()}
    copies = {_DENOISER_COPY + key.removeprefix(_DENOISER): value for key, value in state.items() if key.startswith(_DENOISER)}
    return {**state, **copies, **_schedule_tables(model.config)}


def official_tokenizer_state(model: BinaryAutoencoder) -> dict[str, Tensor]:
    """The model's weights under official names (without the `ae.` prefix); zeros stand where official files hold unused weights."""
    state = {_rename(key, _TOKENIZER_NAMES, to_official=True): value for key, value in model.state_dict().items()}
    for key, value in list(state.items()):
        block = key.removesuffix(".conv1.weight")
        if block != key and f"{block}.conv_out.weight" not in state:
            state[f"{block}.conv_out.weight"] = value.new_zeros(*value.shape[:2], 1, 1)
            state[f"{block}.conv_out.bias"] = value.new_zeros(value.shape[0])
    width, images = model.config.channels * model.config.channel_multipliers[0], model.config.in_chans
    like = next(iter(state.values()))
    for name, shape in (("0.weight", (width, width, 3, 3)), ("0.bias", (width,)), ("2.weight", (images, width, 1, 1)), ("2.bias", (images,))):
        state[f"generator.logsigma.{name}"] = like.new_zeros(shape)
    return state


def read_pickle(path: str | Path) -> dict:
    """Content of a `.pt` or `.th` file; refuses, without executing anything, a pickle that asks for more than tensors and plain containers.

    Raises
    ------
    FileNotFoundError
    ValueError
        For a damaged file, a refused pickle, or content that is no dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}.")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = re.search(r"Unsupported (?:global|class|operand)[^.\n]*[.\w]*|GLOBAL [\w. ]+", str(error))
        raise ValueError(
            f"{path} was refused and nothing in it was executed: it asks for more than weights"
            f"{' (' + reason.group(0).strip() + ')' if reason else ''}, or is no checkpoint. Get the file from a source you trust, as safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged or no PyTorch checkpoint ({str(error).splitlines()[0][:120]}); download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, but a checkpoint is a dictionary of weights.")
    return content


def is_official_generator(content: dict) -> bool:
    """Whether what a checkpoint file holds is an official generator, published or written by the public training script."""
    entries = [content, *(content[key] for key in ("ema", "model") if isinstance(content.get(key), dict))]
    return any("diffusion_pos_embed_learned" in entry for entry in entries)


def _rename(key: str, names: list[tuple[str, str]], to_official: bool) -> str | None:
    for pair in names:
        source, target = pair if to_official else pair[::-1]
        pattern = re.escape(source).replace(r"\#", r"(\d+)") + r"(\.[\w.]+)?"
        match = re.fullmatch(pattern, key)
        if match:
            *numbers, rest = match.groups()
            return (target.replace("#", numbers[0]) if numbers else target) + (rest or "")
    return None


def _square(state: dict[str, Tensor], key: str) -> tuple[int, int]:
    width = state[f"{key.split('.conv_out.')[0]}.conv1.weight"].shape[0]
    return width, width


def _schedule_tables(config: GeneratorConfig) -> dict[str, Tensor]:
    keep = keep_probabilities(config.num_timesteps, config.noise_schedule)
    stay = torch.cat([keep[:1], keep[1:] / keep[:-1]])
    tables = {"k_final": keep, "b_final": (1 - keep) / 2, "beta": stay, "cumbeta": stay.cumprod(0)}
    return {_SCHEDULE + name: table.float() for name, table in tables.items()}


# ------------------------------------------------------------------------------------------------------------- our format


def save_model(model: BinaryAutoencoder | BiGR, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write `model.safetensors` and `config.json` into a folder; each file appears whole or not at all.

    Parameters
    ----------
    model : BinaryAutoencoder or BiGR
        Timm backbones are saved with `timm.models.save_for_hf`.
    folder : str or Path
        Created if missing.
    dtype : torch.dtype, optional
        Store floats in it; as they are by default.
    """
    kind = type(model).__name__
    if kind not in KINDS:
        raise TypeError(f"save_model takes {' or '.join(KINDS)}, not {kind}; save a timm backbone with timm.models.save_for_hf.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().to("cpu", dtype).contiguous() for key, value in model.state_dict().items()}
    config = {"format": FORMAT_VERSION, "kind": kind, "config": model.config.to_dict()}
    write_atomically(folder / "model.safetensors", safetensors.torch.save(state))
    write_atomically(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load_model(folder: str | Path) -> BinaryAutoencoder | BiGR:
    """Model that `save_model` wrote, in float32 and eval mode.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing or damaged file, or weights that do not fit the configuration.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} has no {name}; give the folder that save_model wrote.")
    try:
        content = json.loads((folder / "config.json").read_text())
        kind, config = content["kind"], content["config"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} is damaged or not written by save_model ({error}).") from error
    if kind not in KINDS or content.get("format") != FORMAT_VERSION:
        raise ValueError(f"{folder} holds {kind!r} in format {content.get('format')!r}; this version reads {', '.join(KINDS)} in format 1.")
    model_cls, config_cls = KINDS[kind]
    state = {key: value.float() for key, value in read_safetensors(folder / "model.safetensors").items()}
    return _filled(model_cls(config_cls.from_dict(config), device="meta"), state, str(folder)).eval()


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing or damaged file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint file {path}.")
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # safetensors raises its own class, which it does not export
        raise ValueError(f"{path} is damaged or no safetensors file ({error}).") from error


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file so that it is seen whole or not at all: temporary file beside it, fsync, rename."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over names, shapes, dtypes and bytes of a module's weights: equal exactly when the weights are."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_state(found: dict[str, Tensor], expected: dict[str, Tensor], source: str) -> None:
    """Raise ValueError that names the first differing keys, with both shapes, if two state dicts differ in keys or shapes."""
    differing = [
        f"{key} is {list(found[key].shape)} there and {list(value.shape)} here"
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ]
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    problems = []
    if differing:
        problems.append("; ".join(differing[:3]) + (f"; and {len(differing) - 3} more of another shape" if len(differing) > 3 else ""))
    if missing:
        problems.append(f"it lacks {_some(missing)}")
    if extra:
        problems.append(f"it has {_some(extra)} that this model lacks")
    if problems:
        raise ValueError(
            f"{source} does not fit this model: {'. '.join(problems)}. Build the model with the configuration that the file was trained with."
        )


def _filled(model, state: dict[str, Tensor], source: str):
    check_state(state, model.state_dict(), source)
    model.to_empty(device="cpu")
    model.load_state_dict(state)
    return model


def _some(names, most: int = 4) -> str:
    names = list(names)
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
