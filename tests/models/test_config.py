"""Promises of the configurations: numbers that make no model are refused by name, and JSON loses nothing."""

from __future__ import annotations

import dataclasses
import json

import pytest

from bigr_features import GeneratorConfig, TokenizerConfig, VQTokenizerConfig

POSITIVE = {
    TokenizerConfig: ["image_size", "in_chans", "channels", "num_res_blocks", "embed_dim", "code_dim"],
    VQTokenizerConfig: ["image_size", "in_chans", "channels", "num_res_blocks", "embed_dim", "codebook_size", "codebook_dim"],
    GeneratorConfig: [
        "code_dim",
        "depth",
        "width",
        "num_heads",
        "grid_size",
        "num_classes",
        "num_cond_tokens",
        "num_timesteps",
        "denoiser_width",
        "denoiser_depth",
        "ffn_multiple_of",
    ],
}


@pytest.mark.parametrize(("config", "name"), [(config, name) for config, names in POSITIVE.items() for name in names])
@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_sizes_must_be_positive_integers(config, name, value):
    with pytest.raises(ValueError, match=f"{name}={value}, but a positive integer is expected"):
        config(**{name: value})


@pytest.mark.parametrize("name", ["token_dropout", "residual_dropout", "ffn_dropout", "drop_path"])
@pytest.mark.parametrize("value", [-0.1, 1.0, 2.0])
def test_dropout_must_be_a_probability_below_one(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}, but a probability"):
        GeneratorConfig(**{name: value})


@pytest.mark.parametrize(("width", "num_heads", "head"), [(64, 3, "21.3333"), (60, 10, "6"), (8, 4, "2")])
def test_heads_must_hold_whole_rotary_pairs(width, num_heads, head):
    with pytest.raises(ValueError, match=f"width={width} with num_heads={num_heads} gives heads of {head} channels"):
        GeneratorConfig(width=width, num_heads=num_heads)


@pytest.mark.parametrize("steps", [0, 257])
def test_denoise_steps_must_fit_the_noise_levels(steps):
    with pytest.raises(ValueError, match=rf"num_denoise_steps={steps}, but it must lie in 1\.\.256"):
        GeneratorConfig(num_denoise_steps=steps)


@pytest.mark.parametrize(
    "changes", [{"focal_gamma": -1.0}, {"focal_alpha": -1.0}, {"focal_alpha": 1.5}, {"aux_weight": -0.1}], ids=lambda changes: str(changes)
)
def test_loss_weights_out_of_range_are_refused(changes):
    """The public code writes -1 for "not used", which is None here; taken as a number it would train something else."""
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name}={value}"):
        GeneratorConfig(**changes)


@pytest.mark.parametrize("name", ["init_std", "position_init_std"])
@pytest.mark.parametrize("value", [0.0, -0.02, float("nan"), float("inf")])
def test_the_spread_of_new_weights_must_be_positive(name, value):
    with pytest.raises(ValueError, match=rf"{name}=.*; expected a positive number"):
        GeneratorConfig(**{name: value})


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_the_mean_of_new_gates_must_be_finite(value):
    with pytest.raises(ValueError, match=r"gate_init=.*; expected a finite number"):
        GeneratorConfig(gate_init=value)


def test_noise_schedule_must_be_known():
    with pytest.raises(ValueError, match="noise_schedule='cos'; choose one of linear, cosine, sigmoid"):
        GeneratorConfig(noise_schedule="cos")


@pytest.mark.parametrize("multipliers", [(), (1, 0, 2)])
def test_each_level_needs_a_multiplier(multipliers):
    with pytest.raises(ValueError, match="channel_multipliers="):
        TokenizerConfig(channel_multipliers=multipliers)


@pytest.mark.parametrize("changes", [{"channels": 48}, {"embed_dim": 40}])
def test_group_norm_needs_multiples_of_32(changes):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name}={value}.*multiples of 32"):
        TokenizerConfig(**changes)


def test_image_size_must_be_whole_tokens():
    with pytest.raises(ValueError, match="image_size=250 is not a multiple of 16"):
        TokenizerConfig(image_size=250)


@pytest.mark.parametrize(
    "config",
    [
        TokenizerConfig(),
        TokenizerConfig(image_size=64, channel_multipliers=(1, 2, 3), attention_resolutions=(), code_dim=5),
        VQTokenizerConfig(),
        VQTokenizerConfig(image_size=64, channel_multipliers=(1, 2, 3), embed_dim=12, codebook_size=7, l2_norm=False, entropy_weight=0.1),
        GeneratorConfig(),
        GeneratorConfig(code_dim=7, focal_gamma=None, focal_alpha=0.25, noise_schedule="sigmoid", causal=True),
    ],
)
def test_json_round_trip(config):
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("config", [TokenizerConfig, VQTokenizerConfig, GeneratorConfig])
def test_unknown_fields_are_named(config):
    with pytest.raises(ValueError, match=f"{config.__name__} has no field colour, taste"):
        config.from_dict({"taste": 1, "colour": 2})


@pytest.mark.parametrize("config", [TokenizerConfig(), GeneratorConfig()])
def test_configurations_are_frozen_and_replace_checks_again(config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.code_dim = 3
    assert config.replace(code_dim=3).code_dim == 3
    with pytest.raises(ValueError, match="code_dim=0"):
        config.replace(code_dim=0)


@pytest.mark.parametrize("name", ["commitment_weight", "entropy_weight"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_weights_of_the_quantiser_must_be_finite_and_not_negative(name, value):
    with pytest.raises(ValueError, match=rf"{name}=.*; expected a finite number, 0 or more"):
        VQTokenizerConfig(**{name: value})


def test_where_attention_stands():
    assert TokenizerConfig().attention_levels == (False, False, False, False, True)
    assert TokenizerConfig(image_size=512, attention_resolutions=(128, 32)).attention_levels == (False, False, True, False, True)
    assert VQTokenizerConfig(image_size=512).attention_levels == (False, False, False, False, True)  # whatever the size of the images
    assert (TokenizerConfig(decoder_multiplier=1.5).num_decoder_blocks, VQTokenizerConfig().num_decoder_blocks) == (3, 3)


@pytest.mark.parametrize("width", range(4, 300, 4))
@pytest.mark.parametrize("multiple", [1, 16, 256])
def test_feed_forward_width_is_the_next_multiple_above_eight_thirds(width, multiple):
    config = GeneratorConfig(width=width, num_heads=1, ffn_multiple_of=multiple)
    assert config.ffn_width % multiple == 0
    assert 0 <= config.ffn_width - 8 * width // 3 < multiple


def test_derived_sizes():
    tokenizer = TokenizerConfig(image_size=512, channel_multipliers=(1, 1, 2, 2, 4))
    assert (tokenizer.downsampling, tokenizer.grid_size) == (16, 32)
    generator = GeneratorConfig(grid_size=12, num_classes=7, width=96, num_heads=2)
    assert (generator.num_tokens, generator.null_class, generator.denoiser_width) == (144, 7, 96)


def test_labels_may_always_be_dropped():
    assert GeneratorConfig(class_dropout=1.0).unconditional
    assert not GeneratorConfig(class_dropout=0.9).unconditional
    with pytest.raises(ValueError, match=r"class_dropout=1\.1, but a probability"):
        GeneratorConfig(class_dropout=1.1)


@pytest.mark.parametrize(("changes", "classes"), [({"code_dim": 8}, 256), ({"num_sub_codes": 2}, 64), ({"depth": 2}, 4096)])
def test_classes_that_follow_from_the_bits_are_counted_anew(changes, classes):
    config = GeneratorConfig(head="linear", code_dim=12, causal=True)
    assert config.vocab_size == 4096
    assert config.replace(**changes).vocab_size == classes
    with pytest.raises(ValueError, match=r"vocab_size=5, but .* bits make"):
        config.replace(**changes, vocab_size=5)
    index = GeneratorConfig(tokens="index", head="linear", vocab_size=30, causal=True)
    assert index.replace(depth=2).vocab_size == 30
