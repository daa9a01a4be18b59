"""Taps inside blocks, and tokens in stores: what the blocks compute, for BiGR and for timm's vision transformers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from bigr_features import extract_features
from bigr_features.data import load_sample
from bigr_features.features.extraction import ExtractionSettings, extract_to_store
from bigr_features.features.inputs import model_inputs
from bigr_features.features.taps import split_layer
from bigr_features.features.tokens import tokens_of


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    vit = dict(num_classes=0, img_size=32, patch_size=8, depth=3, embed_dim=48)
    return {
        "bigr": timm.create_model("bigr_nano", num_classes=0, depth=3, width=32, num_heads=2).eval(),
        "vit": timm.create_model("vit_tiny_patch16_224", **vit).eval(),
        "deit3": timm.create_model("deit3_small_patch16_224", **vit, num_heads=4).eval(),
        "resnet": timm.create_model("resnet18", num_classes=0).eval(),
    }


@pytest.mark.parametrize("name", ["bigr", "vit", "deit3"])
def test_taps_are_what_the_blocks_compute(models, name):
    """The stream after a block is the stream before it, plus the two branches made of the taps."""
    model = models[name]
    images = model_inputs(load_sample("digits").train_images[:5], model)
    layers = [0, "1.attention", "1.ffn", 1]
    found = extract_features(model, images, layers=layers, pooling=["tokens"], progress=False)
    before, attention, hidden, after = (torch.from_numpy(found[f"block{layer}_tokens"]).float() for layer in layers)
    with torch.no_grad():
        if name == "bigr":
            block = model.generator.trunk.blocks[1]
            vector = model.generator.embed(model.encode(images), None, None)[1]
            gates = (model.generator.trunk.modulation(vector) + block.modulation_offset).unbind(2)
            expected = before + gates[2] * attention + gates[5] * block.feed_forward.down(hidden)
        else:
            block = model.blocks[1]
            expected = before + block.ls1(attention) + block.ls2(block.mlp.fc2(hidden))
    torch.testing.assert_close(after, expected, rtol=1e-2, atol=1e-2)
    assert hidden.shape[2] > attention.shape[2] == after.shape[2]
    mean = extract_features(model, images, layers="1.ffn", progress=False)["1.ffn"]
    np.testing.assert_allclose(mean, hidden.mean(1), rtol=1e-2, atol=1e-2)


def test_taps_leave_no_hook_and_change_no_stream(models):
    model = models["vit"]
    images = model_inputs(load_sample("digits").train_images[:3], model)
    plain = extract_features(model, images, layers=[1], progress=False)[1]
    tapped = extract_features(model, images, layers=["-2.ffn", 1, "1.attention"], progress=False)
    assert list(tapped) == ["1.ffn", 1, "1.attention"]
    np.testing.assert_array_equal(tapped[1], plain)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_class_tokens_of_taps(models):
    images = model_inputs(load_sample("digits").train_images[:2], models["vit"])
    found = extract_features(models["vit"], images, layers=["1.ffn"], pooling=["cls", "mean"], progress=False)
    assert found["block1.ffn_cls"].shape == found["block1.ffn_mean"].shape == (2, 192)
    assert not np.allclose(found["block1.ffn_cls"], found["block1.ffn_mean"])


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("resnet", ["1.attention"], r"ResNet has no tap 1\.attention"),
        ("resnet", ["0.ffn"], r"ResNet has no tap 0\.ffn"),
        ("vit", ["1.mlp"], r"layer '1\.mlp' is unknown"),
        ("vit", ["x.ffn"], r"layer 'x\.ffn' is unknown"),
        ("vit", ["7.ffn"], "layer 7 is out of range"),
        ("bigr", ["-4.attention"], "layer -4 is out of range"),
    ],
)
def test_taps_that_a_model_lacks_are_named(models, name, layers, message):
    model = models[name]
    images = model_inputs(load_sample("digits").train_images[:1], model)
    with pytest.raises(ValueError, match=message):
        extract_features(model, images, layers=layers, progress=False)


def test_layers_by_name():
    assert [split_layer(layer) for layer in (5, "5", "-1", "5.ffn")] == [(5, None), (5, None), (-1, None), (5, "ffn")]


@pytest.mark.parametrize("name", ["bigr", "vit", "resnet"])
def test_tokens_of_a_store_are_those_of_the_model(models, name, tmp_path):
    settings = ExtractionSettings(
        source="sample:digits", limit=10, shard_size=4, batch_size=4, layers=(1,), pooling=("mean", "tokens"), precision="fp32"
    )
    if name == "resnet":
        settings = replace(settings, image_size=64)
    model = models[name]
    store = extract_to_store(model, tmp_path / "s", settings, progress=False)
    tokens = tokens_of(store, "block1_tokens")
    assert tokens.dtype == np.float16
    assert tokens.shape[0] == len(tokens) == 10
    everything = tokens[:]
    assert everything.shape == tokens.shape
    np.testing.assert_allclose(everything.astype(np.float32).mean(1), store.features("block1_mean")[:], rtol=2e-2, atol=1e-2)
    np.testing.assert_array_equal(tokens[[7, 2]], everything[[7, 2]])
    np.testing.assert_array_equal(tokens[3], everything[3])
    with pytest.raises(ValueError, match=r"block1_mean of .* holds no tokens"):
        tokens_of(store, "block1_mean")


def test_a_layer_without_tokens_is_refused_before_anything_is_read(models, tmp_path):
    settings = ExtractionSettings(source="sample:digits", limit=10, layers=(-1,), pooling=("tokens",), image_size=32, precision="fp32")
    with pytest.raises(ValueError, match="pooling='tokens' needs several tokens"):
        extract_to_store(models["resnet"], tmp_path / "s", settings, progress=False)
    assert not (tmp_path / "s").exists()
