"""Pretrained weights that come as two parts, a generator and its tokenizer: official files, or folders of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from .. import checkpoints
from ..models.config import GeneratorConfig, check_same_codes
from ..models.generator import BiGR
from ..models.image_tokenizer import ImageTokenizer

OFFICIAL_HUB_ID = "haoosz/BiGR"
LLAMAGEN_HUB_ID = "FoundationVision/LlamaGen"
# generator file on the Hub: the tokenizer file it was trained with
OFFICIAL_TOKENIZERS = {
    "gpt/bigr_L_d24.pt": "bae/bae_d24/binaryae_ema_1000000.th",
    "gpt/bigr_XL_d24.pt": "bae/bae_d24/binaryae_ema_1000000.th",
    "gpt/bigr_XXL_d24.pt": "bae/bae_d24/binaryae_ema_1000000.th",
    "gpt/bigr_XXL_d32.pt": "bae/bae_d32/binaryae_ema_950000.th",
    "gpt/bigr_L_d32_512.pt": "bae/bae_d32_512/binaryae_ema_720000.th",
    "c2i_B_256.pt": "vq_ds16_c2i.pt",
    "c2i_L_256.pt": "vq_ds16_c2i.pt",
}


class Parts(NamedTuple):
    """State dict of the whole model; the generator's configuration, and the block chosen for features, if the weights come with them."""

    state: dict[str, Tensor]
    trained_as: GeneratorConfig | None
    feature_layer: int | None = None


def check_same_function(trained: GeneratorConfig, built: GeneratorConfig) -> None:
    """Raise ValueError where weights fit, but would compute something else than in training: fields that no shape shows."""
    if (trained.text is None) != (built.text is None):
        source, here = ("classes", "captions") if trained.text is None else ("captions", "classes")
        raise ValueError(f"the weights were trained on {source}, but this model is conditioned on {here}; take a model of {source}.")
    names = (
        "tokens",
        "head",
        "num_sub_codes",
        "num_heads",
        "input_positions",
        "causal",
        "norm_eps",
        "rope_base",
        "num_timesteps",
        "noise_schedule",
        "predict_flip",
    )
    differing = [name for name in names if getattr(trained, name) != getattr(built, name)]
    if differing:
        given = ", ".join(f"{name}={getattr(trained, name)!r}" for name in differing)
        here = ", ".join(f"{name}={getattr(built, name)!r}" for name in differing)
        raise ValueError(f"the weights were trained with {given}, but this model has {here}; create it with {given}.")


def read_parts(cfg: dict[str, Any], generator: GeneratorConfig, cache_dir: str | Path | None = None) -> Parts | None:
    """The whole model's weights, if a pretrained configuration names a local file or its two parts; None for what timm reads itself.

    The parts are two official files, or the folders `model` (or another name) and `tokenizer` that `bigr train` writes side by side.
    """
    if cfg.get("source") in ("hf-hub", "local-dir") or cfg.get("state_dict"):
        return None
    path, trained_as, feature_layer = Path(cfg["file"]) if cfg.get("file") else None, None, None
    models = checkpoints.load_parts(path) if path is not None and path.is_dir() else None
    if path is not None and models is not None:
        _check_kinds(models, path)
        check_same_codes(models[1].config, models[0].config)
        trained_as, feature_layer = models[0].config, checkpoints.feature_layer_of(path)
        parts = [model.state_dict() for model in models]
    elif path is not None:
        path = checkpoints.file_of(checkpoints.checked_weights(path))
        content = checkpoints.read_checkpoint(path)
        official = _official(content)
        if official is None:
            return Parts(checkpoints.weights_of(content, path), None)
        parts = official.read(path, _tokenizer_beside(path, cfg, official), generator)
    elif cfg.get("hf_hub_filename") in OFFICIAL_TOKENIZERS:
        from huggingface_hub import hf_hub_download

        names = (cfg["hf_hub_filename"], OFFICIAL_TOKENIZERS[cfg["hf_hub_filename"]])
        paths = [hf_hub_download(cfg["hf_hub_id"], name, cache_dir=cache_dir) for name in names]
        official = _official(checkpoints.read_checkpoint(paths[0]))
        assert official is not None
        parts = official.read(paths[0], paths[1], generator)
    else:
        return None
    named = zip(("generator", "tokenizer"), parts, strict=True)
    return Parts({f"{name}.{key}": value for name, part in named for key, value in part.items()}, trained_as, feature_layer)


class _Official(NamedTuple):
    """The two official files of a system.

    named : what the generator's file is called in messages.
    tokenizers : pattern of the names of its tokenizer's file.
    """

    named: str
    tokenizers: str
    recognise: Callable[[dict], bool]
    read_generator: Callable[..., dict[str, Tensor]]
    read_tokenizer: Callable[..., dict[str, Tensor]]

    def read(self, generator_file: str | Path, tokenizer_file: str | Path, config: GeneratorConfig) -> list[dict[str, Tensor]]:
        """State dicts of both, in our names."""
        return [self.read_generator(generator_file, config), self.read_tokenizer(tokenizer_file)]


OFFICIAL = [
    _Official(
        "an official model", "*.th", checkpoints.is_official_generator, checkpoints.read_official_generator,
        checkpoints.read_official_tokenizer,
    ),
    _Official(
        "LlamaGen", "vq_*.pt", checkpoints.is_llamagen_generator, checkpoints.read_llamagen_generator,
        checkpoints.read_llamagen_tokenizer,
    ),
    _Official(
        "an ELM", "*.th", checkpoints.is_elm_generator, checkpoints.read_elm_generator, checkpoints.read_official_tokenizer,
    ),
]  # fmt: skip


def _official(content: dict) -> _Official | None:
    """The system whose official generator this is."""
    return next((official for official in OFFICIAL if official.recognise(content)), None)


def _check_kinds(models: list[nn.Module], folder: Path) -> None:
    """Raise ValueError unless these are a generator and a tokenizer."""
    for model, wanted, kind in zip(models, (BiGR, ImageTokenizer), ("generator", "tokenizer"), strict=True):
        if not isinstance(model, wanted):
            raise ValueError(f"{folder} holds a {type(model).__name__} where a {kind} is expected; give the folder of a generator.")


def _tokenizer_beside(generator_file: Path, cfg: dict[str, Any], official: _Official) -> Path:
    """The tokenizer's file that belongs to a local generator file: beside it, or where the Hub's folders would have it."""
    named = OFFICIAL_TOKENIZERS.get(cfg.get("hf_hub_filename") or "")
    named = named if named and Path(named).match(official.tokenizers) else None  # of another system than the file given
    candidates = sorted(generator_file.parent.glob(official.tokenizers))
    if named:
        hub_layout = generator_file.parent.parent / named
        candidates = [generator_file.parent / Path(named).name, hub_layout, *candidates]
    found = [path for path in candidates if path.is_file()]
    others = [path for path in found if path.name != Path(named).name] if named else found
    if named and found and found[0] not in others:
        return found[0]
    if len(others) == 1:
        return others[0]
    kind = official.tokenizers.removeprefix("*")
    expected = f"{Path(named).name}" if named else f"one {kind} file"
    raise FileNotFoundError(
        f"{generator_file} is the generator of {official.named}, which is two files; its tokenizer ({expected}) was not found "
        f"in {generator_file.parent}. Put it there."
        + (f" Several {kind} files are there: {', '.join(path.name for path in others)}." if len(others) > 1 else "")
    )
