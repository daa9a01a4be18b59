"""The sizes that have a name. Each states only what makes it different from the defaults of the two configurations."""

from __future__ import annotations

from dataclasses import fields

from .config import GeneratorConfig
from .tokenizer_config import TokenizerConfig, VQTokenizerConfig

_XL = dict(depth=36, width=1280, num_heads=20, denoiser_depth=6)
_XXL = dict(depth=48, width=1536, num_heads=24, denoiser_depth=8)

_NANO_TOKENIZER = dict(
    image_size=32, channels=32, channel_multipliers=(1, 1, 2), num_res_blocks=1, attention_resolutions=(), embed_dim=64, code_dim=16
)
_NANO = dict(
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
)
# what makes a generator one of the systems of the paper's Table 1
_LLAMAGEN = dict(tokens="index", head="linear", causal=True, adaln=False)
_CAT_AR = dict(head="linear", causal=True, adaln=False)
_CAT_MASK = dict(head="mlm", adaln=False, mask_levels=10)
_BIN_AR = dict(causal=True)
# K = 12 on nano: a joint softmax over 4,096 classes, as many as the codebook of llamagen_nano has codes
_NANO_12 = dict(_NANO_TOKENIZER, code_dim=12)

# arch: (tokenizer fields, GeneratorConfig fields); sizes of BiGR from the paper's Table 7 and the published checkpoints
PRESETS: dict[str, tuple[dict, dict]] = {
    "bigr_l": (dict(), dict(code_dim=24, depth=24, width=1024, num_heads=16, denoiser_depth=3)),
    "bigr_xl": (dict(), _XL),
    "bigr_xxl": (dict(), _XXL),
    "bigr_xxl_d32": (dict(code_dim=32), dict(_XXL, code_dim=32)),
    "bigr_l_512": (
        dict(image_size=512, code_dim=32),
        dict(code_dim=32, grid_size=32, denoiser_depth=6, denoiser_width=1280),
    ),
    "bigr_nano": (_NANO_TOKENIZER, dict(_NANO, code_dim=16)),
    "llamagen_b": (dict(), dict(_LLAMAGEN, depth=12, width=768, num_heads=12, token_dropout=0.1)),
    "llamagen_l": (dict(), dict(_LLAMAGEN, token_dropout=0.1)),
    "llamagen_nano": (
        # as many parameters as the tokenizer of bigr_nano
        dict(image_size=32, channels=32, channel_multipliers=(1, 2, 1), num_res_blocks=1, embed_dim=256, codebook_size=4096),
        dict(_NANO, **_LLAMAGEN),
    ),
    "bigr_l_cat_ar": (dict(code_dim=16), dict(_CAT_AR, code_dim=16, token_dropout=0.1)),
    "bigr_l_cat_mask": (dict(code_dim=16), dict(_CAT_MASK, code_dim=16, token_dropout=0.1)),
    "bigr_l_bin_ar": (dict(code_dim=16), dict(_BIN_AR, code_dim=16)),
    "bigr_nano_cat_ar": (_NANO_12, dict(_NANO, **_CAT_AR, code_dim=12)),
    "bigr_nano_cat_mask": (_NANO_12, dict(_NANO, **_CAT_MASK, code_dim=12)),
    "bigr_nano_bin_ar": (_NANO_TOKENIZER, dict(_NANO, **_BIN_AR, code_dim=16)),
}

_TOKENIZER_KINDS = {"bits": TokenizerConfig, "index": VQTokenizerConfig}
_TOKENIZER_FIELDS = {kind: {f.name for f in fields(cls)} - {"image_size", "in_chans"} for kind, cls in _TOKENIZER_KINDS.items()}
_GENERATOR_FIELDS = {f.name for f in fields(GeneratorConfig)} - {"num_classes", "grid_size"}


def preset_configs(arch: str, **changes) -> tuple[TokenizerConfig | VQTokenizerConfig, GeneratorConfig]:
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
    kind = changes.get("tokens", generator.get("tokens", "bits"))
    if kind not in _TOKENIZER_KINDS:
        raise ValueError(f"tokens={kind!r}; choose one of {', '.join(_TOKENIZER_KINDS)}.")
    for name, value in changes.items():
        if name == "generator_num_classes":
            generator["num_classes"] = value
        elif name in _TOKENIZER_FIELDS[kind] | _GENERATOR_FIELDS:
            if name in _TOKENIZER_FIELDS[kind]:
                tokenizer[name] = value
            if name in _GENERATOR_FIELDS:
                generator[name] = value
        else:
            raise TypeError(f"{arch} has no setting {name!r}.")
    tokenizer = _TOKENIZER_KINDS[kind](**tokenizer)
    fitting = dict(grid_size=tokenizer.grid_size) | (dict(vocab_size=tokenizer.codebook_size) if kind == "index" else {})
    return tokenizer, GeneratorConfig(**dict(fitting, **generator))


def is_preset_field(name: str) -> bool:
    """Whether `preset_configs` takes this change, for some size."""
    return name == "generator_num_classes" or name in _GENERATOR_FIELDS.union(*_TOKENIZER_FIELDS.values())


TOKENIZERS = {name: preset_configs(name)[0] for name in PRESETS}
GENERATORS = {name: preset_configs(name)[1] for name in PRESETS}
