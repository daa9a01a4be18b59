"""Feature extraction: one pass over all layers, checked inputs, the model's own preprocessing."""

import numpy as np
import pytest
import timm
import torch

from bigr_features import extract_features
from bigr_features.data import load_sample
from bigr_features.features.inputs import model_inputs


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("bigr_nano", depth=4, width=32, num_heads=2)


@pytest.fixture(scope="module")
def images():
    return torch.rand(7, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_features_are_the_mean_of_the_hidden_states_whatever_the_batch_size(model, images, batch_size):
    features = extract_features(model, images, batch_size=batch_size, progress=False)
    model.eval()
    with torch.no_grad():
        states = model.generator.hidden_states(model.encode(images))
    assert list(features) == [0, 1, 2, 3]
    for layer, state in enumerate(states):
        torch.testing.assert_close(torch.from_numpy(features[layer]), state.mean(1), rtol=1e-4, atol=1e-5)


def test_the_feature_layer_is_what_forward_pools(model, images):
    features = extract_features(model, images, layers=model.feature_layer, progress=False)
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(features[model.feature_layer]), model.eval()(images), rtol=1e-4, atol=1e-5)


def test_negative_layers_are_named_from_zero(model, images):
    assert list(extract_features(model, images, layers=[-1, 0], progress=False)) == [3, 0]


def test_the_mode_of_the_model_is_kept(model, images):
    model.train()
    extract_features(model, images[:1], layers=[0], progress=False)
    assert model.training
    model.eval()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x * 2 - 1, ValueError, "ImageNet-normalised"),
        (lambda x: x.masked_fill(x > 0.9, float("nan")), ValueError, "NaN"),
        (lambda x: (x * 255).to(torch.uint8), TypeError, "uint8"),
        (lambda x: x[:, :1], ValueError, "1 channels"),
        (lambda x: x[:0], ValueError, "empty"),
        (lambda x: x[..., :30], ValueError, "32 x 30"),
    ],
)
def test_wrong_images_are_named(model, images, change, error, message):
    with pytest.raises(error, match=message):
        extract_features(model, change(images), progress=False)


def test_a_layer_out_of_range_is_named(model, images):
    with pytest.raises(ValueError, match="layer 4 is out of range"):
        extract_features(model, images, layers=[4], progress=False)


def test_inputs_follow_the_data_configuration(model):
    sample = load_sample("digits").train_images[:5]
    inputs = model_inputs(sample, model)
    assert inputs.shape == (5, 3, 32, 32)
    assert inputs.dtype == torch.float32
    assert 0 <= inputs.min() < 0.05
    assert 0.9 < inputs.max() <= 1
    assert torch.equal(inputs[:, 0], inputs[:, 2])


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8)), np.zeros((2, 8, 8), np.float32)])
def test_inputs_must_be_uint8(model, images):
    with pytest.raises(TypeError, match="uint8"):
        model_inputs(images, model)


@pytest.mark.parametrize("shape", [(8, 8), (0, 8, 8), (2, 8, 8, 4)])
def test_inputs_of_another_shape_are_named(model, shape):
    with pytest.raises(ValueError, match=str(shape[0])):
        model_inputs(np.zeros(shape, np.uint8), model)


def test_inputs_have_the_channels_of_the_model():
    gray = timm.create_model("bigr_nano", depth=4, width=32, num_heads=2, in_chans=1)
    inputs = model_inputs(load_sample("digits").train_images[:5], gray)
    assert inputs.shape == (5, 1, 32, 32)
    gray.encode(inputs)
