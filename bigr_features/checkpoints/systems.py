"""The official generators of the compared systems, read into our models and written from them: LlamaGen, and ELM's two kinds.

They are pickles (`.pt`, `.pth`), read with `weights_only=True`. Tokenizers are files of their own.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..functional.checks import some
from ..models.config import GeneratorConfig
from ..models.generator import BiGR
from .files import filled, read_pickle, tensors
from .names import TRUNK_NAMES, renamed

LLAMAGEN_ENTRIES = ("ema", "model", "module", "state_dict")  # the averaged weights of a training file first
WEIGHTS = ("ema", "model")

_LLAMAGEN_NAMES = [("embedding.tables.0", "tok_embeddings"), *TRUNK_NAMES, ("output.maps.0", "output")]
_MASKED_HEAD = [("output.fc", "mlm_layer.fc"), ("output.norm", "mlm_layer.ln"), ("output.bias", "mlm_layer.bias")]


def _elm_names(config: GeneratorConfig) -> list[tuple[str, str]]:
    """(ours, official), as in `names.renamed`."""
    if config.head == "mlm":
        return [("embedding.table", "tok_embedder"), *TRUNK_NAMES, *_MASKED_HEAD]
    if config.num_sub_codes == 1:
        return [("embedding.tables.0", "tok_embedder"), *TRUNK_NAMES, ("output.maps.0", "output")]
    return [("embedding.tables.#", "tok_embedder.#"), ("embedding.proj", "proj"), *TRUNK_NAMES, ("output.maps.#", "output.#")]


def load_llamagen_generator(path: str | Path, config: GeneratorConfig, *, weights: str | None = None) -> BiGR:
    """Generator with the weights of an official LlamaGen file (c2i).

    Parameters
    ----------
    path : str or Path
        A `.pt` file: weights under "model" (DDP), "module" (DeepSpeed) or "state_dict", or alone (FSDP). A stale "freqs_cis" is ignored,
        and so are the caches of keys and values that generation leaves in a public model.
    config : GeneratorConfig
        Size of the model in the file: tokens="index", head="linear", causal=True, adaln=False, vocab_size.
    weights : "ema" or "model", optional
        One entry of a training file; by default the averaged weights ("ema") if it holds them.

    Raises
    ------
    FileNotFoundError, ValueError
        For a missing, damaged or foreign file, one that would execute code, or a model of another size (differing keys are named).
    """
    state = read_llamagen_generator(path, config, weights=weights)
    return filled(BiGR(config, device="meta"), state, str(path))


def load_elm_generator(path: str | Path, config: GeneratorConfig, *, weights: str = "ema") -> BiGR:
    """Generator with the weights of an official ELM file, autoregressive or masked, of joint or factorised codes.

    Parameters
    ----------
    path : str or Path
        A published file (weights alone), or one that the public training script wrote ("model" and "ema").
    config : GeneratorConfig
        Size of the model in the file: tokens="bits", code_dim=K, num_sub_codes=S, adaln=False, and head="linear", causal=True or
        head="mlm", causal=False.
    weights : "ema" or "model"
        Averaged weights, or the raw ones of a training file.

    Raises
    ------
    FileNotFoundError, ValueError
        As `load_llamagen_generator`.
    """
    return filled(BiGR(config, device="meta"), read_elm_generator(path, config, weights=weights), str(path))


def read_llamagen_generator(path: str | Path, config: GeneratorConfig, *, weights: str | None = None) -> dict[str, Tensor]:
    """State dict, in our names, of an official LlamaGen file."""
    _check_system(config, "LlamaGen", tokens="index", heads=("linear",))
    content = read_pickle(path)
    if weights is not None and weights not in content:
        raise ValueError(f"{path} has no entry {weights!r}; it holds {some(content)}.")
    entry = weights or next((name for name in LLAMAGEN_ENTRIES if isinstance(content.get(name), dict)), None)
    state = _weights(content if entry is None else content[entry], path, "LlamaGen", "tok_embeddings.weight")
    state = {key: value for key, value in state.items() if key != "freqs_cis" and ".kv_cache." not in key}
    return renamed(state, _LLAMAGEN_NAMES, to_official=False)


def read_elm_generator(path: str | Path, config: GeneratorConfig, *, weights: str = "ema") -> dict[str, Tensor]:
    """State dict, in our names, of an official ELM file; what the masked models hold and never use is left out."""
    _check_system(config, "ELM", tokens="bits", heads=("linear", "mlm"))
    if weights not in WEIGHTS:
        raise ValueError(f"weights={weights!r}; choose one of {', '.join(WEIGHTS)}.")
    content = read_pickle(path)
    nested = [name for name in WEIGHTS if isinstance(content.get(name), dict)]
    if nested and weights not in content and is_elm_generator(content):
        raise ValueError(f"{path} has no entry {weights!r}; it holds {some(content)}. Give weights={nested[0]!r}.")
    state = _weights(content.get(weights, content[nested[0]]) if nested else content, path, "ELM", "tok_embedder.")
    masked = any(key.startswith("mlm_layer.") for key in state)
    if masked != (config.head == "mlm"):
        kind, asked = ("a masked", "head='mlm', causal=False") if masked else ("an autoregressive", "head='linear', causal=True")
        raise ValueError(f"{path} holds {kind} ELM, but the configuration has head={config.head!r}; give {asked}.")
    if masked:
        state = {key: value for key, value in state.items() if not key.startswith(("output.", "pos_embed.", "proj."))}
    state = renamed(state, _elm_names(config), to_official=False)
    if "output.bias" in state:
        state["output.bias"] = state["output.bias"].flatten()
    return state


def llamagen_generator_state(model: BiGR) -> dict[str, Tensor]:
    """The model's weights under the names of official LlamaGen files, as the entry "model" holds them."""
    _check_system(model.config, "LlamaGen", tokens="index", heads=("linear",))
    return renamed(model.state_dict(), _LLAMAGEN_NAMES, to_official=True)


def elm_generator_state(model: BiGR) -> dict[str, Tensor]:
    """The model's weights under the names of official ELM files.

    Files of masked models also list weights that the public code never uses (`output`, `proj`, `pos_embed`): zeros stand there, so that
    the public code can load them.
    """
    config = model.config
    _check_system(config, "ELM", tokens="bits", heads=("linear", "mlm"))
    split = config.num_sub_codes > 1
    state = renamed(model.state_dict(), _elm_names(config), to_official=True)
    if config.head == "mlm":
        state["mlm_layer.bias"] = state["mlm_layer.bias"][None, None]
        table, width = state["tok_embedder.weight"], config.width
        state["pos_embed.weight"] = table.new_zeros(config.num_tokens, width)
        for name in [f"output.{i}.weight" for i in range(config.num_sub_codes)] if split else ["output.weight"]:
            state[name] = table.new_zeros(len(table), width)
        if split:
            state["proj.weight"] = table.new_zeros(width, config.num_sub_codes * width)
    return state


def is_llamagen_generator(content: dict) -> bool:
    """Whether what a checkpoint file holds is an official LlamaGen generator."""
    entries = [content, *(content[key] for key in LLAMAGEN_ENTRIES if isinstance(content.get(key), dict))]
    return any("tok_embeddings.weight" in entry and "mask_tok" not in entry for entry in entries)


def is_elm_generator(content: dict) -> bool:
    """Whether what a checkpoint file holds is an official ELM generator."""
    entries = [content, *(content[key] for key in WEIGHTS if isinstance(content.get(key), dict))]
    return any("tok_embedder.weight" in entry or "tok_embedder.0.weight" in entry for entry in entries)


def _check_system(config: GeneratorConfig, system: str, tokens: str, heads: tuple[str, ...]) -> None:
    """Raise ValueError for a configuration that no file of the system can fit."""
    if config.tokens != tokens or config.head not in heads or config.adaln:
        raise ValueError(
            f"{system} files hold generators with tokens={tokens!r}, head={' or '.join(map(repr, heads))} and adaln=False, but the "
            f"configuration has tokens={config.tokens!r}, head={config.head!r} and adaln={config.adaln}."
        )
    wrong = [name for name in ("input_positions",) if getattr(config, name)]
    if wrong:
        raise ValueError(f"{system} files have no {wrong[0]}, but the configuration does; give {wrong[0]}=False.")


def _weights(state, path: str | Path, system: str, sign: str) -> dict[str, Tensor]:
    """The dictionary of weights, if it looks like one of the system; keys without the "module." of data-parallel training."""
    if not isinstance(state, dict):
        raise ValueError(f"{path}: a {type(state).__name__} stands where the weights should be, but a dictionary of them is expected.")
    state = {str(key).removeprefix("module."): value for key, value in state.items()}
    if not any(key.startswith(sign) for key in state):
        hint = "a tokenizer" if any(key.startswith(("encoder.", "ae.", "quantize.")) for key in state) else "something else"
        raise ValueError(f"{path} has no {sign}*, so it is no {system} generator but {hint}; it holds {some(state)}.")
    return tensors(state, path)
