"""Promises of `bigr_features.functional.masking`: the recorded counts, and that no token is lost or shown twice at any size."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm

from bigr_features.functional import masking

from ..helpers import GOLDEN

SCHEDULES = json.loads((GOLDEN / "schedules.json").read_text())


@pytest.mark.parametrize("num_tokens", sorted(map(int, SCHEDULES["generate_cos"])))
def test_cosine_counts_are_the_recorded_ones(num_tokens):
    recorded = SCHEDULES["generate_cos"][str(num_tokens)]
    ours = {steps: masking.reveal_counts(num_tokens, int(steps), "cosine") for steps in recorded}
    assert ours == recorded


@pytest.mark.parametrize("num_tokens", sorted(map(int, SCHEDULES["inpaint_linear"])))
def test_linear_counts_are_the_recorded_ones(num_tokens):
    recorded = SCHEDULES["inpaint_linear"][str(num_tokens)]
    ours = {steps: masking.reveal_counts(num_tokens, int(steps), "linear") for steps in recorded}
    assert ours == recorded


@pytest.mark.parametrize("num_tokens", sorted(map(int, SCHEDULES["train_masked_tokens"])))
def test_training_counts_are_the_recorded_ones(num_tokens):
    recorded = SCHEDULES["train_masked_tokens"][str(num_tokens)]
    assert [masking.train_mask_count(num_tokens, step) for step in range(num_tokens)] == recorded


def test_every_token_is_revealed_exactly_once():
    """All step counts of every small number of tokens, and of the large ones those where rounding could bite."""
    for num_tokens in (*range(65), 127, 169, 255, 256, 400, 1000, 1024):
        every = range(1, num_tokens + 4) if num_tokens <= 256 else (*range(1, 40), num_tokens - 1, num_tokens, num_tokens + 1)
        for num_reveal_steps in every:
            for schedule in masking.MASK_SCHEDULES:
                counts = masking.reveal_counts(num_tokens, num_reveal_steps, schedule)
                assert (len(counts), sum(counts)) == (num_reveal_steps, num_tokens)
                assert min(counts) >= 0


@given(st.integers(0, 5000), st.integers(1, 2000), st.sampled_from(masking.MASK_SCHEDULES))
def test_every_token_is_revealed_exactly_once_at_any_size(num_tokens, num_reveal_steps, schedule):
    counts = masking.reveal_counts(num_tokens, num_reveal_steps, schedule)
    assert (len(counts), sum(counts)) == (num_reveal_steps, num_tokens)
    assert min(counts) >= 0


@pytest.mark.parametrize("num_tokens", [1, 2, 9, 36, 64, 255, 1024])
def test_training_hides_at_least_one_token_and_never_more_as_the_draw_grows(num_tokens):
    counts = [masking.train_mask_count(num_tokens, step) for step in range(num_tokens)]
    assert counts[0] == num_tokens
    assert min(counts) >= 1
    assert counts == sorted(counts, reverse=True)


def test_drawn_training_counts_follow_the_schedule():
    source = torch.Generator().manual_seed(0)
    drawn = torch.tensor([masking.draw_mask_count(16, source) for _ in range(4000)])
    expected = torch.tensor(SCHEDULES["train_masked_tokens"]["16"])
    assert set(drawn.tolist()) == set(expected.tolist())
    assert abs(drawn.float().mean() - expected.float().mean()) < 0.3  # 4 standard errors of 4,000 draws


def test_truncated_normal_counts_are_mages():
    source = torch.Generator().manual_seed(0)
    drawn = torch.tensor([masking.draw_mask_count(256, source, distribution="truncated_normal") for _ in range(4000)]) / 256
    assert drawn.min() >= 0.5
    assert drawn.max() <= 1
    law = truncnorm((0.5 - 0.55) / 0.25, (1 - 0.55) / 0.25, 0.55, 0.25)
    assert kstest(drawn - 0.5 / 256, law.cdf).pvalue > 0.01  # rounded up to whole tokens


@pytest.mark.parametrize("num_tokens", [1, 2, 3, 9])
def test_truncated_normal_hides_at_least_half_of_few_tokens(num_tokens):
    source = torch.Generator().manual_seed(1)
    drawn = [masking.draw_mask_count(num_tokens, source, distribution="truncated_normal") for _ in range(200)]
    assert num_tokens / 2 <= min(drawn)
    assert max(drawn) == num_tokens


def test_unknown_distribution_is_named():
    with pytest.raises(ValueError, match="no mask distribution 'uniform'; choose one of cosine, truncated_normal"):
        masking.draw_mask_count(4, distribution="uniform")


@given(st.integers(1, 5), st.integers(1, 40), st.data())
def test_lowest_hides_the_smallest_entries(batch, num_tokens, data):
    count = data.draw(st.integers(1, num_tokens))
    noise = torch.rand(batch, num_tokens, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    mask = masking.lowest(noise, count)
    assert mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [count] * batch
    if count < num_tokens:
        assert (noise.masked_fill(~mask, -1).amax(1) <= noise.masked_fill(mask, 2).amin(1)).all()


@pytest.mark.golden("train.*.mask")
def test_training_mask_is_the_recorded_one(golden):
    for name, variant in golden.runs("train_variants").items():
        count = masking.train_mask_count(golden.config.num_tokens, variant["mask_step"])
        golden.check(f"train.{name}.mask", masking.lowest(golden["train.noise"], count))


@pytest.mark.parametrize("schedule", masking.MASK_SCHEDULES)
def test_masked_fraction_falls_from_one_to_zero(schedule):
    fractions = [masking.masked_fraction(step / 100, schedule) for step in range(101)]
    assert fractions[0] == 1
    assert 0 <= fractions[-1] < 1e-15
    assert fractions == sorted(fractions, reverse=True)


def test_gumbel_temperature_by_hand():
    at = [masking.gumbel_temperature_at(0.25, 2.0, schedule) for schedule in masking.GUMBEL_SCHEDULES]
    assert at == [2.0, 1.5, 0.5]  # constant, down, up


def test_gumbel_noise_has_the_mean_and_spread_of_a_standard_gumbel():
    noise = masking.gumbel_noise((200_000,), torch.Generator().manual_seed(0))
    assert noise.isfinite().all()
    assert abs(noise.mean().item() - 0.5772) < 0.015  # 5 standard errors
    assert abs(noise.std().item() - math.pi / math.sqrt(6)) < 0.02


def test_gumbel_noise_follows_its_generator():
    first, again, other = (masking.gumbel_noise((3, 4), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("num_reveal_steps", [0, -3])
def test_too_few_steps_are_refused(num_reveal_steps):
    with pytest.raises(ValueError, match=f"num_reveal_steps={num_reveal_steps},"):
        masking.reveal_counts(16, num_reveal_steps)


def test_negative_token_count_is_refused():
    with pytest.raises(ValueError, match="num_tokens=-1 is negative"):
        masking.reveal_counts(-1, 4)


def test_unknown_schedules_are_named():
    with pytest.raises(ValueError, match="mask schedule 'square' is unknown; choose one of cosine, linear"):
        masking.reveal_counts(16, 4, "square")
    with pytest.raises(ValueError, match="gumbel schedule 'sideways' is unknown; choose one of constant, down, up"):
        masking.gumbel_temperature_at(0.5, 1.0, "sideways")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_positions_are_ascending_whether_counted_or_known(share, device):
    mask = torch.rand(5, 13, generator=torch.Generator().manual_seed(0)).to(device) < share
    counted = masking.positions_of(mask)
    assert torch.equal(masking.positions_of(mask, int(mask.sum())), counted)
    assert torch.equal(counted, mask.flatten().nonzero().squeeze(1))
