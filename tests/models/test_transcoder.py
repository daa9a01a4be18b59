"""Promises of the transcoder: recorded denoiser outputs, losses and sampling chains."""

from __future__ import annotations

import math

import pytest
import torch

from bigr_features.functional import bernoulli
from bigr_features.models.transcoder import Transcoder, sinusoid

from ..helpers import TINY, Draws, loss_settings, random_codes, randomized


def tiny_transcoder(**changes) -> Transcoder:
    return randomized(Transcoder(TINY.replace(**changes)), 0).eval()


@pytest.mark.golden("denoiser.sinusoid", "denoiser.t_emb", "denoiser.logits")
def test_denoiser_is_the_recorded_one(golden, generator):
    denoiser, time = generator.transcoder.denoiser, golden["denoiser.t"]  # recorded 0-based
    golden.check("denoiser.sinusoid", sinusoid(time))
    golden.check("denoiser.t_emb", denoiser.time_embedding(time + 1))
    golden.check("denoiser.logits", denoiser(golden["denoiser.x"], time + 1, golden["denoiser.cond"]))


@pytest.mark.golden("sample.*.prob", "sample.*.trace_post")
def test_every_recorded_chain_is_met(golden, generator, monkeypatch):
    cond, null = golden["sample.cond"].chunk(2)
    for name, run in golden.runs("sample_runs").items():
        scripted = name.startswith("scripted")
        draws = Draws(golden[f"sample.{name}.u"] if scripted else None)
        monkeypatch.setattr(torch, "bernoulli", draws)
        probability = generator.transcoder.sample(
            cond,
            null,
            num_denoise_steps=run["sample_steps"],
            guidance_scale=run["cfg_scale"],
            temperature=run["temperature"],
        )
        golden.check(f"sample.{name}.prob", probability)
        assert len(draws.probabilities) == run["sample_steps"]  # the initial noise, and all steps but the last
        last = len(golden[f"sample.{name}.trace_post"])
        golden.check(f"sample.{name}.trace_post", torch.stack(draws.probabilities[1:][-last:]))


@pytest.mark.golden(
    "train.*.x_t_prob",
    "train.*.x_t_in",
    "train.*.denoiser_logits",
    "train.*_all",
    "train.*.acc",
    "train.*.aux_loss_unmasked_mean",
)
def test_loss_of_every_bit_is_the_recorded_one(golden, generator, monkeypatch):
    codes, timesteps = golden["input.codes"], golden["train.t"]
    tokens = codes.flatten(0, 1)  # (32, K), hidden or not
    transcoder = generator.transcoder
    for name, variant in golden.runs("train_variants").items():
        transcoder.config = golden.config.replace(**loss_settings(variant))
        draws = Draws([golden["train.u"]])
        monkeypatch.setattr(torch, "bernoulli", draws)
        noisy = transcoder.corrupt(tokens, timesteps)
        golden.check(f"train.{name}.x_t_prob", draws.probabilities[0])
        golden.check(f"train.{name}.x_t_in", noisy)

        condition = generator.condition(codes, golden["input.labels_mixed"], golden[f"train.{name}.mask"]).flatten(0, 1)
        logits = transcoder.denoiser(noisy, timesteps, condition)
        golden.check(f"train.{name}.denoiser_logits", logits)
        bce, auxiliary = transcoder.loss_per_bit(logits, tokens, timesteps, noisy)
        golden.check(f"train.{name}.bce_loss_all", bce)
        if auxiliary is None:
            golden.check(f"train.{name}.loss_all", bce)
        else:
            golden.check(f"train.{name}.loss_all", bce + variant["aux"] * auxiliary)
            golden.check(f"train.{name}.aux_loss_unmasked_mean", auxiliary.mean().reshape(1))
        terms = transcoder.loss(condition, tokens, timesteps, noisy)
        golden.check(f"train.{name}.acc", terms.bit_accuracy.reshape(1))


@pytest.mark.parametrize("gamma", [None, 0.0, 2.0])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("aux_weight", [0.0, 0.1])
def test_loss_is_the_mean_over_tokens_and_bits(gamma, flip, aux_weight):
    transcoder = tiny_transcoder(focal_gamma=gamma, predict_flip=flip, aux_weight=aux_weight)
    codes = random_codes(TINY).flatten(0, 1)
    condition = torch.randn(len(codes), TINY.width, generator=torch.Generator().manual_seed(0))
    timesteps = transcoder.draw_timesteps(len(codes), torch.Generator().manual_seed(1))
    noisy = transcoder.corrupt(codes, timesteps, torch.Generator().manual_seed(2))
    terms = transcoder.loss(condition, codes, timesteps, noisy)
    bce, auxiliary = transcoder.loss_per_bit(transcoder.denoiser(noisy, timesteps, condition), codes, timesteps, noisy)
    torch.testing.assert_close(terms.bce, bce.mean())
    torch.testing.assert_close(terms.loss, bce.mean() + (0 if auxiliary is None else aux_weight * auxiliary.mean()))
    right = (transcoder(noisy, timesteps, condition) > 0.5) == (codes > 0.5)
    torch.testing.assert_close(terms.bit_accuracy, right.float().mean())


def test_plain_loss_with_and_without_flip_prediction_agree():
    """BCE against the xor is BCE against the clean bit with the sign of the logit turned where the noisy bit is 1."""
    codes = random_codes(TINY).flatten(0, 1)
    timesteps = torch.randint(1, 17, (len(codes),), generator=torch.Generator().manual_seed(0))
    flip, direct = (tiny_transcoder(focal_gamma=None, predict_flip=predict) for predict in (True, False))
    noisy = flip.corrupt(codes, timesteps, torch.Generator().manual_seed(1))
    logits = torch.randn(codes.shape, generator=torch.Generator().manual_seed(2))
    by_flip, _ = flip.loss_per_bit(logits, codes, timesteps, noisy)
    by_value, _ = direct.loss_per_bit(logits * (1 - 2 * noisy), codes, timesteps, noisy)
    torch.testing.assert_close(by_flip, by_value)


def test_drawn_timesteps_cover_exactly_the_noise_levels():
    drawn = tiny_transcoder().draw_timesteps(4000, torch.Generator().manual_seed(0))
    assert sorted(set(drawn.tolist())) == list(range(1, TINY.num_timesteps + 1))
    assert drawn.bincount()[1:].min() > 150  # 250 expected of each, 6 standard errors


@pytest.mark.parametrize("schedule", bernoulli.NOISE_SCHEDULES)
def test_noise_is_pure_at_the_last_level_and_follows_the_schedule(schedule):
    transcoder = tiny_transcoder(noise_schedule=schedule)
    codes = torch.ones(20_000, TINY.code_dim)
    keep = bernoulli.keep_probabilities(TINY.num_timesteps, schedule)
    for t in (1, 8, 16):
        noisy = transcoder.corrupt(codes, torch.full((len(codes),), t), torch.Generator().manual_seed(t))
        assert set(noisy.unique().tolist()) == {0.0, 1.0}
        assert abs(noisy.mean() - (1 + keep[t]) / 2) < 0.01  # more than 6 standard errors


@pytest.mark.parametrize("steps", [1, 2, 5, 16])
@pytest.mark.parametrize("posterior", bernoulli.POSTERIORS)
def test_guidance_of_one_is_the_conditional_branch_alone(steps, posterior):
    transcoder = tiny_transcoder()
    cond, null = torch.randn(2, 7, TINY.width, generator=torch.Generator().manual_seed(0))
    settings = {"num_denoise_steps": steps, "posterior": posterior}
    alone = transcoder.sample(cond, **settings, generator=torch.Generator().manual_seed(3))
    scale_one = transcoder.sample(cond, null, guidance_scale=1.0, **settings, generator=torch.Generator().manual_seed(3))
    guided = transcoder.sample(cond, null, guidance_scale=3.0, **settings, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(scale_one, alone, rtol=0, atol=0)
    assert not torch.allclose(guided, alone, atol=1e-3)
    assert alone.shape == (7, TINY.code_dim)
    assert ((alone >= 0) & (alone <= 1)).all()


def test_equal_branches_make_guidance_a_no_op():
    transcoder = tiny_transcoder()
    cond = torch.randn(7, TINY.width, generator=torch.Generator().manual_seed(0))
    alone = transcoder.sample(cond, generator=torch.Generator().manual_seed(3))
    guided = transcoder.sample(cond, cond, guidance_scale=4.0, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(guided, alone, rtol=0, atol=1e-5)


def test_one_step_is_one_call_at_the_noisiest_level(monkeypatch):
    transcoder = tiny_transcoder()
    cond = torch.randn(7, TINY.width, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(torch, "bernoulli", Draws())  # initial noise all zeros
    ours = transcoder.sample(cond, num_denoise_steps=1)
    timesteps = torch.full((7,), TINY.num_timesteps)
    torch.testing.assert_close(ours, transcoder(torch.zeros(7, TINY.code_dim), timesteps, cond))


def test_the_number_of_steps_defaults_to_the_configuration(monkeypatch):
    transcoder, draws = tiny_transcoder(num_denoise_steps=6), Draws()
    monkeypatch.setattr(torch, "bernoulli", draws)
    transcoder.sample(torch.zeros(2, TINY.width))
    assert len(draws.probabilities) == 6


def test_an_untrained_transcoder_predicts_a_fair_coin():
    transcoder = Transcoder(TINY)
    transcoder.init_weights()
    codes = random_codes(TINY).flatten(0, 1)
    timesteps = torch.ones(len(codes), dtype=torch.int64)
    probability = transcoder(codes, timesteps, torch.randn(len(codes), TINY.width))
    torch.testing.assert_close(probability, torch.full_like(codes, 0.5))


def test_sinusoid_follows_the_dtype_of_its_argument_and_starts_at_cosine_one():
    time = torch.tensor([0, 1, 255])
    assert sinusoid(time).dtype == torch.float32
    double = sinusoid(time.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double[0], torch.cat([torch.ones(128), torch.zeros(128)]).double())
    assert double[1, [0, 128]].tolist() == pytest.approx([math.cos(1), math.sin(1)])
