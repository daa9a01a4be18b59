"""Promises of the named sizes: they are the published ones, and any field may be changed by keyword."""

from __future__ import annotations

import json

import pytest
import timm

from bigr_features import BinaryAutoencoder, VQAutoencoder, VQTokenizerConfig
from bigr_features.checkpoints import official_generator_state, official_tokenizer_state
from bigr_features.models.presets import GENERATORS, PRESETS, TOKENIZERS, preset_configs

from ..helpers import GOLDEN

PUBLISHED = json.loads((GOLDEN / "official_checkpoints.json").read_text())
OFFICIAL = {
    "bigr_l": ("BiGR-L-d24", "d24"),
    "bigr_xl": ("BiGR-XL-d24", "d24"),
    "bigr_xxl": ("BiGR-XXL-d24", "d24"),
    "bigr_xxl_d32": ("BiGR-XXL-d32", "d32"),
    "bigr_l_512": ("BiGR-L-d32-res512", "d32-512"),
}


def shapes(state) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("arch", OFFICIAL)
def test_each_official_size_has_exactly_the_published_keys_and_shapes(arch):
    generator, tokenizer = OFFICIAL[arch]
    model = timm.create_model(arch, device="meta")
    assert shapes(official_generator_state(model.generator)) == PUBLISHED["generators"][generator]["state_dict"]
    assert shapes(official_tokenizer_state(model.tokenizer)) == PUBLISHED["autoencoders"][tokenizer]["state_dict"]
    assert model.img_size == PUBLISHED["generators"][generator]["image_size"]


def test_the_32_bit_size_is_the_24_bit_size_with_another_code():
    assert preset_configs("bigr_xxl", code_dim=32) == preset_configs("bigr_xxl_d32")


@pytest.mark.parametrize("arch", PRESETS)
@pytest.mark.parametrize("code_dim", [16, 20, 24, 32])
def test_the_code_may_be_changed_in_both_parts(arch, code_dim):
    before = GENERATORS[arch]
    if before.tokens == "index":
        with pytest.raises(ValueError, match=f"code_dim={code_dim} counts bits, but tokens='index' has none"):
            preset_configs(arch, code_dim=code_dim)
        tokenizer, generator = preset_configs(arch, codebook_size=1000)
        assert tokenizer.codebook_size == generator.vocab_size == 1000
        return
    parts = {16: 1, 20: 2, 24: 2, 32: 4}[code_dim] if before.categorical else 1
    if parts > 1:
        with pytest.raises(ValueError, match=f"one softmax over {2**code_dim:,} classes.*num_sub_codes={parts} parts of"):
            preset_configs(arch, code_dim=code_dim)
    tokenizer, generator = preset_configs(arch, code_dim=code_dim, num_sub_codes=parts)
    assert tokenizer.code_dim == generator.code_dim == code_dim
    assert tokenizer.grid_size == generator.grid_size


def test_official_training_settings():
    for arch in OFFICIAL:
        _, generator = preset_configs(arch)
        assert (generator.num_timesteps, generator.num_denoise_steps, generator.noise_schedule) == (256, 100, "linear")
        assert (generator.predict_flip, generator.focal_gamma, generator.focal_alpha, generator.aux_weight) == (True, 0.0, None, 0.0)
        assert (generator.class_dropout, generator.residual_dropout, generator.ffn_dropout) == (0.1, 0.1, 0.1)
        assert (generator.num_classes, generator.num_cond_tokens, generator.adaln) == (1000, 1, True)


@pytest.mark.parametrize(
    ("arch", "trunk", "tokenizer"),
    [("llamagen_b", 111, 72), ("llamagen_l", 343, 72), ("bigr_l_cat_ar", 444, 63), ("bigr_l_cat_mask", 378, 63)],
)
def test_the_compared_systems_have_the_published_numbers_of_parameters(arch, trunk, tokenizer):
    model = timm.create_model(arch, device="meta")
    found = [sum(parameter.numel() for parameter in part.parameters()) for part in (model.generator, model.tokenizer)]
    assert [round(count / 1e6) for count in found] == [trunk, tokenizer]


@pytest.mark.parametrize("size", ["l", "nano"])
def test_the_systems_differ_from_bigr_in_what_the_paper_names_only(size):
    base = preset_configs(f"bigr_{size}", code_dim=16)[1]
    free = {"token_dropout", "code_dim", "vocab_size", "mask_levels", "denoiser_depth", "denoiser_width"}
    for arch, differs in (
        (f"llamagen_{size}", {"tokens", "head", "causal", "adaln"}),
        (f"bigr_{size}_cat_ar", {"head", "causal", "adaln"}),
        (f"bigr_{size}_cat_mask", {"head", "adaln"}),
        (f"bigr_{size}_bin_ar", {"causal"}),
    ):
        ours, reference = GENERATORS[arch].to_dict(), base.to_dict()
        assert {name for name in ours if ours[name] != reference[name]} - free == differs
    categorical = [GENERATORS[f"{name}"].vocab_size for name in (f"bigr_{size}_cat_ar", f"bigr_{size}_cat_mask")]
    assert categorical == [2**16 if size == "l" else 2**12] * 2


def test_nano_is_what_it_says():
    tokenizer, generator = preset_configs("bigr_nano")
    assert (tokenizer.image_size, tokenizer.grid_size, tokenizer.code_dim) == (32, 8, 16)
    assert (generator.num_tokens, generator.code_dim) == (64, 16)


def test_the_nano_tokenizers_are_of_one_size():
    vq = TOKENIZERS["llamagen_nano"]
    assert (vq.image_size, vq.grid_size, vq.codebook_size, vq.codebook_dim) == (32, 8, 4096, 8)
    models = VQAutoencoder(vq, device="meta"), BinaryAutoencoder(TOKENIZERS["bigr_nano"], device="meta")
    found, expected = (sum(parameter.numel() for parameter in model.parameters()) for model in models)
    assert found == pytest.approx(expected, rel=0.03)


def test_the_official_vq_tokenizer_is_the_default():
    assert TOKENIZERS["llamagen_l"] == VQTokenizerConfig()
    assert (VQTokenizerConfig().grid_size, VQTokenizerConfig().codebook_size) == (16, 16384)


@pytest.mark.parametrize(
    ("changes", "part", "field", "value"),
    [
        ({"depth": 3}, "generator", "depth", 3),
        ({"generator_num_classes": 7}, "generator", "num_classes", 7),
        ({"channels": 64}, "tokenizer", "channels", 64),
        ({"focal_gamma": None}, "generator", "focal_gamma", None),
    ],
)
def test_any_field_may_be_changed(changes, part, field, value):
    configs = dict(zip(("tokenizer", "generator"), preset_configs("bigr_nano", **changes), strict=True))
    assert getattr(configs[part], field) == value


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="there is no size 'bigr_m'; choose one of bigr_l, "):
        preset_configs("bigr_m")
    for field in ("colour", "num_classes", "image_size"):
        with pytest.raises(TypeError, match=f"bigr_l has no setting '{field}'"):
            preset_configs("bigr_l", **{field: 3})
