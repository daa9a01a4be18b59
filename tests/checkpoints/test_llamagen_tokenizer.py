"""Promises of LlamaGen's tokenizer files: published ones have exactly our keys, load as they are, and what does not fit is refused."""

from __future__ import annotations

import argparse
import json
import os

import pytest
import torch

from bigr_features import BinaryAutoencoder, TokenizerConfig, VQAutoencoder, VQTokenizerConfig, checkpoints
from bigr_features.checkpoints import llamagen_tokenizer_state, load_llamagen_tokenizer, load_official_tokenizer, official_tokenizer_state
from bigr_features.checkpoints.llamagen_tokenizer import official_names

from ..helpers import GOLDEN, TINY, TINY_TOKENIZER, TINY_VQ, GoldenSet, assert_same_weights, tiny_generator, tiny_vq

PUBLISHED = json.loads((GOLDEN / "systems" / "official_checkpoints.json").read_text())["llamagen_vq"]
OFFICIAL = {"vq_ds16_c2i": VQTokenizerConfig(), "vq_ds8_c2i": VQTokenizerConfig(channel_multipliers=(1, 2, 2, 4))}
VQ = GoldenSet("systems/llamagen_vq")
FILE = VQ.folder / "official_checkpoint.pt"


def shapes(state) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_tokenizer_has_exactly_our_keys_and_shapes(name):
    model = VQAutoencoder(OFFICIAL[name], device="meta")
    assert shapes(llamagen_tokenizer_state(model)) == PUBLISHED[name]["state_dict"]
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]["parameters"]


def test_recorded_weights_are_read_into_the_right_places(vq_tokenizer):
    recorded = checkpoints.read_pickle(FILE)["model"]
    ours = llamagen_tokenizer_state(vq_tokenizer)
    assert shapes(ours) == shapes(recorded)
    for key in set(recorded) - {"quantize.codebook_used"}:
        assert torch.equal(ours[key], recorded[key]), key
    assert len(set(official_names(vq_tokenizer).values())) == len(vq_tokenizer.state_dict())


@pytest.mark.parametrize(
    "changes", [{}, {"channel_multipliers": (2,)}, {"channel_multipliers": (1, 2, 2, 1), "num_res_blocks": 2}, {"in_chans": 1}], ids=str
)
def test_tokenizer_goes_to_an_official_file_and_back(tmp_path, changes):
    model = tiny_vq(**changes)
    torch.save({"model": llamagen_tokenizer_state(model)}, tmp_path / "vq.pt")
    assert_same_weights(load_llamagen_tokenizer(tmp_path / "vq.pt", model.config), model)


def test_every_layout_of_a_file_is_read(tmp_path):
    model, path = tiny_vq(), tmp_path / "vq.pt"
    state = llamagen_tokenizer_state(model)
    bare = {key: value for key, value in state.items() if key != "quantize.codebook_used"}
    wrapped = {f"module.{key}": value for key, value in state.items()}
    for content in ({"model": state}, {"module": state}, {"state_dict": state}, state, bare, {"model": wrapped}):
        torch.save(content, path)
        assert_same_weights(load_llamagen_tokenizer(path, TINY_VQ), model)


def test_averaged_weights_are_the_default_and_raw_ones_can_be_asked_for(tmp_path):
    raw, averaged = tiny_vq(seed=1), tiny_vq(seed=2)
    content = {
        "model": llamagen_tokenizer_state(raw),
        "ema": llamagen_tokenizer_state(averaged),
        "discriminator": {"main.0.weight": torch.zeros(3)},
        "optimizer": {"state": {}, "param_groups": []},
        "steps": 7,
        "args": argparse.Namespace(codebook_size=12),
    }
    torch.save(content, tmp_path / "training.pt")
    assert_same_weights(load_llamagen_tokenizer(tmp_path / "training.pt", TINY_VQ), averaged)
    assert_same_weights(load_llamagen_tokenizer(tmp_path / "training.pt", TINY_VQ, weights="model"), raw)
    with pytest.raises(ValueError, match="has no weights 'average'; it holds model, ema, discriminator"):
        load_llamagen_tokenizer(tmp_path / "training.pt", TINY_VQ, weights="average")
    with pytest.raises(ValueError, match="has no weights 'steps'; it holds model, ema"):
        load_llamagen_tokenizer(tmp_path / "training.pt", TINY_VQ, weights="steps")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": 65}, r"quantizer\.embedding is \[64, 8\] there and \[65, 8\] here"),
        ({"codebook_dim": 4}, r"to_latent\.weight is \[8, 32, 1, 1\] there and \[4, 32, 1, 1\] here"),
        ({"channel_multipliers": (1, 2, 2)}, "does not fit this model"),
        ({"channel_multipliers": (1, 2)}, "does not fit this model"),
        ({"num_res_blocks": 2}, r"does not fit this model.*it lacks "),
    ],
)
def test_a_tokenizer_of_another_size_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        load_llamagen_tokenizer(FILE, VQ.config.replace(**changes))


def test_a_file_of_the_other_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds a binary tokenizer, not a VQ tokenizer; read it with load_official_tokenizer"):
        load_llamagen_tokenizer(GOLDEN / "ae" / "official_bae.th", VQ.config)
    with pytest.raises(ValueError, match=r"holds a VQ tokenizer, not a binary tokenizer; read it with load_llamagen_tokenizer"):
        load_official_tokenizer(FILE, TINY_TOKENIZER)
    torch.save(llamagen_tokenizer_state(tiny_vq()), tmp_path / "bare.pt")
    with pytest.raises(ValueError, match=r"holds a VQ tokenizer, not a binary tokenizer"):
        load_official_tokenizer(tmp_path / "bare.pt", TINY_TOKENIZER)
    torch.save({"model": {"tok_embeddings.weight": torch.zeros(3)}}, tmp_path / "gpt.pt")
    with pytest.raises(
        ValueError,
        match=r"has no 'quantize\.embedding\.weight' among its weights, so it is no VQ tokenizer; it holds tok_embeddings\.weight",
    ):
        load_llamagen_tokenizer(tmp_path / "gpt.pt", TINY_VQ)
    for config in (TokenizerConfig(), TINY):
        with pytest.raises(TypeError, match=rf"built from a VQTokenizerConfig, but a {type(config).__name__} was given"):
            load_llamagen_tokenizer(FILE, config)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint file"):
        load_llamagen_tokenizer(tmp_path / "none.pt", TINY_VQ)
    (tmp_path / "cut.pt").write_bytes(FILE.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.pt"):
        load_llamagen_tokenizer(tmp_path / "cut.pt", TINY_VQ)
    torch.save({"model": {**llamagen_tokenizer_state(tiny_vq()), "quant_conv.bias": "text"}}, tmp_path / "text.pt")
    with pytest.raises(ValueError, match=r"quant_conv\.bias is a str, but a tensor of weights is expected"):
        load_llamagen_tokenizer(tmp_path / "text.pt", TINY_VQ)
    torch.save({"model": llamagen_tokenizer_state(tiny_vq()), "hook": os.system}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="was refused and nothing in it was executed"):
        load_llamagen_tokenizer(tmp_path / "code.pt", TINY_VQ)


def test_a_generator_is_no_tokenizer(tmp_path):
    torch.save({"ema": checkpoints.official_generator_state(tiny_generator())}, tmp_path / "bigr.pt")
    with pytest.raises(ValueError, match=r"has no 'quantize\.embedding\.weight' among its weights"):
        load_llamagen_tokenizer(tmp_path / "bigr.pt", TINY_VQ)


@pytest.mark.parametrize("code_dim", [16, 20, 24])
def test_tokenizers_of_elm_are_official_files_of_the_binary_kind(tmp_path, code_dim):
    """The same entries and `ae.` prefix, beside those of a discriminator and a perceptual network."""
    config = TINY_TOKENIZER.replace(code_dim=code_dim)
    model = BinaryAutoencoder(config)
    state = {f"ae.{key}": value for key, value in official_tokenizer_state(model).items()}
    torch.save(
        {**state, "disc.main.0.weight": torch.zeros(3), "perceptual.lin0.model.1.weight": torch.zeros(2)}, tmp_path / "binaryae_ema.th"
    )
    assert_same_weights(load_official_tokenizer(tmp_path / "binaryae_ema.th", config), model)
