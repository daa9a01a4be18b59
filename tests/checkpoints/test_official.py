"""Promises of official checkpoints: published ones have exactly our keys, load as they are, and what does not fit is refused by name."""

from __future__ import annotations

import argparse
import json
import re

import pytest
import torch
from safetensors.torch import load_file

from bigr_features import BiGR, BinaryAutoencoder, checkpoints
from bigr_features.checkpoints import (
    load_official_generator,
    load_official_tokenizer,
    official_generator_state,
    official_tokenizer_state,
    read_pickle,
)

from ..helpers import (
    GOLDEN,
    TINY,
    TINY_TOKENIZER,
    GoldenSet,
    assert_same_weights,
    generator_config,
    tiny_generator,
    tiny_tokenizer,
    tokenizer_config,
)

PUBLISHED = json.loads((GOLDEN / "official_checkpoints.json").read_text())
GEN_A, AE = GoldenSet("gen_a"), GoldenSet("ae")
TRAINING_FILE = GEN_A.folder / "official_checkpoint.pt"
TOKENIZER_FILE = AE.folder / "official_bae.th"
OFFICIAL_SETTINGS = {  # what the flags of every published generator say
    "num_classes": 1000,
    "cls_token_num": 1,
    "use_adaLN": True,
    "multiple_of": 256,
    "norm_eps": 1e-5,
    "rope_base": 10000,
    "class_dropout_prob_for_table": 0.1,
    "token_dropout_p": 0.0,
    "resid_dropout_p": 0.1,
    "ffn_dropout_p": 0.1,
    "n_sample_steps": 256,
    "infer_steps": 100,
    "p_flip": True,
    "focal": 0.0,
    "alpha": -1,
    "aux": 0.0,
}


def shapes(state) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("name", PUBLISHED["generators"])
def test_every_published_generator_has_exactly_our_keys_and_shapes(name):
    entry = PUBLISHED["generators"][name]
    values = {**OFFICIAL_SETTINGS, **entry, "binary_size": entry["code_bits"], "block_size": entry["seq_len"]}
    model = BiGR(generator_config(values), device="meta")
    assert shapes(official_generator_state(model)) == entry["state_dict"]
    assert sum(parameter.numel() for parameter in model.parameters()) == entry["parameters"]


@pytest.mark.parametrize("name", PUBLISHED["autoencoders"])
def test_every_published_tokenizer_has_exactly_our_keys_and_shapes(name):
    entry = PUBLISHED["autoencoders"][name]
    model = BinaryAutoencoder(tokenizer_config(entry), device="meta")
    assert shapes(official_tokenizer_state(model)) == entry["state_dict"]


def test_recorded_weights_are_read_into_the_right_places(golden, generator):
    published = golden.folder / "official_checkpoint.pt"
    recorded = read_pickle(published)["ema"] if published.is_file() else load_file(golden.folder / "generator.safetensors")
    ours = official_generator_state(generator)
    assert shapes(ours) == shapes(recorded)
    for key, value in recorded.items():
        tolerance = 1e-5 if ".scheduler." in key else 0
        torch.testing.assert_close(ours[key], value, rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}")


def test_averaged_weights_are_the_default_and_raw_ones_can_be_asked_for():
    content = checkpoints.read_pickle(TRAINING_FILE)
    averaged, same, raw = (
        load_official_generator(TRAINING_FILE, GEN_A.config, **given) for given in ({}, {"weights": "ema"}, {"weights": "model"})
    )
    assert_same_weights(averaged, same)
    for model, entry in ((averaged, "ema"), (raw, "model")):
        ours = official_generator_state(model)
        for key in ("mask_tok", "layers.3.ada_gss", "denoise_mlp.blocks.1.mlp.2.weight"):
            torch.testing.assert_close(ours[key], content[entry][key], rtol=0, atol=0)
    assert not torch.equal(averaged.position_embedding, raw.position_embedding)


def test_a_training_file_with_a_namespace_and_an_optimizer_loads():
    content = checkpoints.read_pickle(TRAINING_FILE)
    assert {"model", "ema", "opt", "args"} <= set(content)
    assert isinstance(content["args"], argparse.Namespace)
    assert checkpoints.is_official_generator(content)


def test_published_bare_and_wrapped_state_dicts_load(tmp_path):
    model = tiny_generator()
    state = official_generator_state(model)
    for content in ({"ema": state}, state, {"ema": {f"module.{key}": value for key, value in state.items()}}):
        torch.save(content, tmp_path / "a.pt")
        assert_same_weights(load_official_generator(tmp_path / "a.pt", TINY), model)


@pytest.mark.parametrize("changes", [{}, {"adaln": False}, {"num_cond_tokens": 3}, {"noise_schedule": "sigmoid"}])
def test_generator_goes_to_an_official_file_and_back(tmp_path, changes):
    model = tiny_generator(**changes)
    torch.save({"ema": official_generator_state(model)}, tmp_path / "a.pt")
    assert_same_weights(load_official_generator(tmp_path / "a.pt", model.config), model)


@pytest.mark.parametrize("changes", [{}, {"norm_first": False}, {"channel_multipliers": (1, 2, 2, 1), "attention_resolutions": (4, 2)}])
def test_tokenizer_goes_to_an_official_file_and_back(tmp_path, changes):
    model = tiny_tokenizer(**changes)
    state = {f"ae.{key}": value for key, value in official_tokenizer_state(model).items()}
    torch.save({**state, "disc.0.weight": torch.zeros(3), "perceptual.0": torch.zeros(2)}, tmp_path / "a.th")
    assert_same_weights(load_official_tokenizer(tmp_path / "a.th", model.config), model)


def test_official_tokenizer_file_holds_what_its_record_says(tokenizer):
    assert shapes(official_tokenizer_state(tokenizer)) == AE.record["shapes"]


def test_a_checkpoint_of_another_size_names_the_first_keys_and_both_shapes():
    with pytest.raises(ValueError, match=r"entry 'ema'.*embedding\.mask_embedding is \[1, 64\] there and \[1, 32\] here"):
        load_official_generator(TRAINING_FILE, GEN_A.config.replace(width=32))
    with pytest.raises(ValueError, match=r"quantizer\.embedding is \[8, 64\] there and \[16, 64\] here"):
        load_official_tokenizer(TOKENIZER_FILE, AE.config.replace(code_dim=16))


def test_a_checkpoint_of_another_depth_names_missing_and_extra_keys():
    with pytest.raises(ValueError, match=r"it lacks trunk\.blocks\.4\.modulation_offset"):
        load_official_generator(TRAINING_FILE, GEN_A.config.replace(depth=5))
    with pytest.raises(ValueError, match=r"it has trunk\.blocks\.3\.modulation_offset.* that this model lacks"):
        load_official_generator(TRAINING_FILE, GEN_A.config.replace(depth=3))


def test_a_512_tokenizer_built_for_256_pixels_is_refused(tmp_path):
    """Attention sits where the side in positions says, so the image size decides which blocks there are."""
    config = TINY_TOKENIZER.replace(image_size=32, channel_multipliers=(1, 1, 1), attention_resolutions=(8,))
    large = BinaryAutoencoder(config.replace(image_size=64))
    torch.save({f"ae.{key}": value for key, value in official_tokenizer_state(large).items()}, tmp_path / "large.th")
    with pytest.raises(ValueError, match=r"large\.th does not fit this model"):
        load_official_tokenizer(tmp_path / "large.th", config)


def test_a_file_of_the_other_kind_is_refused():
    with pytest.raises(ValueError, match=r"official_bae\.th has no entry 'ema'; it holds "):
        load_official_generator(TOKENIZER_FILE, GEN_A.config)
    with pytest.raises(ValueError, match=r"official_checkpoint\.pt has no 'ae\.' entries, so it is no official tokenizer"):
        load_official_tokenizer(TRAINING_FILE, AE.config)
    assert not checkpoints.is_official_generator(checkpoints.read_pickle(TOKENIZER_FILE))


def test_an_entry_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="has no entry 'average'; it holds "):
        load_official_generator(TRAINING_FILE, GEN_A.config, weights="average")


@pytest.mark.parametrize("value", [None, [1, 2], 7, torch.zeros(3)], ids=["None", "list", "int", "Tensor"])
def test_an_entry_that_is_no_state_dict_is_refused(tmp_path, value):
    torch.save({"ema": value}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=r"odd\.pt"):
        load_official_generator(tmp_path / "odd.pt", TINY)


def test_values_that_are_no_tensors_are_refused(tmp_path):
    torch.save({"ema": {**official_generator_state(tiny_generator()), "mask_tok": "text"}}, tmp_path / "odd.pt")
    with pytest.raises(ValueError, match=r"odd\.pt"):
        load_official_generator(tmp_path / "odd.pt", TINY)


def test_a_denoiser_whose_two_copies_differ_is_refused(tmp_path):
    state = official_generator_state(tiny_generator())
    key = "diffusion_processor._denoise_fn.final_layer.linear.weight"
    state[key] = state[key] + 1
    torch.save({"ema": state}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=re.escape(f"{key} differs from denoise_mlp")):
        load_official_generator(tmp_path / "a.pt", TINY)


def test_a_copy_without_its_original_is_refused(tmp_path):
    state = official_generator_state(tiny_generator())
    del state["denoise_mlp.final_layer.linear.weight"]
    torch.save({"ema": state}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"final_layer\.linear\.weight"):
        load_official_generator(tmp_path / "a.pt", TINY)


@pytest.mark.parametrize("changes", [{"noise_schedule": "cosine"}, {"num_timesteps": 32}])
def test_another_noise_schedule_is_refused(tmp_path, changes):
    torch.save({"ema": official_generator_state(tiny_generator())}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"scheduler\.\w+ is not the (cosine schedule of 16|linear schedule of 32) timesteps"):
        load_official_generator(tmp_path / "a.pt", TINY.replace(**changes))
