"""Promises of model inputs: bounded memory for pictures of any shape, and other sizes for the models that take them."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

from bigr_features import extract_features
from bigr_features.features.inputs import image_transform

TINY = dict(num_classes=0, depth=2, embed_dim=48, num_heads=3)


def vit(**changes):
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", **TINY | changes).eval()


@pytest.mark.parametrize("sides", [(64, 64), (32, 128), (128, 32)])
@pytest.mark.parametrize("shape", [(64, 64), (90, 50), (300, 41), (50, 799)])
def test_ordinary_pictures_go_through_the_transform_of_timm(sides, shape):
    model = vit(img_size=sides)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    plain = create_transform(**resolve_data_config(model=model) | {"input_size": (3, *sides)})
    transform, _ = image_transform(model)
    torch.testing.assert_close(transform(image), plain(image), rtol=0, atol=0)
    assert repr(transform) == repr(plain)


@pytest.mark.parametrize("sides", [(64, 64), (32, 128)])
@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (50_000, 3)])
def test_only_the_middle_of_thin_pictures_is_enlarged(sides, shape, monkeypatch):
    areas = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, *a, **k: areas.append(size[0] * size[1]) or resize(self, size, *a, **k))
    transform, _ = image_transform(vit(img_size=sides))
    assert transform(Image.new("RGB", shape, "gray")).shape == (3, *sides)
    assert 0 < max(areas) < 100 * max(sides) ** 2


def test_models_that_squash_see_the_whole_picture():
    model = vit(img_size=64)
    model.pretrained_cfg["crop_mode"] = "squash"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 400, 3), dtype=np.uint8))
    plain = create_transform(**resolve_data_config(model=model) | {"input_size": (3, 64, 64)})
    torch.testing.assert_close(image_transform(model)[0](image), plain(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", dict(dynamic_img_size=True, **TINY)),
        ("vit_tiny_patch16_224", dict(dynamic_img_size=True, dynamic_img_pad=True, **TINY)),
        ("eva02_tiny_patch14_224", dict(dynamic_img_size=True, **TINY)),
        ("deit_tiny_patch16_224", dict(dynamic_img_size=True, **TINY)),
        ("swin_tiny_patch4_window7_224", dict(strict_img_size=False, num_classes=0, depths=(1, 1), embed_dim=12, num_heads=(1, 1))),
        ("resnet10t", dict(num_classes=0)),
    ],
    ids=["vit", "vit that pads", "eva", "deit", "swin", "resnet"],
)
def test_dynamic_models_take_another_size(name, options):
    model = timm.create_model(name, **options)
    patch = 14 if "eva" in name else 16
    size = 100 if options.get("dynamic_img_pad") else 7 * patch
    transform, _ = image_transform(model, size)
    images = torch.stack([transform(Image.new("RGB", (130, 120), "gray"))])
    assert images.shape == (1, 3, size, size)
    assert extract_features(model, images, layers=[0], progress=False)[0].shape[0] == 1


def test_other_sizes_that_a_model_cannot_take_are_refused():
    with pytest.raises(ValueError, match="image_size=96, but this model was built for 224 x 224; create it with img_size=96, or with dyn"):
        image_transform(vit(), 96)
    with pytest.raises(ValueError, match="image_size=100 is no multiple of the model's patches of 16 pixels"):
        image_transform(vit(dynamic_img_size=True), 100)
    assert image_transform(vit(), 224)


@pytest.mark.parametrize("sides", [(32, 128), (128, 32), (64, 96), (48, 80)])
def test_quarters_of_oblong_inputs_are_those_of_the_real_grid(sides):
    model = vit(img_size=sides)
    images = torch.rand(2, 3, *sides, generator=torch.Generator().manual_seed(0))
    images[..., sides[1] // 2 :] += 1
    maps = model.forward_intermediates(images, indices=[1], intermediates_only=True)[0].detach()
    expected = torch.nn.functional.adaptive_avg_pool2d(maps, 2).flatten(2).transpose(1, 2).flatten(1)
    found = extract_features(model, images, layers=[1], pooling="quarters", progress=False)[1]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_quarters_of_feature_maps_of_oblong_inputs():
    model = timm.create_model("resnet10t", num_classes=0).eval()
    images = torch.rand(1, 3, 64, 160, generator=torch.Generator().manual_seed(0))
    _, maps = model.forward_intermediates(images)
    found = extract_features(model, images, layers=[1, 3], pooling="quarters", progress=False)
    for layer in (1, 3):
        expected = torch.nn.functional.adaptive_avg_pool2d(maps[layer].detach(), 2).flatten(2).transpose(1, 2).flatten(1)
        np.testing.assert_allclose(found[layer], expected.numpy(), rtol=1e-3, atol=1e-4)


class FlatTokens(torch.nn.Module):
    """A model whose intermediates come without their grid."""

    def __init__(self, model):
        super().__init__()
        self.model, self.feature_info = model, model.feature_info

    def forward_intermediates(self, x, indices=None, intermediates_only=False, stop_early=False):
        return [maps.flatten(2).transpose(1, 2) for maps in self.model.forward_intermediates(x, indices=indices, intermediates_only=True)]


@pytest.mark.parametrize("sides", [(32, 128), (64, 64), (96, 32)])
def test_tokens_without_a_grid_have_that_of_the_images(sides):
    model = vit(img_size=sides)
    images = torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0))
    found = extract_features(FlatTokens(model), images, layers=[1], pooling="quarters", progress=False)[1]
    np.testing.assert_allclose(found, extract_features(model, images, layers=[1], pooling="quarters", progress=False)[1], atol=1e-5)
