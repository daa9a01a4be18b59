"""Promises of the named sizes: they are the published ones, and any field may be changed by keyword."""

from __future__ import annotations

import json

import pytest
import timm

from bigr_features import BinaryAutoencoder, VQAutoencoder, VQTokenizerConfig
from bigr_features.checkpoints import official_generator_state, official_tokenizer_state
from bigr_features.models.presets import PRESETS, TOKENIZERS, preset_configs

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


@pytest.mark.parametrize("arch", [arch for arch in PRESETS if arch == "bigr_nano" or arch in OFFICIAL])
@pytest.mark.parametrize("code_dim", [16, 20, 24, 32])
def test_the_code_may_be_changed_in_both_parts(arch, code_dim):
    tokenizer, generator = preset_configs(arch, code_dim=code_dim)
    assert tokenizer.code_dim == generator.code_dim == code_dim
    assert tokenizer.grid_size == generator.grid_size


def test_official_training_settings():
    for arch in OFFICIAL:
        _, generator = preset_configs(arch)
        assert (generator.num_timesteps, generator.num_denoise_steps, generator.noise_schedule) == (256, 100, "linear")
        assert (generator.predict_flip, generator.focal_gamma, generator.focal_alpha, generator.aux_weight) == (True, 0.0, None, 0.0)
        assert (generator.class_dropout, generator.residual_dropout, generator.ffn_dropout) == (0.1, 0.1, 0.1)
        assert (generator.num_classes, generator.num_cond_tokens, generator.adaln) == (1000, 1, True)


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
