"""Promises of the networks that measure images: what they give, how they are named, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from bigr_features.features.metric_network import MetricNetwork, joined, metric_network
from bigr_features.features.torchvision_inception import FILE, INCEPTION, TorchvisionInception

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """Weights of a small timm network with 7 classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), path)
    return path


def test_a_timm_network_gives_pooled_and_spatial_features_and_logits(judge):
    network = metric_network("test_resnet", judge, image_size=32, batch_size=2)
    found = network(PIXELS)
    model = network.model
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    cfg = model.pretrained_cfg
    images = (images - torch.tensor(cfg["mean"])[:, None, None]) / torch.tensor(cfg["std"])[:, None, None]
    with torch.no_grad():
        features = model.forward_features(images)
        np.testing.assert_allclose(found.pooled, model.forward_head(features, pre_logits=True), atol=1e-5)
        np.testing.assert_allclose(found.logits, model(images), atol=1e-5)
        maps = model.forward_intermediates(images, indices=[3], intermediates_only=True)[0]
    assert found.logits.shape == (5, 7)  # the number of classes is read off the weights
    np.testing.assert_allclose(found.spatial.reshape(5, 2, 2, 7), maps[:, :7].permute(0, 2, 3, 1), atol=1e-5)
    assert network.identity["spatial_layer"] == "layer3"
    assert len(network.identity["sha256"]) == 64


def test_batches_and_joining_change_nothing(judge):
    whole = metric_network("test_resnet", judge, image_size=32, batch_size=5)
    alone = metric_network("test_resnet", judge, image_size=32, batch_size=1)
    parts = joined([alone(PIXELS[:2]), alone(PIXELS[2:])])
    for name in ("pooled", "spatial", "logits"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole(PIXELS), name), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_pictures_and_gray_networks(channels, tmp_path):
    save_file(timm.create_model("test_resnet", num_classes=0, in_chans=channels).state_dict(), tmp_path / "w.safetensors")
    network = metric_network("test_resnet", tmp_path / "w.safetensors", image_size=32)
    gray = PIXELS[..., :1]
    found = network(gray)
    assert found.logits is None  # no classifier in the weights
    np.testing.assert_allclose(found.pooled, network(gray.repeat(3, 3)).pooled, atol=1e-5)


def test_networks_of_tokens_have_spatial_features_too():
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3)
    found = MetricNetwork(model, "test_vit", spatial_layer="blocks.2", spatial_channels=4)(PIXELS[:2])
    assert found.spatial.shape[1] % 4 == 0
    assert found.spatial.shape[1] > 400
    assert MetricNetwork(model, "test_vit", spatial_layer="")(PIXELS[:2]).spatial is None


def test_equal_weights_have_equal_identities_and_layers_count(judge):
    first, second = (metric_network("test_resnet", judge, image_size=32) for _ in range(2))
    assert first.identity == second.identity
    assert metric_network("test_resnet", judge, image_size=64).identity["transform"] != first.identity["transform"]
    assert metric_network("test_resnet", judge, image_size=32, spatial_layer="layer2").identity != first.identity


def test_torchvisions_inception_is_that_of_torchvision(tmp_path):
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    original = inception_v3(weights=None, init_weights=False, aux_logits=True).eval()
    torch.save(original.state_dict(), tmp_path / FILE)
    network = metric_network(INCEPTION, tmp_path / FILE)
    assert isinstance(network.model, TorchvisionInception)
    found = network(PIXELS[:1])
    assert (found.pooled.shape, found.spatial.shape, found.logits.shape) == ((1, 2048), (1, 17 * 17 * 7), (1, 1000))
    image = network.transform(Image.fromarray(PIXELS[0]))[None]
    with torch.no_grad():
        np.testing.assert_allclose(found.logits + original.fc.bias.numpy(), original(image), atol=1e-4)


def test_weights_of_inception_are_looked_for_and_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=rf"no weights of torchvision's Inception at {tmp_path}.*{FILE}"):
        metric_network(INCEPTION)


def wrong_shape(folder):
    save_file({"conv1.0.weight": torch.zeros(2, 3, 3, 3)}, folder / "w.safetensors")
    return {"checkpoint": folder / "w.safetensors"}


def other_model(folder):
    save_file(timm.create_model("test_efficientnet").state_dict(), folder / "w.safetensors")
    return {"checkpoint": folder / "w.safetensors"}


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("test_resnets", {}, ValueError, "there is no timm model 'test_resnets'; similar: test_resnet"),
        ("darknet17", {}, ValueError, "darknet17 has no pretrained weights, and random features measure nothing"),
        ("test_resnet", {"checkpoint": "none.safetensors"}, FileNotFoundError, "no checkpoint file none.safetensors"),
        ("test_resnet", wrong_shape, ValueError, "does not hold the weights of test_resnet"),
        ("test_resnet", other_model, ValueError, "does not hold the weights of test_resnet: .* is missing"),
    ],
)
def test_wrong_networks_are_named(name, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        metric_network(name, **(options(tmp_path) if callable(options) else options))


def test_an_unknown_layer_is_named(judge):
    with pytest.raises(ValueError, match=r"has no layer 'layer9'; some of its layers: .*layer1"):
        metric_network("test_resnet", judge, spatial_layer="layer9")


def test_features_of_a_broken_network_are_refused(judge):
    from bigr_features.features.generation_evaluation import reference_of
    from bigr_features.features.picture_sets import PictureSet

    network = metric_network("test_resnet", judge, image_size=32)
    with torch.no_grad():
        network.model.conv1[0].weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite; check its weights"):
        reference_of(network, PictureSet("sample:digits", "test", 32, 5))
