"""Features in int8: near those of fp32, measured and written down, and the model is the same afterwards."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from bigr_features import extract_features
from bigr_features.checkpoints import fingerprint
from bigr_features.data import load_sample
from bigr_features.features.extraction import ExtractionSettings, extract_to_store
from bigr_features.features.inputs import model_inputs
from bigr_features.features.int8 import quantize_linears
from bigr_features.features.precision import neighbours_kept, smallest_cosine

pytestmark = pytest.mark.usefixtures("int8_kernel")
SAMPLE = ExtractionSettings(source="sample:fashion_mnist", limit=96, layers=(2,), batch_size=32, precision="int8")


@pytest.fixture(scope="module")
def nano():
    return timm.create_model("bigr_nano.fashion_mnist", pretrained=True, num_classes=0, generative=False, feature_layer=5).eval()


@pytest.fixture(scope="module")
def images(nano):
    return model_inputs(load_sample("fashion_mnist").test_images[::10], nano)  # 200


def test_trained_features_keep_their_neighbours(nano, images):
    full, rounded = (
        extract_features(nano, images, layers=(2, 5), pooling=("mean",), dtype=dtype, progress=False) for dtype in ("fp32", "int8")
    )
    assert not np.array_equal(full["block5_mean"], rounded["block5_mean"])
    assert smallest_cosine(full, rounded) > 0.99
    assert neighbours_kept(full, rounded) > 0.9


def test_the_store_says_how_near_they_are_and_the_model_is_as_before(nano, tmp_path):
    before, kinds = fingerprint(nano), [type(module) for module in nano.modules()]
    store = extract_to_store(nano, tmp_path, SAMPLE, progress=False)
    said = store.manifest["precision"]
    assert store.manifest["dtype"] == said["precision"] == "int8"
    assert said["rest"] in ("fp32", "bf16")
    assert 0.99 < said["cosine_to_fp32"] < 1
    assert 0.9 < said["neighbours_kept"] <= 1
    assert fingerprint(nano) == before
    assert [type(module) for module in nano.modules()] == kinds
    again = extract_to_store(nano, tmp_path, replace(SAMPLE, precision="auto"), progress=False)
    assert again.manifest["precision"] == said
    with pytest.raises(ValueError, match="int8"):
        extract_to_store(nano, tmp_path, replace(SAMPLE, precision="fp32"), progress=False)


@pytest.mark.parametrize("name", ["vit", "nano"])
def test_taps_see_what_they_see_otherwise(nano, images, name):
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32, patch_size=8, depth=2, embed_dim=48, in_chans=3)
    model = nano if name == "nano" else vit
    given = images[:40].expand(-1, model.patch_embed.proj.in_channels if name == "vit" else model.in_chans, -1, -1)
    full, rounded = (
        extract_features(model, given, layers=("1.ffn", "1.attention"), pooling=("mean",), dtype=dtype, batch_size=40, progress=False)
        for dtype in ("fp32", "int8")
    )
    assert full.keys() == rounded.keys()
    assert smallest_cosine(full, rounded) > 0.98


def test_a_model_can_keep_int8():
    torch.manual_seed(0)
    model = timm.create_model("bigr_nano", num_classes=3, depth=2, width=64, num_heads=2).eval()
    x = torch.rand(2, model.in_chans, 32, 32)
    with torch.inference_mode():
        expected = model.forward_features(x)
        quantized = quantize_linears(model)
        assert quantized is model
        found = model.forward_features(x)
    assert torch.nn.functional.cosine_similarity(found.flatten(1), expected.flatten(1)).min() > 0.999
    assert not torch.equal(found, expected)
    assert isinstance(model.get_classifier(), torch.nn.Linear)


def test_a_model_without_linear_layers_is_refused():
    model = timm.create_model("resnet10t", num_classes=0)
    with pytest.raises(ValueError, match="no linear layer for int8"):
        extract_features(model, torch.zeros(1, 3, 32, 32), layers=0, dtype="int8", progress=False)


def test_neighbours_kept_by_hand():
    ring = np.stack([np.cos(np.arange(13.0)), np.sin(np.arange(13.0))], 1)
    assert neighbours_kept({"a": ring}, {"a": ring.copy()}) == 1
    assert neighbours_kept({"a": ring[:11]}, {"a": ring[:11]}) is None
    first, second = (np.deg2rad(angles) for angles in ([0, 1, 3, 6, 10], [0, 1, 3, 10, 6]))  # the last two rows find others
    rows = [{"a": np.stack([np.cos(angles), np.sin(angles)], 1)} for angles in (first, second)]
    assert neighbours_kept(*rows, k=1) == pytest.approx(3 / 5)
