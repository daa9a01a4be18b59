"""Promises of our own format: the same model comes back, files appear whole or not at all, and damage is named."""

from __future__ import annotations

import copy
import json
import os
import re

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file

from bigr_features import checkpoints
from bigr_features.checkpoints import load_model, save_model

from ..helpers import TINY, assert_same_weights, tiny_generator, tiny_tokenizer, tiny_vq


@pytest.mark.parametrize(
    "model", [tiny_generator(seed=3, focal_gamma=None), tiny_tokenizer(seed=3), tiny_vq(seed=3, l2_norm=False)], ids=type
)
def test_our_format_gives_back_the_same_model(tmp_path, model):
    save_model(model, tmp_path / "deep" / "folder")
    loaded = load_model(tmp_path / "deep" / "folder")
    assert (type(loaded), loaded.config, loaded.training) == (type(model), model.config, False)
    assert_same_weights(loaded, model)
    assert checkpoints.fingerprint(loaded) == checkpoints.fingerprint(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_may_be_stored_in_half_precision(tmp_path, dtype):
    model = tiny_generator()
    save_model(model, tmp_path, dtype=dtype)
    stored = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {dtype}
    assert_same_weights(load_model(tmp_path), copy.deepcopy(model).to(dtype).float())


def test_what_is_saved_is_a_config_in_json_and_weights_in_safetensors(tmp_path):
    save_model(tiny_generator(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    content = json.loads((tmp_path / "config.json").read_text())
    assert content == {"format": 1, "kind": "BiGR", "config": TINY.to_dict()}


def test_saving_twice_replaces(tmp_path):
    save_model(tiny_generator(seed=1), tmp_path)
    save_model(tiny_tokenizer(seed=2), tmp_path)
    assert_same_weights(load_model(tmp_path), tiny_tokenizer(seed=2))


def test_only_our_models_are_saved(tmp_path):
    with pytest.raises(
        TypeError,
        match=r"takes BinaryAutoencoder or VQAutoencoder or BiGR, not Linear; save a timm backbone with timm\.models\.save_for_hf",
    ):
        save_model(torch.nn.Linear(2, 2), tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_part_is_named(tmp_path, name):
    save_model(tiny_generator(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {re.escape(name)}"):
        load_model(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"kind": "BiGR"}', '"text"'])
def test_a_damaged_config_is_refused(tmp_path, text):
    save_model(tiny_generator(), tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged or not written by save_model"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", bytes(range(128, 256))])
def test_a_config_that_is_no_text_is_refused(tmp_path, content):
    save_model(tiny_generator(), tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged or not written by save_model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "GPT"}, "holds 'GPT' in format 1"),
        ({"kind": ["BiGR"]}, r"holds \['BiGR'\] in format 1"),
        ({"format": 2}, "holds 'BiGR' in format 2"),
        ({"config": {"colour": 1}}, "GeneratorConfig has no field colour"),
        ({"config": {"width": 0}}, "width=0"),
        ({"config": {"width": "wide"}}, "width='wide'"),
        ({"config": 3}, r"config\.json is damaged or not written by save_model"),
        ({"config": "text"}, r"config\.json is damaged or not written by save_model"),
        ({"config": TINY.replace(width=64).to_dict()}, r"embedding\.proj\.weight is \[32, 5\] there and \[64, 5\] here"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, changes, message):
    save_model(tiny_generator(), tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, **changes}))
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_damaged_weights_are_refused(tmp_path, share):
    save_model(tiny_generator(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ValueError, match=r"model\.safetensors is (damaged or no safetensors file|empty)"):
        load_model(tmp_path)


def test_weights_with_missing_and_extra_entries_are_refused(tmp_path):
    save_model(tiny_generator(), tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["stray"] = state.pop("class_embedding.weight")
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"it lacks class_embedding\.weight\. it has stray that this model lacks"):
        load_model(tmp_path)


def test_a_tokenizer_of_the_other_kind_is_refused(tmp_path):
    """The weights of one kind beside the configuration of the other."""
    for kind, other in ((tiny_tokenizer(), tiny_vq()), (tiny_vq(), tiny_tokenizer())):
        save_model(kind, tmp_path / "one")
        save_model(other, tmp_path / "other")
        (tmp_path / "one" / "config.json").write_bytes((tmp_path / "other" / "config.json").read_bytes())
        with pytest.raises(ValueError, match="does not fit this model"):
            load_model(tmp_path / "one")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    save_model(tiny_generator(seed=1), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_):
        raise OSError("disk full")

    for broken in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(os, broken, fail)
            with pytest.raises(OSError, match="disk full"):
                save_model(tiny_generator(seed=2), tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
