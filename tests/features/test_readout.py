"""Promises of reading out: every timm model gives every layer, and what a model cannot give is named."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from bigr_features import extract_features
from bigr_features.features.readout import Readout, check_condition, has_class_token, item_generator, layer_count, read_out

from ..helpers import backbone, pixels


@pytest.mark.parametrize("name", timm.list_models("test_*"))  # timm's own: a tiny model of every family
def test_every_family_of_timm_is_read(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0).eval()
    images = torch.randn(2, *timm.data.resolve_data_config(model=model)["input_size"])
    poolings = ["mean", "max", "quarters", *(["cls", "concat"] if has_class_token(model) else [])]
    found = extract_features(model, images, pooling=poolings, progress=False)
    assert len(found) == layer_count(model) * len(poolings)
    with torch.no_grad():
        _, maps = model.forward_intermediates(images)
    for layer, grid in enumerate(maps):
        torch.testing.assert_close(torch.from_numpy(found[f"block{layer}_mean"]), grid.mean((2, 3)), rtol=1e-3, atol=1e-4)
    last = extract_features(model, images, layers=-1, progress=False)
    torch.testing.assert_close(last[layer_count(model) - 1], found[f"block{layer_count(model) - 1}_mean"], rtol=1e-4, atol=1e-5)


def test_registers_are_no_image_tokens():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=8, depth=1, embed_dim=48, reg_tokens=3).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens = model.blocks(model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images)))))  # class, 3 registers, 16
    found = extract_features(model, images, pooling=("cls", "mean"), progress=False)
    torch.testing.assert_close(torch.from_numpy(found["block0_cls"]), tokens[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(found["block0_mean"]), tokens[:, 4:].mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", [nn.Linear(2, 2), timm.create_model("test_resnet", features_only=True)], ids=["linear", "features_only"])
def test_a_model_without_intermediates_is_refused(model):
    with pytest.raises(ValueError, match="no forward_intermediates"):
        Readout().resolved(model)


def test_images_that_are_no_numbers_are_refused():
    model = timm.create_model("test_resnet", num_classes=0)
    with pytest.raises(ValueError, match="NaN"):
        extract_features(model, torch.full((1, 3, 32, 32), torch.nan), progress=False)
    with pytest.raises(TypeError, match="uint8"):
        extract_features(model, torch.zeros(1, 3, 32, 32, dtype=torch.uint8), progress=False)
    with pytest.raises(ValueError, match="item_seeds"):
        extract_features(model, torch.zeros(1, 3, 32, 32), item_seeds=[1, 2], progress=False)


def test_draws_of_items_are_their_own():
    def draw(seed, item, stream):
        return torch.rand(4, generator=item_generator(seed, item, stream)).tolist()

    assert draw(0, 2**64 - 1, 0) == draw(0, 2**64 - 1, 0)
    assert len({tuple(draw(*key)) for key in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]}) == 4


def test_features_of_a_model_of_captions_use_the_null_caption_and_no_class():
    model = backbone("t2i")
    with pytest.raises(ValueError, match="conditioned on captions; its features use the null caption"):
        check_condition(torch.tensor([0]), model)
    images = pixels(model)
    found = read_out(model, images, Readout(layers=(1,), poolings=("mean",)))
    expected = model.generator.hidden_states(model.encode(images), text=["", ""], layers=[1])[0].mean(1)
    torch.testing.assert_close(next(iter(found.values())), expected, rtol=1e-4, atol=1e-5)
