"""The sizes that have a name. Each states only what makes it different from the defaults of the two configurations."""

from __future__ import annotations

from dataclasses import fields

from .config import GeneratorConfig, TokenizerConfig, VQTokenizerConfig

_XL = dict(depth=36, width=1280, num_heads=20, denoiser_depth=6)
_XXL = dict(depth=48, width=1536, num_heads=24, denoiser_depth=8)

# arch: (TokenizerConfig fields, GeneratorConfig fields); sizes of BiGR from the paper's Table 7 and the published checkpoints
PRESETS: dict[str, tuple[dict, dict]] = {
    "bigr_l": (dict(), dict(code_dim=24, depth=24, width=1024, num_heads=16, denoiser_depth=3)),
    "bigr_xl": (dict(), _XL),
    "bigr_xxl": (dict(), _XXL),
    "bigr_xxl_d32": (dict(code_dim=32), dict(_XXL, code_dim=32)),
    "bigr_l_512": (
        dict(image_size=512, code_dim=32),
        dict(code_dim=32, grid_size=32, denoiser_depth=6, denoiser_width=1280),
    ),
    "bigr_nano": (
        dict(
            image_size=32,
            channels=32,
            channel_multipliers=(1, 1, 2),
            num_res_blocks=1,
            attention_resolutions=(),
            embed_dim=64,
            code_dim=16,
        ),
        dict(
            code_dim=16,
            depth=8,
            width=144,
            num_heads=4,
            grid_size=8,
            num_classes=10,
            ffn_multiple_of=64,
            rope_base=30.0,  # with 10,000, made for longer grids, two thirds of the angles hardly turn over 8 positions
            denoiser_depth=2,
            residual_dropout=0.0,
            ffn_dropout=0.0,
        ),
    ),
}

# VQ tokenizers by name; that of llamagen_nano has as many parameters as that of bigr_nano
VQ_TOKENIZERS: dict[str, dict] = {
    "llamagen_l": dict(),
    "llamagen_nano": dict(
        image_size=32,
        channels=32,
        channel_multipliers=(1, 2, 1),
        num_res_blocks=1,
        embed_dim=256,
        codebook_size=4096,
    ),
}

_TOKENIZER_FIELDS = {f.name for f in fields(TokenizerConfig)} - {"image_size", "in_chans"}
_GENERATOR_FIELDS = {f.name for f in fields(GeneratorConfig)} - {"num_classes", "grid_size"}


def preset_configs(arch: str, **changes) -> tuple[TokenizerConfig, GeneratorConfig]:
    """Configurations of a named size.

    Parameters
    ----------
    arch : str
        A key of PRESETS.
    **changes
        Fields of either configuration to change; code_dim changes both. `generator_num_classes` is the generator's number of
        classes (num_classes is the classifier's, as everywhere in timm).

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For an unknown field.
    """
    if arch not in PRESETS:
        raise ValueError(f"there is no size {arch!r}; choose one of {', '.join(PRESETS)}.")
    tokenizer, generator = (dict(part) for part in PRESETS[arch])
    for name, value in changes.items():
        if name == "generator_num_classes":
            generator["num_classes"] = value
        elif name in _TOKENIZER_FIELDS | _GENERATOR_FIELDS:
            if name in _TOKENIZER_FIELDS:
                tokenizer[name] = value
            if name in _GENERATOR_FIELDS:
                generator[name] = value
        else:
            raise TypeError(f"{arch} has no setting {name!r}.")
    tokenizer = TokenizerConfig(**tokenizer)
    return tokenizer, GeneratorConfig(**dict(dict(grid_size=tokenizer.grid_size), **generator))


def is_preset_field(name: str) -> bool:
    """Whether `preset_configs` takes this change."""
    return name == "generator_num_classes" or name in _TOKENIZER_FIELDS | _GENERATOR_FIELDS


TOKENIZERS: dict[str, TokenizerConfig | VQTokenizerConfig] = {
    **{name: preset_configs(name)[0] for name in PRESETS},
    **{name: VQTokenizerConfig(**fields) for name, fields in VQ_TOKENIZERS.items()},
}
GENERATORS = {name: preset_configs(name)[1] for name in PRESETS}
