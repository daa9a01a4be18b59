"""Promises of the sampling settings: guidance schedules, thresholded bits, and values out of range by name."""

from __future__ import annotations

import pytest
import torch

from bigr_features.functional import bernoulli
from bigr_features.sampling import RevealStep, SamplingSettings

from ..helpers import Draws, recording, tiny_generator

LABELS = torch.tensor([1, 3])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_guidance_schedules():
    at = (0.25, 0.5, 0.75, 1.0)
    assert [SamplingSettings(guidance_scale=3.0).guidance_at(r) for r in at] == [3.0] * 4
    assert [SamplingSettings(guidance_scale=3.0, guidance_schedule="linear").guidance_at(r) for r in at] == [1.5, 2.0, 2.5, 3.0]
    interval = SamplingSettings(guidance_scale=3.0, guidance_schedule="interval", guidance_interval=(0.25, 0.75))
    assert [interval.guidance_at(r) for r in at] == [1.0, 3.0, 3.0, 1.0]


def test_chains_get_shorter_over_the_reveal_steps():
    model = tiny_generator()
    model.transcoder.sample, calls = recording(model.transcoder.sample)
    codes = [
        model.generate(LABELS, num_reveal_steps=4, num_denoise_steps=10, **given, generator=seeded())
        for given in ({}, {"final_denoise_steps": 10}, {"final_denoise_steps": 1})
    ]
    assert [options["num_denoise_steps"] for _, options in calls] == 2 * [10, 10, 10, 10] + [10, 7, 4, 1]
    assert torch.equal(codes[0], codes[1])
    assert set(codes[2].unique().tolist()) <= {0.0, 1.0}
    assert SamplingSettings(num_reveal_steps=1, final_denoise_steps=3).denoise_steps_at(0, 8) == 8
    assert SamplingSettings(num_reveal_steps=2, final_denoise_steps=30).denoise_steps_at(1, 8) == 8


@pytest.mark.parametrize("given", [{"final_denoise_steps": 0}, {"final_denoise_steps": 6, "num_denoise_steps": 5}])
def test_chains_that_cannot_get_shorter_are_named(given):
    with pytest.raises(ValueError, match=f"final_denoise_steps={given['final_denoise_steps']}.*from 1 to num_denoise_steps"):
        SamplingSettings(**given)


def test_outside_its_interval_guidance_costs_nothing():
    model = tiny_generator()
    model.condition, calls = recording(model.condition)
    steps: list[RevealStep] = []
    interval = {"guidance_schedule": "interval", "guidance_interval": (0.5, 1.0), "guidance_scale": 4.0}
    model.generate(LABELS, num_reveal_steps=4, **interval, generator=seeded(), on_step=steps.append)
    assert [len(args[0]) for args, _ in calls] == [2, 2, 4, 4]
    assert [step.guidance_scale for step in steps] == [1.0, 1.0, 4.0, 4.0]


def test_an_interval_over_all_steps_is_constant_guidance():
    model = tiny_generator()
    whole = {"guidance_schedule": "interval", "guidance_interval": (0.0, 1.0)}
    constant, interval = (model.generate(LABELS, num_reveal_steps=3, **given, generator=seeded()) for given in ({}, whole))
    assert torch.equal(constant, interval)


def test_thresholded_bits_are_those_above_one_half():
    steps: list[RevealStep] = []
    tiny_generator().generate(LABELS, num_reveal_steps=3, bits="threshold", generator=seeded(), on_step=steps.append)
    for step in steps:
        assert torch.equal(step.codes[step.revealed], (step.probabilities[step.revealed] > 0.5).float())


def test_thresholded_bits_leave_out_one_draw_a_step_and_keep_those_of_the_chain(monkeypatch):
    counts = []
    for bits in ("bernoulli", "threshold"):
        monkeypatch.setattr(torch, "bernoulli", Draws())
        tiny_generator().generate(LABELS, num_reveal_steps=2, num_denoise_steps=3, bits=bits)
        counts.append(len(torch.bernoulli.probabilities))
    assert counts == [2 * 4, 2 * 3]


@pytest.mark.parametrize("schedule", bernoulli.NOISE_SCHEDULES)
def test_the_closed_form_of_the_kernel_is_the_product_of_single_steps(schedule):
    """Every pair of levels t' < t of 64, within 1e-6, for bits and probabilities between."""
    keep = bernoulli.keep_probabilities(64, schedule)
    bits = torch.tensor([0.0, 1.0, 0.3], dtype=torch.float64)
    for earlier in range(64):
        product = bits
        for level in range(earlier + 1, 65):
            product = bernoulli.transition(product, keep[level] / keep[level - 1])
            closed = bernoulli.transition(bits, keep[level] / keep[earlier])
            torch.testing.assert_close(closed, product, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_reveal_steps": 0}, "num_reveal_steps=0"),
        ({"num_denoise_steps": 0}, "num_denoise_steps=0"),
        ({"guidance_scale": 0.9}, "guidance_scale=0.9; expected 1.0"),
        ({"guidance_scale": -2.0}, "guidance_scale=-2.0; expected 1.0"),
        ({"guidance_scale": float("inf")}, "guidance_scale=inf"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"order": "spiral"}, "order='spiral'; choose one of entropy, random, raster, halton"),
        ({"bits": "hard"}, "bits='hard'; choose one of bernoulli, threshold"),
        ({"order": "halton", "gumbel_temperature": 0.1}, "order='halton' does not use"),
        ({"guidance_schedule": "interval"}, "guidance_interval=None; the two belong together"),
        ({"guidance_interval": (0.0, 1.0)}, "guidance_schedule='constant' with guidance_interval"),
        ({"guidance_schedule": "interval", "guidance_interval": (0.8, 0.2)}, r"guidance_interval=\(0.8, 0.2\); expected"),
        ({"guidance_schedule": "interval", "guidance_interval": (0.5, 1.5)}, r"guidance_interval=\(0.5, 1.5\); expected"),
    ],
)
def test_settings_that_make_no_sense_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**given)
    with pytest.raises(ValueError, match=message):
        tiny_generator().generate(LABELS, **given)


def test_an_unknown_setting_is_named():
    with pytest.raises(TypeError, match="cfg_scale"):
        tiny_generator().generate(LABELS, cfg_scale=2.0)
