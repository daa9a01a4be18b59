"""Presets: exact is the default, the others are their settings, and what contradicts one is said."""

import pytest
import timm
import torch

from bigr_features.sampling.presets import PRESETS, preset_settings
from bigr_features.sampling.settings import SamplingSettings


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return timm.create_model("bigr_nano", num_classes=0, depth=2, width=32, num_heads=2).eval()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_draws_what_its_settings_draw(model, preset):
    labels = torch.arange(3)
    steps = {"num_denoise_steps": 3} if preset == "exact" else {}
    if preset == "exact":
        with pytest.raises(ValueError, match="preset='exact' and num_denoise_steps=3 contradict"):
            model.generate(labels, preset=preset, seeds=[0, 1, 2], **steps)
        assert preset_settings(preset, {}) == {}
        return
    ours = model.generate(labels, preset=preset, seeds=[0, 1, 2])
    torch.testing.assert_close(ours, model.generate(labels, seeds=[0, 1, 2], **PRESETS[preset]), rtol=0, atol=0)
    assert not torch.equal(ours, model.generate(labels, preset=preset, seeds=[0, 1, 2], num_reveal_steps=3))


@pytest.mark.parametrize(
    "named",
    [{"guidance_schedule": "linear"}, {"num_denoise_steps": 1}, {"guidance_scale": 4.0}, {"num_reveal_steps": 2, "temperature": 1.2}],
    ids=str,
)
@pytest.mark.parametrize("preset", ["fast", "fastest"])
def test_what_is_named_goes_before(preset, named):
    settings = preset_settings(preset, named)
    SamplingSettings(**settings)  # valid together
    assert settings.items() >= named.items()
    assert settings["order"] == "halton"


def test_exact_takes_what_the_paper_has_per_size():
    assert preset_settings("exact", {"guidance_scale": 3.0, "num_reveal_steps": 20}) == {"guidance_scale": 3.0, "num_reveal_steps": 20}
    with pytest.raises(ValueError, match="order='halton' contradict"):
        preset_settings("exact", {"order": "halton"})


def test_an_unknown_preset_names_those_there_are(model):
    with pytest.raises(ValueError, match="'quick' is unknown; choose one of exact, fast, fastest"):
        model.generate(torch.arange(1), preset="quick")


def test_a_causal_model_has_no_presets():
    torch.manual_seed(0)
    causal = timm.create_model("llamagen_nano", num_classes=0, depth=1, width=32, num_heads=2).eval()
    with pytest.raises(ValueError, match="means nothing for"):
        causal.generate(torch.arange(1), preset="fast")
