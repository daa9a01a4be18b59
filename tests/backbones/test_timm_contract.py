"""Promises that timm makes for every model, in our own words, for one small entry of each system, and the first of them for `bigr_nano`.

What timm asks and how it is kept here: its test of unpooled 4-D maps is for convolutional models; ours give tokens (B, N, D),
as its vision transformers do. A classification loss leaves a gradient on everything but what only generates, and the tokenizer
where its codes are read as indices, which have none.
"""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config
from timm.models import create_feature_extractor, group_parameters, save_for_hf
from timm.models._manipulate import reinit_non_persistent_buffers
from torch import nn

import bigr_features  # noqa: F401  (registers the models)

from ..helpers import ALL_BACKBONES as BACKBONES
from ..helpers import assert_same_weights, backbone, pixels

ARCHS = (
    "bigr_l", "bigr_xl", "bigr_xxl", "bigr_xxl_d32", "bigr_l_512", "bigr_nano", "llamagen_b", "llamagen_l", "llamagen_nano",
    "bigr_l_cat_ar", "bigr_l_cat_mask", "bigr_l_bin_ar", "bigr_nano_cat_ar", "bigr_nano_cat_mask", "bigr_nano_bin_ar",
)  # fmt: skip

each_model = pytest.mark.parametrize("name", [name for name in BACKBONES if name != "nano"])  # one of each system
and_nano = pytest.mark.parametrize("name", BACKBONES)


def only_generates(model: nn.Module) -> set[str]:
    """Parameters that no feature depends on: decoder, transcoder, what hides tokens, and the blocks after the feature layer."""
    parts = (
        "tokenizer.decoder.",
        "tokenizer.quantizer.embedding",
        "tokenizer.from_latent.",
        "generator.transcoder.",
        "generator.output.",
        "generator.position_embedding",
        "generator.embedding.mask_embedding",
        "generator.trunk.norm.",
        *behind_indices(model),
        *(f"generator.trunk.blocks.{i}." for i in range(model.feature_layer + 1, len(model.generator.trunk.blocks))),
    )
    return {name for name, _ in model.named_parameters() if name.startswith(parts)}


def behind_indices(model: nn.Module) -> tuple[str, ...]:
    """Where a gradient stops because codes are read as indices: prefixes of names."""
    return ("tokenizer.",) if model.generator.config.categorical else ()


def unreached(model: nn.Module) -> set[str]:
    """Parameters without gradient that could have one."""
    return {name for name in without_gradient(model) if not name.startswith(behind_indices(model))}


def without_gradient(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0}


# ------------------------------------------------------------------------------------------------------ names and registry


def test_importing_the_package_registers_every_architecture():
    assert set(ARCHS) <= set(timm.list_models(["bigr*", "llamagen*"]))
    assert set(ARCHS) <= set(timm.list_models(module="bigr"))
    assert "bigr" in timm.list_modules()
    for arch in ARCHS:
        assert timm.is_model(arch)
        assert timm.model_entrypoint(arch).__name__ == arch


def test_official_weights_are_listed_as_pretrained():
    listed = set(timm.list_pretrained("bigr*"))
    official = {"bigr_l.d24_in1k", "bigr_xl.d24_in1k", "bigr_xxl.d24_in1k", "bigr_xxl_d32.in1k", "bigr_l_512.d32_in1k"}
    assert official <= listed
    assert set(timm.list_pretrained("llamagen*")) == {"llamagen_b.c2i_in1k", "llamagen_l.c2i_in1k"}


@pytest.mark.parametrize("arch", ARCHS)
def test_every_configuration_asks_for_plain_pixels_of_the_right_size(arch):
    cfg = timm.get_pretrained_cfg(arch)
    size = 32 if "_nano" in arch else {"bigr_l_512": 512}.get(arch, 256)
    assert cfg.input_size == (3, size, size)
    mean, std = (0.5, 0.5) if arch.startswith("llamagen") else (0.0, 1.0)
    assert (cfg.mean, cfg.std) == ((mean,) * 3, (std,) * 3)
    assert cfg.num_classes == 0
    assert cfg.fixed_input_size


def test_an_unknown_tag_or_name_is_refused():
    with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
        timm.create_model("bigr_nano.nobody_trained_this")
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model("bigr_huge")


@each_model
def test_unknown_keywords_raise(name):
    for unknown in ("colour", "img_sise", "n_layer"):
        with pytest.raises(TypeError, match=unknown):
            backbone(name, **{unknown: 3})


@and_nano
def test_attributes_say_what_the_model_is(name):
    model = backbone(name, num_classes=5)
    width = model.generator.config.width
    assert model.num_features == model.embed_dim == model.head_hidden_size == width
    assert (model.num_classes, model.in_chans, model.global_pool) == (5, 3, "avg")
    assert (model.num_prefix_tokens, model.num_reg_tokens, model.has_class_token) == (0, 0, False)
    assert model.output_fmt == "NLC"
    assert not model.grad_checkpointing
    assert model.pretrained_cfg["architecture"] == BACKBONES[name][0]
    assert model.default_cfg == model.pretrained_cfg
    blocks = [f"generator.trunk.blocks.{i}" for i in range(model.generator.config.depth)]
    modules = dict(model.named_modules())
    assert [info["module"] for info in model.feature_info] == blocks
    assert all(block in modules for block in blocks)
    assert {(info["num_chs"], info["reduction"]) for info in model.feature_info} == {(width, model.tokenizer.config.downsampling)}


# ---------------------------------------------------------------------------------------------------- forward and backward


@and_nano
@pytest.mark.parametrize("num_classes", [0, 42])
def test_forward_keeps_the_batch_and_is_finite_with_and_without_checkpointing(name, num_classes):
    model = backbone(name, num_classes=num_classes)
    for batch in (1, 3):
        x = pixels(model, batch)
        out = model(x)
        assert out.shape == (batch, num_classes or model.num_features)
        assert out.isfinite().all()
        model.set_grad_checkpointing(True)
        assert model.grad_checkpointing
        torch.testing.assert_close(model(x), out, rtol=1e-4, atol=1e-5)
        model.set_grad_checkpointing(False)


@each_model
def test_forward_is_the_head_of_the_features(name):
    model = backbone(name, num_classes=5)
    x = pixels(model)
    features = model.forward_features(x)
    assert features.shape == (2, model.generator.config.num_tokens, model.num_features)
    torch.testing.assert_close(model.forward_head(features), model(x))
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), features.mean(1))


@each_model
def test_features_are_deterministic_in_either_mode_and_do_not_depend_on_the_batch(name):
    model = backbone(name, residual_dropout=0.0, ffn_dropout=0.0)
    x = pixels(model, 3)
    out = model(x)
    torch.testing.assert_close(model(x), out, rtol=0, atol=0)
    torch.testing.assert_close(model.train()(x), out, rtol=0, atol=0)
    torch.testing.assert_close(model.eval()(x[1:2]), out[1:2], rtol=1e-4, atol=1e-5)


@each_model
def test_backward_reaches_everything_but_what_only_generates(name):
    model = backbone(name, num_classes=42).train()
    for checkpointing in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(checkpointing)
        out = model(pixels(model))
        out.mean().backward()
        assert out.shape == (2, 42)
        assert without_gradient(model) == only_generates(model)
    assert only_generates(model)


@each_model
@pytest.mark.parametrize("feature_layer", [None, 0, -1])
def test_backward_reaches_everything_without_the_generative_parts(name, feature_layer):
    model = backbone(name, num_classes=42, generative=False, feature_layer=feature_layer).train()
    model(pixels(model)).mean().backward()
    assert unreached(model) == set()


@each_model
def test_pooling_is_over_the_image_tokens(name):
    model, built = backbone(name), backbone(name, global_pool="avgmax")
    x = pixels(model)
    tokens = model.forward_features(x)
    for pool, expected in {"avg": tokens.mean(1), "max": tokens.amax(1), "avgmax": (tokens.mean(1) + tokens.amax(1)) / 2}.items():
        model.reset_classifier(0, pool)
        torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(built(x), expected)


# ------------------------------------------------------------------------------------------------------------- classifier


@each_model
def test_widths_before_and_after_the_classifier_are_the_ones_announced(name):
    model = backbone(name, num_classes=5)
    x = pixels(model)
    tokens = model.forward_features(x)
    assert tokens.shape[-1] == model.num_features
    before = model.forward_head(tokens, pre_logits=True)
    assert before.shape == (2, model.head_hidden_size)
    assert model(x).shape == (2, 5)
    model.reset_classifier(0)
    assert model(x).shape == before.shape
    assert model.head_hidden_size == before.shape[-1]
    model.reset_classifier(0, "")
    assert model(x).shape == tokens.shape
    assert backbone(name, num_classes=0)(x).shape == before.shape


@each_model
def test_configured_names_of_classifier_and_first_convolution_exist(name):
    model = backbone(name, num_classes=5)
    state = model.state_dict()
    assert f"{model.pretrained_cfg['classifier']}.weight" in state
    assert state[f"{model.pretrained_cfg['first_conv']}.weight"].shape[1] == 3
    assert model.get_classifier() is model.get_submodule(model.pretrained_cfg["classifier"])


@each_model
@pytest.mark.parametrize("training", [True, False])
def test_a_new_classifier_has_the_dtype_and_mode_of_the_model_and_keeps_the_pooling(name, training):
    model = backbone(name, num_classes=5, global_pool="max").bfloat16().train(training)
    model.reset_classifier(9)
    assert (model.num_classes, model.global_pool) == (9, "max")
    assert model.get_classifier().weight.shape == (9, model.num_features)
    assert model.get_classifier().weight.dtype == torch.bfloat16
    assert model.get_classifier().training == training
    model.reset_classifier(3, "avg")
    assert (model.num_classes, model.global_pool) == (3, "avg")
    assert model(pixels(model).bfloat16()).shape == (2, 3)


@each_model
def test_an_unknown_pooling_is_refused(name):
    with pytest.raises(ValueError, match="global_pool='token'"):
        backbone(name, global_pool="token")
    with pytest.raises(ValueError, match="global_pool='token'"):
        backbone(name).reset_classifier(3, "token")


@each_model
def test_dropout_before_the_classifier_acts_in_train_mode_only(name):
    model = backbone(name, num_classes=5, drop_rate=0.9)
    tokens = model.forward_features(pixels(model))
    quiet = model.forward_head(tokens)
    torch.testing.assert_close(model.forward_head(tokens), quiet, rtol=0, atol=0)
    assert not torch.equal(model.train().forward_head(tokens), quiet)


# ---------------------------------------------------------------------------------------------------------- intermediates


@each_model
def test_intermediates_are_maps_of_the_announced_size_and_the_final_is_forward_features(name):
    model = backbone(name)
    x = pixels(model)
    final, intermediates = model.forward_intermediates(x)
    torch.testing.assert_close(final, model.forward_features(x))
    assert len(intermediates) == len(model.feature_info)
    for info, feature in zip(model.feature_info, intermediates, strict=True):
        side = math.ceil(model.img_size / info["reduction"])
        assert feature.shape == (2, info["num_chs"], side, side)
        assert feature.isfinite().all()
    torch.testing.assert_close(intermediates[model.feature_layer].flatten(2).transpose(1, 2), final)
    model.set_grad_checkpointing(True)
    for checkpointed, feature in zip(model.forward_intermediates(x, intermediates_only=True), intermediates, strict=True):
        torch.testing.assert_close(checkpointed, feature, rtol=1e-4, atol=1e-5)


@each_model
@pytest.mark.parametrize("output_fmt", ["NCHW", "NLC"])
def test_chosen_intermediates_are_those_of_all(name, output_fmt):
    model = backbone(name)
    x, depth = pixels(model), model.generator.config.depth
    features = model.forward_features(x)
    all_of_them = model.forward_intermediates(x, output_fmt=output_fmt, intermediates_only=True)
    several = ([0, 2], [-1], (-1, 0, 3), [2, 0], None)
    wanted = {1: [depth - 1], 3: [depth - 3, depth - 2, depth - 1]}
    for indices in (*wanted, *several):
        expected = wanted[indices] if isinstance(indices, int) else [i % depth for i in (range(depth) if indices is None else indices)]
        final, chosen = model.forward_intermediates(x, indices=indices, output_fmt=output_fmt)
        torch.testing.assert_close(final, features)
        early = model.forward_intermediates(x, indices=indices, output_fmt=output_fmt, stop_early=True, intermediates_only=True)
        assert len(chosen) == len(early) == len(expected)
        for feature, again, index in zip(chosen, early, expected, strict=True):
            torch.testing.assert_close(feature, all_of_them[index])
            torch.testing.assert_close(again, all_of_them[index])


@each_model
def test_both_formats_hold_the_same_tokens(name):
    model = backbone(name)
    x = pixels(model)
    maps, sequences = (model.forward_intermediates(x, output_fmt=fmt, intermediates_only=True) for fmt in ("NCHW", "NLC"))
    for a, b in zip(maps, sequences, strict=True):
        torch.testing.assert_close(a.flatten(2).transpose(1, 2), b, rtol=0, atol=0)
    with pytest.raises(ValueError, match="output_fmt='NHWC'"):
        model.forward_intermediates(x, output_fmt="NHWC")


@each_model
def test_stopping_early_runs_no_later_block(name):
    model, ran = backbone(name), []
    for i, block in enumerate(model.generator.trunk.blocks):
        block.register_forward_hook(lambda *_, i=i: ran.append(i))
    final, intermediates = model.forward_intermediates(pixels(model), indices=[1], stop_early=True, output_fmt="NLC")
    assert ran == [0, 1]
    torch.testing.assert_close(final, intermediates[0])


@each_model
def test_the_norm_may_be_applied_to_intermediates(name):
    model = backbone(name)
    x = pixels(model)
    plain, normed = (model.forward_intermediates(x, norm=norm, output_fmt="NLC", intermediates_only=True) for norm in (False, True))
    for a, b in zip(plain, normed, strict=True):
        torch.testing.assert_close(b, model.generator.trunk.norm(a))
        assert not torch.allclose(a, b)


@each_model
@pytest.mark.parametrize("output_fmt", ["NCHW", "NLC"])
def test_condition_tokens_come_beside_the_intermediates_when_asked_for(name, output_fmt):
    model = backbone(name)
    x = pixels(model)
    plain = model.forward_intermediates(x, indices=2, output_fmt=output_fmt, intermediates_only=True)
    paired = model.forward_intermediates(x, indices=2, output_fmt=output_fmt, intermediates_only=True, return_prefix_tokens=True)
    for feature, (tokens, prefix) in zip(plain, paired, strict=True):
        torch.testing.assert_close(tokens, feature, rtol=0, atol=0)
        assert prefix.shape == (2, model.generator.num_cond_tokens, model.num_features)
    final, _ = model.forward_intermediates(x, indices=2, return_prefix_tokens=True)
    torch.testing.assert_close(final, model.forward_features(x))


@each_model
@pytest.mark.parametrize(("intermediates_only", "return_prefix_tokens"), [(False, True), (True, False)])
def test_the_dictionary_holds_what_the_lists_hold(name, intermediates_only, return_prefix_tokens):
    model = backbone(name)
    x = pixels(model)
    options = {"indices": [0, -1], "intermediates_only": intermediates_only, "return_prefix_tokens": return_prefix_tokens}
    result = model.forward_intermediates(x, output_dict=True, **options)
    expected = model.forward_intermediates(x, indices=[0, -1], intermediates_only=True)
    keys = {"image_intermediates"}
    if return_prefix_tokens:
        keys.add("image_intermediates_prefix")
        assert [prefix.shape[1] for prefix in result["image_intermediates_prefix"]] == [model.generator.num_cond_tokens] * 2
    if not intermediates_only:
        keys.add("image_features")
        torch.testing.assert_close(result["image_features"], model.forward_features(x))
    assert set(result) == keys
    for ours, feature in zip(result["image_intermediates"], expected, strict=True):
        torch.testing.assert_close(ours, feature, rtol=0, atol=0)


@each_model
def test_intermediates_out_of_range_are_refused(name):
    model = backbone(name)
    for indices in (0, 99, [99], [-99]):
        with pytest.raises(ValueError, match=r"99|indices=0"):
            model.forward_intermediates(pixels(model), indices=indices)


@each_model
@pytest.mark.parametrize(("indices", "expected", "prune_norm"), [([0, 2], [0, 2], False), (1, [-1], False), ([1, -3], [1, -3], True)])
def test_pruning_keeps_the_intermediates_and_leaves_no_unused_parameter(name, indices, expected, prune_norm):
    model = backbone(name, num_classes=5)
    x, depth = pixels(model), model.generator.config.depth
    before = model.forward_intermediates(x, indices=indices, intermediates_only=True)
    taken = model.prune_intermediate_layers(indices, prune_norm=prune_norm)
    assert list(taken) == [index % depth for index in expected]
    after = model.train().eval().forward_intermediates(x, indices=taken, intermediates_only=True)
    for a, b in zip(after, before, strict=True):
        torch.testing.assert_close(a, b)
    assert len(model.generator.trunk.blocks) == len(model.feature_info) == max(taken) + 1
    assert model.num_classes == 0
    if prune_norm:
        torch.stack([feature.mean() for feature in after]).sum().backward()
        assert unreached(model) == set()


# ---------------------------------------------------------------------------------------------------------- features only


@each_model
def test_features_only_by_default_gives_at_least_three_levels(name):
    arch, fields = BACKBONES[name]
    model = timm.create_model(arch, features_only=True, **fields).eval()
    full = backbone(name)
    features = model(pixels(full))
    assert len(features) == len(model.feature_info.channels()) >= 3
    for feature, channels, reduction in zip(features, model.feature_info.channels(), model.feature_info.reduction(), strict=True):
        assert feature.shape[1] == channels == full.num_features
        assert max(feature.shape[2:]) <= math.ceil(full.img_size / reduction) + 1
        assert feature.isfinite().all()
    assert all(module.startswith("generator.trunk.blocks.") for module in model.feature_info.module_name())


@each_model
@pytest.mark.parametrize("out_indices", [(1, -2), 2])
def test_features_only_are_the_intermediates_of_the_whole_model_and_train_entirely(name, out_indices):
    arch, fields = BACKBONES[name]
    full = backbone(name)
    model = timm.create_model(arch, features_only=True, out_indices=out_indices, **fields)
    whole = full.state_dict()
    model.model.load_state_dict({key: whole[key] for key in model.model.state_dict()})
    x = pixels(full)
    expected = full.forward_intermediates(x, indices=out_indices, intermediates_only=True)
    features = model.eval()(x)
    for ours, feature in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, feature)
    torch.stack([feature.mean() for feature in features]).sum().backward()
    assert unreached(model.model) == set()


# ------------------------------------------------------------------------------------------ tracing, scripting, compiling


@each_model
@pytest.mark.parametrize("num_classes", [0, 5])
def test_fx_graph_gives_exactly_the_eager_output(name, num_classes):
    model = backbone(name, num_classes=num_classes)
    x = pixels(model)
    expected = model(x)
    traced = torch.fx.symbolic_trace(model)
    extractor = create_feature_extractor(model, {"head": "out"})
    assert torch.equal(traced(x), expected)
    assert torch.equal(extractor(x)["out"], expected)


@each_model
def test_fx_graph_trains_everything_but_what_only_generates(name):
    model = backbone(name, num_classes=42).train()
    expected = only_generates(model)
    traced = torch.fx.symbolic_trace(model).train()
    out = traced(pixels(model))
    out.mean().backward()
    assert out.shape == (2, 42)
    assert not (without_gradient(traced) - expected)


@each_model
def test_torchscript_gives_the_eager_output(name):
    model = backbone(name, num_classes=5)
    x = pixels(model)
    scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(x), model(x), rtol=1e-5, atol=1e-5)
    assert scripted(x).isfinite().all()


@each_model
def test_torchscript_of_the_feature_extractor(name):
    model = backbone(name, generative=False)
    x = pixels(model)
    torch.testing.assert_close(torch.jit.script(model)(x), model(x), rtol=1e-5, atol=1e-5)


@each_model
def test_fx_graph_can_be_scripted(name):
    model = backbone(name, num_classes=5)
    x = pixels(model)
    torch.testing.assert_close(torch.jit.script(torch.fx.symbolic_trace(model))(x), model(x), rtol=1e-5, atol=1e-5)
    extractor = torch.jit.script(create_feature_extractor(model, {"head": "out"}))
    torch.testing.assert_close(extractor(x)["out"], model(x), rtol=1e-5, atol=1e-5)


@each_model
def test_compile_without_a_graph_break(name):
    model = backbone(name, num_classes=5)
    x = pixels(model)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-5)


def test_a_compiled_model_trains():
    model = backbone("tiny", num_classes=5, depth=2)
    x = pixels(model)
    model(x).square().mean().backward()
    expected = {parameter: value.grad for parameter, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    torch.compiler.reset()
    torch.compile(model, backend="aot_eager", fullgraph=True)(x).square().mean().backward()
    for parameter, value in model.named_parameters():
        if parameter in expected:
            torch.testing.assert_close(value.grad, expected[parameter], rtol=1e-3, atol=1e-6)


@each_model
def test_forward_checks_shape_and_dtype(name):
    model = backbone(name)
    x = pixels(model)
    for wrong, error, message in [
        ((x * 255).to(torch.uint8), TypeError, "dtype torch.uint8"),
        (x[:0], ValueError, "batch of images is empty"),
        (x[:, :1], ValueError, "images have 1 channels; the model expects 3"),
        (x[:, :, :-2], ValueError, r"images are \d+ x \d+; the model expects \d+ x \d+"),
        (x[0], ValueError, "images have shape"),
    ]:
        with pytest.raises(error, match=message):
            model(wrong)


# -------------------------------------------------------------------------------------------- devices, dtypes, sizes


@each_model
def test_a_build_on_the_meta_device_is_filled_afterwards(name):
    model = backbone(name, num_classes=5)
    empty = backbone(name, seed=None, num_classes=5, device="meta")
    assert all(tensor.is_meta for tensor in (*empty.parameters(), *empty.buffers()))
    empty.to_empty(device="cpu").load_state_dict(model.state_dict())
    assert "generator.trunk.rope" in reinit_non_persistent_buffers(empty)
    x = pixels(model)
    torch.testing.assert_close(empty(x), model(x), rtol=0, atol=0)


@each_model
def test_bfloat16_models_are_bfloat16_but_for_their_tables(name):
    model = backbone(name, num_classes=5)
    half = backbone(name, seed=None, num_classes=5, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    torch.testing.assert_close(half.generator.trunk.rope.table, model.generator.trunk.rope.table, rtol=0, atol=0)
    out = half(pixels(half).bfloat16())
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()
    moved = backbone(name, num_classes=5).to(torch.bfloat16)
    torch.testing.assert_close(moved.generator.trunk.rope.table, model.generator.trunk.rope.table, rtol=0, atol=0)


@each_model
def test_float64_features_agree_with_float32_ones(name):
    model = backbone(name)
    double = backbone(name).double()
    x = pixels(model)
    assert torch.equal(model.encode(x).double(), double.encode(x.double()).double())
    similarity = torch.nn.functional.cosine_similarity(model(x).double(), double(x.double()))
    assert (similarity > 0.999999).all()


@each_model
def test_autocast_gives_finite_features_near_the_float32_ones(name):
    model = backbone(name)
    x = pixels(model)
    codes = model.encode(x)
    expected = model.generator.features(codes, model.feature_layer).mean(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(x).isfinite().all()
        rounded = model.generator.features(codes, model.feature_layer).float().mean(1)
    assert (torch.nn.functional.cosine_similarity(rounded, expected) > 0.999).all()


@each_model
@pytest.mark.parametrize("in_chans", [1, 4])
def test_other_numbers_of_channels_go_in_and_out(name, in_chans):
    model = backbone(name, in_chans=in_chans, num_classes=5)
    x = pixels(model)
    assert x.shape[1] == model.in_chans == in_chans
    assert model(x).shape == (2, 5)
    assert model.decode(model.encode(x)).shape == x.shape


@each_model
@pytest.mark.parametrize("tokens", [2, 6])
def test_another_image_size_by_keyword_or_afterwards_is_the_same_model(name, tokens):
    size = tokens * backbone(name).tokenizer.config.downsampling
    model, built = backbone(name), backbone(name, img_size=size)
    model.set_input_size(size)
    assert model.img_size == built.img_size == size
    assert model.generator.config.num_tokens == tokens**2
    skipped = {"generator.position_embedding"}  # resampled, so not what a fresh build has
    built.load_state_dict({key: value for key, value in model.state_dict().items() if key not in skipped}, strict=False)
    x = pixels(model)
    assert model.forward_features(x).shape == (2, tokens**2, model.num_features)
    torch.testing.assert_close(model(x), built(x))
    labels = torch.tensor([0, 1])
    assert model.loss(x, labels).loss.isfinite()
    assert model.generate(labels, **({} if model.generator.config.causal else {"num_reveal_steps": 2})).shape == x.shape


@each_model
def test_setting_the_same_size_changes_nothing(name):
    model, same = backbone(name), backbone(name)
    same.set_input_size(model.img_size)
    same.set_input_size((model.img_size, model.img_size))
    assert_same_weights(same, model)
    assert same.generator.config == model.generator.config


@each_model
def test_sizes_that_cannot_be_are_refused(name):
    model = backbone(name)
    with pytest.raises(ValueError, match="only square images"):
        model.set_input_size((model.img_size, 2 * model.img_size))
    with pytest.raises(ValueError, match=f"image size {model.img_size + 1} is not a multiple of {model.tokenizer.config.downsampling}"):
        model.set_input_size(model.img_size + 1)
    with pytest.raises(ValueError, match="patch_size=3"):
        model.set_input_size(model.img_size, patch_size=3)


# ------------------------------------------------------------------------------------------------------------- optimising


@each_model
@pytest.mark.parametrize("coarse", [False, True])
def test_every_parameter_has_a_layer_group_and_depth_orders_them(name, coarse):
    model = backbone(name, num_classes=5)
    groups = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)
    assert set(groups) == {parameter for parameter, _ in model.named_parameters()}
    of_block = {
        int(match.group(1)): group
        for parameter, group in groups.items()
        if (match := re.match(r"generator\.trunk\.blocks\.(\d+)\.", parameter))
    }
    if not coarse:
        assert [of_block[i] for i in sorted(of_block)] == sorted(set(of_block.values()))
        assert len(set(of_block.values())) == model.generator.config.depth
    assert groups["tokenizer.encoder.blocks.0.weight"] < min(of_block.values())
    assert groups["head.weight"] > max(of_block.values())


@each_model
def test_names_without_weight_decay_exist(name):
    model = backbone(name)
    named = model.no_weight_decay()
    assert named <= {parameter for parameter, _ in model.named_parameters()}
    if not model.generator.config.categorical:
        assert {"generator.transcoder.denoiser.head.weight", "generator.transcoder.denoiser.code_embedding.weight"} <= named
    assert not named & {"generator.class_embedding.weight", "generator.position_embedding", "generator.embedding.mask_embedding"}


# -------------------------------------------------------------------------------------------------- preprocessing


@and_nano
def test_the_transform_of_the_data_config_gives_plain_pixels(name):
    model = backbone(name)
    arch, size = BACKBONES[name][0], model.img_size
    config = resolve_data_config(model=model)
    mean, std = (0.5, 0.5) if arch.startswith("llamagen") else (0.0, 1.0)
    assert config["mean"] == (mean,) * 3
    assert config["std"] == (std,) * 3
    if "_nano" in arch:
        assert config["input_size"] == (3, size, size)
    config["input_size"] = (3, size, size)
    values = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    ours = create_transform(**config)(Image.fromarray(values))
    torch.testing.assert_close(ours, (torch.from_numpy(values).permute(2, 0, 1) / 255 - mean) / std)
    larger = np.random.default_rng(0).integers(0, 256, (2 * size + 7, 3 * size, 3), dtype=np.uint8)
    out = create_transform(**config)(Image.fromarray(larger))[None]
    assert out.shape == (1, 3, size, size)
    least, most = model.tokenizer.pixel_range
    assert least <= out.min() < out.max() <= most
    model.encode(out)


# ------------------------------------------------------------------------------------------------------ saving and loading


@each_model
@pytest.mark.parametrize("safe", [True, False])
def test_a_model_saved_for_the_hub_comes_back_from_its_folder(name, safe, tmp_path):
    model = backbone(name, num_classes=5, feature_layer=1)
    save_for_hf(model, str(tmp_path), safe_serialization=safe)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert_same_weights(loaded, model)
    x = pixels(model)
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    assert (loaded.num_classes, loaded.feature_layer, loaded.img_size) == (5, 1, model.img_size)


@each_model
def test_changes_after_construction_are_saved_too(name, tmp_path):
    model = backbone(name)
    model.reset_classifier(9, "max")
    model.set_input_size(3 * model.tokenizer.config.downsampling)
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert (loaded.num_classes, loaded.global_pool, loaded.img_size) == (9, "max", model.img_size)
    assert_same_weights(loaded, model)
    x = pixels(model)
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)


@each_model
@pytest.mark.parametrize("changes", [{"generative": False}, {"in_chans": 1}, {"codes": 9}, {"adaln": False, "predict_flip": False}])
def test_settings_of_the_architecture_are_saved_too(name, changes, tmp_path):
    codes = "codebook_size" if name == "llamagen" else "code_dim"
    model = backbone(name, **{codes if key == "codes" else key: value for key, value in changes.items()})
    save_for_hf(model, str(tmp_path), safe_serialization=True)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert loaded.generator.config == model.generator.config
    assert loaded.tokenizer.config == model.tokenizer.config
    x = pixels(model)
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    json.loads((tmp_path / "config.json").read_text())


@pytest.fixture
def weights_file(tmp_path):
    """A whole model's weights in one file of the suffix asked for."""

    def write(model: nn.Module, suffix: str) -> str:
        path = tmp_path / f"model{suffix}"
        if suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file(model.state_dict(), path)
        else:
            torch.save({"state_dict": model.state_dict()}, path)
        return str(path)

    return write


@each_model
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_pretrained_weights_from_a_local_file(name, suffix, weights_file):
    model = backbone(name)
    overlay = {"file": weights_file(model, suffix)}
    loaded = backbone(name, seed=None, pretrained=True, pretrained_cfg_overlay=overlay)
    assert_same_weights(loaded, model)
    for num_classes in (0, 5):
        other = backbone(name, seed=None, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=num_classes)
        x = pixels(model)
        assert other(x).shape == (2, num_classes or model.num_features)
        torch.testing.assert_close(other.forward_features(x), model.forward_features(x))


@each_model
@pytest.mark.parametrize("in_chans", [1, 4])
def test_pretrained_weights_fit_other_channels(name, in_chans, weights_file):
    model = backbone(name)
    overlay = {"file": weights_file(model, ".safetensors")}
    loaded = backbone(name, seed=None, pretrained=True, pretrained_cfg_overlay=overlay, in_chans=in_chans)
    x = pixels(loaded)
    assert loaded(x).isfinite().all()
    assert loaded.decode(loaded.encode(x)).shape == x.shape
    if in_chans == 1:  # a grey image is three equal channels
        read = "latents" if name == "llamagen" else "bit_probabilities"
        ours, expected = (getattr(part.tokenizer, read)(images) for part, images in ((loaded, x), (model, x.expand(-1, 3, -1, -1))))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@each_model
@pytest.mark.parametrize("changes", [{"generative": False}, {"feature_layer": 0}, {"generative": False, "feature_layer": 2}])
def test_a_feature_extractor_takes_the_weights_of_a_whole_model(name, changes, weights_file):
    model = backbone(name)
    overlay = {"file": weights_file(model, ".safetensors")}
    loaded = backbone(name, seed=None, pretrained=True, pretrained_cfg_overlay=overlay, **changes)
    x = pixels(model)
    expected = model.forward_intermediates(x, indices=[loaded.feature_layer], output_fmt="NLC", intermediates_only=True)[0]
    torch.testing.assert_close(loaded.forward_features(x), expected)


@each_model
def test_features_only_with_pretrained_weights(name, weights_file):
    model = backbone(name)
    arch, fields = BACKBONES[name]
    overlay = {"file": weights_file(model, ".safetensors")}
    features = timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=overlay, features_only=True, out_indices=(0, 2), **fields)
    x = pixels(model)
    for ours, expected in zip(features.eval()(x), model.forward_intermediates(x, [0, 2], intermediates_only=True), strict=True):
        torch.testing.assert_close(ours, expected)


@each_model
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_checkpoint_path_loads_a_whole_model(name, suffix, weights_file):
    model = backbone(name, num_classes=5)
    loaded = backbone(name, seed=None, num_classes=5, checkpoint_path=weights_file(model, suffix))
    assert_same_weights(loaded, model)


@each_model
def test_weights_of_another_size_name_the_first_keys_and_both_shapes(name, weights_file):
    model = backbone(name)
    path, width = weights_file(model, ".safetensors"), model.generator.config.width
    with pytest.raises(ValueError, match=rf"generator\.\S+ is \[.*{width}.*\] there and \[.*{2 * width}.*\] here"):
        backbone(name, seed=None, width=2 * width, pretrained=True, pretrained_cfg_overlay={"file": path})


@each_model
def test_damaged_and_missing_weights_are_refused(name, tmp_path, weights_file):
    path = weights_file(backbone(name), ".safetensors")
    with open(path, "r+b") as file:
        file.truncate(1000)
    with pytest.raises(Exception, match=r"(?i)header|safetensors|damaged|incomplete"):
        backbone(name, seed=None, pretrained=True, pretrained_cfg_overlay={"file": path})
    with pytest.raises(FileNotFoundError):
        backbone(name, seed=None, pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "nowhere.safetensors")})
