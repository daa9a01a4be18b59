"""Promises of the files of LlamaGen and ELM: read safely whatever their layout, written back as they were, and every published key list."""

from __future__ import annotations

import argparse
import json

import pytest
import torch

from bigr_features import BiGR, GeneratorConfig
from bigr_features.checkpoints import (
    elm_generator_state,
    is_elm_generator,
    is_llamagen_generator,
    llamagen_generator_state,
    load_elm_generator,
    load_llamagen_generator,
    load_model,
    read_pickle,
    save_model,
)

from ..helpers import GOLDEN, SYSTEM_CHANGES, TINY, GoldenSet, assert_same_weights, tiny_system

PUBLISHED = json.loads((GOLDEN / "systems" / "official_checkpoints.json").read_text())
UNUSED = ("output.", "pos_embed.", "proj.")  # of masked files


def config_of(name: str, entry: dict) -> GeneratorConfig:
    size = dict(depth=entry["n_layer"], width=entry["dim"], num_heads=entry["n_head"], adaln=False)
    if "token_each" not in entry:
        return GeneratorConfig(tokens="index", head="linear", vocab_size=16384, grid_size=entry["grid"], causal=True, **size)
    masked = name.startswith("mlm")
    code_dim, parts = entry["code_dim"] * entry["token_each"], entry["token_each"]
    return GeneratorConfig(head="mlm" if masked else "linear", code_dim=code_dim, num_sub_codes=parts, causal=not masked, **size)


def shapes(state: dict) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in state.items()}


def entries():
    for kind in ("llamagen_gpt", "elm_ar", "elm_mlm"):
        for name in PUBLISHED[kind]:
            yield kind, name


@pytest.mark.parametrize(("kind", "name"), list(entries()))
def test_every_published_generator_has_exactly_our_keys_and_shapes(kind, name):
    entry = PUBLISHED[kind][name]
    listed = entry["state_dict"]
    if isinstance(listed, str):
        listed = PUBLISHED[kind][listed.removeprefix("same as ")]["state_dict"]
    model = BiGR(config_of(name, entry), device="meta")
    state = llamagen_generator_state(model) if kind == "llamagen_gpt" else elm_generator_state(model)
    assert shapes(state) == listed
    unused = sum(value.numel() for key, value in state.items() if kind == "elm_mlm" and key.startswith(UNUSED))
    assert sum(parameter.numel() for parameter in model.parameters()) == entry["parameters"] - unused


def test_recorded_files_are_written_back_as_they_were(golden_system, system):
    content = read_pickle(golden_system.folder / golden_system.record["checkpoint_file"])
    recorded = content.get("model", content)
    written = (llamagen_generator_state if "tok_embeddings.weight" in recorded else elm_generator_state)(system)
    assert shapes(written) == shapes(recorded)
    used = {key for key in recorded if not (golden_system.config.head == "mlm" and key.startswith(UNUSED))}
    for key in used:
        torch.testing.assert_close(written[key], recorded[key], rtol=0, atol=0, msg=lambda text, key=key: f"{key}: {text}")
    assert not any(written[key].any() for key in set(recorded) - used)


@pytest.mark.parametrize("wrap", ["model", "module", "state_dict", None])
@pytest.mark.parametrize("stale", [False, True])
def test_a_llamagen_file_loads_in_every_layout(tmp_path, wrap, stale):
    model = tiny_system("llamagen")
    state = llamagen_generator_state(model)
    if stale:
        state["freqs_cis"] = torch.zeros(10, 4, 2)
        state["layers.0.attention.kv_cache.k_cache"] = torch.zeros(2, 2, 10, 16)
    content = state if wrap is None else {wrap: state, "args": argparse.Namespace(gpt_model="GPT-B"), "steps": 3}
    assert is_llamagen_generator(content)
    torch.save(content, tmp_path / "c2i.pt")
    assert_same_weights(load_llamagen_generator(tmp_path / "c2i.pt", model.config), model)


def test_a_llamagen_training_file_gives_averaged_weights_unless_asked_for_the_others(tmp_path):
    averaged, raw = tiny_system("llamagen", seed=0), tiny_system("llamagen", seed=1)
    content = {"model": llamagen_generator_state(raw), "ema": llamagen_generator_state(averaged), "optimizer": {}, "steps": 3}
    assert is_llamagen_generator(content)
    torch.save(content, tmp_path / "training.pt")
    assert_same_weights(load_llamagen_generator(tmp_path / "training.pt", averaged.config), averaged)
    assert_same_weights(load_llamagen_generator(tmp_path / "training.pt", averaged.config, weights="model"), raw)
    with pytest.raises(ValueError, match="has no entry 'best'; it holds model, ema"):
        load_llamagen_generator(tmp_path / "training.pt", averaged.config, weights="best")


@pytest.mark.parametrize("name", ["cat_ar", "cat_ar_split", "cat_mask", "cat_mask_split"])
def test_an_elm_file_gives_averaged_weights_unless_asked_for_the_others(tmp_path, name):
    averaged, raw = tiny_system(name, seed=0), tiny_system(name, seed=1)
    content = {"model": elm_generator_state(raw), "ema": elm_generator_state(averaged), "opt": {}, "args": argparse.Namespace()}
    content["model"] = {f"module.{key}": value for key, value in content["model"].items()}  # of data-parallel training
    assert is_elm_generator(content)
    torch.save(content, tmp_path / "elm.pth")
    assert_same_weights(load_elm_generator(tmp_path / "elm.pth", averaged.config), averaged)
    assert_same_weights(load_elm_generator(tmp_path / "elm.pth", averaged.config, weights="model"), raw)
    with pytest.raises(ValueError, match="weights='best'; choose one of ema, model"):
        load_elm_generator(tmp_path / "elm.pth", averaged.config, weights="best")
    torch.save(elm_generator_state(averaged), tmp_path / "flat.pth")
    assert_same_weights(load_elm_generator(tmp_path / "flat.pth", averaged.config), averaged)


def test_a_masked_elm_file_need_not_hold_what_is_never_used(tmp_path):
    model = tiny_system("cat_mask_split")
    state = {key: value for key, value in elm_generator_state(model).items() if not key.startswith(UNUSED)}
    torch.save(state, tmp_path / "mlm.pth")
    assert_same_weights(load_elm_generator(tmp_path / "mlm.pth", model.config), model)


@pytest.mark.parametrize("name", SYSTEM_CHANGES)
def test_every_system_is_saved_in_our_format(tmp_path, name):
    model = tiny_system(name)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == model.config
    assert_same_weights(again, model)


def saved(tmp_path, content) -> str:
    torch.save(content, tmp_path / "file.pt")
    return tmp_path / "file.pt"


def config(name: str, **changes) -> GeneratorConfig:
    return TINY.replace(**{**SYSTEM_CHANGES[name], **changes})


@pytest.mark.parametrize(
    ("content", "load", "name", "message"),
    [
        ("cat_ar", load_elm_generator, "cat_mask", "holds an autoregressive ELM, but .* head='mlm'; give head='linear', causal=True"),
        ("cat_mask", load_elm_generator, "cat_ar", "holds a masked ELM, but .* head='linear'; give head='mlm', causal=False"),
        ("cat_ar", load_llamagen_generator, "llamagen", r"no tok_embeddings.weight\*, so it is no LlamaGen generator but something else"),
        ("llamagen", load_elm_generator, "cat_ar", r"no tok_embedder\.\*, so it is no ELM generator but something else"),
        ("llamagen", load_llamagen_generator, "cat_ar", "LlamaGen files hold generators with tokens='index'.*has tokens='bits'"),
        ("cat_ar", load_elm_generator, "llamagen", "ELM files hold generators with tokens='bits'.*has tokens='index'"),
        ("cat_ar", load_elm_generator, "bigr", "ELM files hold generators with .*head='bernoulli' and adaln=True"),
    ],
)
def test_a_file_of_another_system_is_named(tmp_path, content, load, name, message):
    model = tiny_system(content)
    state = llamagen_generator_state(model) if content == "llamagen" else elm_generator_state(model)
    with pytest.raises(ValueError, match=message):
        load(saved(tmp_path, state), config(name))


def test_a_tokenizer_file_is_named_as_one(tmp_path):
    path = GOLDEN / "systems" / "llamagen_vq" / "official_checkpoint.pt"
    with pytest.raises(ValueError, match="is no LlamaGen generator but a tokenizer"):
        load_llamagen_generator(path, config("llamagen"))
    with pytest.raises(ValueError, match="is no ELM generator but a tokenizer"):
        load_elm_generator(path, config("cat_ar"))


def test_a_model_of_another_size_is_named(tmp_path):
    path = saved(tmp_path, llamagen_generator_state(tiny_system("llamagen")))
    with pytest.raises(ValueError, match=r"embedding\.tables\.0\.weight is \[12, 32\] there and \[13, 32\] here"):
        load_llamagen_generator(path, config("llamagen", vocab_size=13))


def test_nothing_in_a_file_is_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    for load, name in ((load_llamagen_generator, "llamagen"), (load_elm_generator, "cat_ar")):
        with pytest.raises(ValueError, match="nothing in it was executed"):
            load(saved(tmp_path, {"model": Evil()}), config(name))


def test_the_recorded_files_are_told_apart():
    for name, llamagen in (("llamagen_gpt", True), ("elm_ar", False), ("elm_mlm_split", False)):
        golden = GoldenSet(f"systems/{name}")
        content = read_pickle(golden.folder / golden.record["checkpoint_file"])
        assert is_llamagen_generator(content) == llamagen
        assert is_elm_generator(content) == (not llamagen)
