"""The weights that ship: they load without a network, fit in the package, and are trained."""

from __future__ import annotations

from importlib.resources import files

import pytest
import timm
import torch

from bigr_features import LinearProbe, extract_features
from bigr_features.data import load_sample
from bigr_features.features.inputs import model_inputs

SHIPPED = ["bigr_nano.fashion_mnist", "bigr_nano.fashion_mnist_uncond"]


@pytest.fixture(scope="module", params=SHIPPED)
def model(request):
    return timm.create_model(request.param, pretrained=True, num_classes=0).eval()


@pytest.fixture(scope="module")
def images():
    sample = load_sample("fashion_mnist")
    model = timm.create_model("bigr_nano")
    return model_inputs(sample.test_images[::2], model), sample.test_labels[::2]


def test_all_weights_fit_in_seventeen_megabytes_and_each_in_eight():
    folder = files("bigr_features") / "assets" / "bigr_nano"
    sizes = [part.joinpath("model.safetensors").stat().st_size for part in folder.iterdir() if part.is_dir()]
    assert sum(sizes) < 17e6
    assert max(sizes) < 8e6


def test_the_default_weights_are_the_first_tag():
    default = timm.create_model("bigr_nano", pretrained=True)
    named = timm.create_model("bigr_nano.fashion_mnist", pretrained=True)
    for key, value in named.state_dict().items():
        assert torch.equal(default.state_dict()[key], value)


def test_the_plain_call_gives_the_block_that_held_out_images_chose():
    assert timm.create_model("bigr_nano.fashion_mnist", pretrained=True).feature_layer == 7
    assert timm.create_model("bigr_nano.fashion_mnist_uncond", pretrained=True).feature_layer == 6
    assert timm.create_model("bigr_nano.fashion_mnist", pretrained=True, feature_layer=3).feature_layer == 3
    assert timm.create_model("bigr_nano").feature_layer == 3  # the middle one, as in the paper


@torch.no_grad()
def test_reconstructions_are_close_and_every_bit_is_used(model, images):
    codes = model.encode(images[0])
    error = (model.decode(codes).clamp(0, 1) - images[0]).square().flatten(1).mean(1)
    assert (-10 * error.log10()).mean() > 25
    usage = codes.mean((0, 1))
    assert usage.min() > 0.05
    assert usage.max() < 0.95


def test_features_beat_those_of_random_weights_by_far(model, images):
    inputs, labels = images
    torch.manual_seed(0)
    random = timm.create_model("bigr_nano")
    accuracies = []
    for candidate in (model, random):
        x = extract_features(candidate, inputs, layers=candidate.feature_layer, progress=False)[candidate.feature_layer]
        accuracies.append(LinearProbe(Cs=(0.1,)).fit(x[::2], labels[::2]).score(x[1::2], labels[1::2]))
    assert accuracies[0] > accuracies[1] + 0.15


def test_the_loss_knows_the_class_and_beats_chance(model, images):
    inputs, labels = images
    if model.generator.config.unconditional:
        assert model.loss(inputs[:200], generator=torch.Generator().manual_seed(0)).bit_accuracy > 0.7
        with pytest.raises(ValueError, match="trained without labels"):
            model.loss(inputs[:200], torch.from_numpy(labels[:200]))
        return
    right = model.loss(inputs[:200], torch.from_numpy(labels[:200]), generator=torch.Generator().manual_seed(0))
    wrong = model.loss(inputs[:200], torch.from_numpy((labels[:200] + 5) % 10), generator=torch.Generator().manual_seed(0))
    assert right.bit_accuracy > 0.7
    assert right.loss < wrong.loss


def test_generation_is_reproducible_and_in_range(model):
    settings = {"num_reveal_steps": 4, "num_denoise_steps": 5}
    labels = torch.full((4,), 10) if model.generator.config.unconditional else torch.arange(4)
    first, second = (model.generate(labels, generator=torch.Generator().manual_seed(0), **settings) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (4, 3, 32, 32)
    assert 0 <= first.min() < first.max() <= 1


def test_the_model_of_captions_draws_what_its_prompts_say_and_gives_features():
    model = timm.create_model("bigr_nano_t2i.fashion_mnist", pretrained=True).eval()
    text = model.generator.config.text
    assert text.encoder == "words"
    assert {"dark", "light", "wide", "bag", "boot", "shirt"} <= set(text.vocabulary)
    settings = {"num_reveal_steps": 4, "num_denoise_steps": 4}
    drawn = {
        prompt: model.generate(text=prompt, seeds=range(6), **settings)
        for prompt in ("a dark shirt", "a light shirt", "a dark ankle boot", "trousers")
    }
    shapes = {prompt: (images.mean(1) > 0.2).float().mean(0) for prompt, images in drawn.items()}
    assert shapes["a dark ankle boot"][:6].mean() < 0.2 < shapes["a light shirt"][:6].mean()  # a boot leaves the upper rows empty
    assert drawn["a dark shirt"].mean() < drawn["a light shirt"].mean()
    assert model(drawn["trousers"]).shape == (6, 144)
