"""Promises of `bigr_features.functional.bernoulli`: the recorded tables and kernels, and that they are what probability theory says."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from bigr_features.functional import bernoulli

BITS = torch.tensor([0.0, 1.0], dtype=torch.float64)


@pytest.mark.golden("schedule.*")
def test_schedule_tables_are_the_recorded_ones(golden):
    for schedule, recorded in {"linear": "linear", "cosine": "cos", "sigmoid": "sigmoid"}.items():
        keep = bernoulli.keep_probabilities(golden.config.num_timesteps, schedule)
        stay = torch.cat([keep[:1], keep[1:] / keep[:-1]])
        tables = {"k_final": keep, "b_final": (1 - keep) / 2, "beta": stay, "cumbeta": stay.cumprod(0)}
        for name, table in tables.items():
            golden.check(f"schedule.{recorded}.{name}", table)


@pytest.mark.golden("corrupt.prob")
def test_marginal_is_the_recorded_one(golden):
    keep = bernoulli.keep_probabilities(golden.config.num_timesteps)[golden["corrupt.t"]][:, None]
    golden.check("corrupt.prob", bernoulli.transition(golden["corrupt.z0"], keep))


@pytest.mark.golden("reverse.p_x0", "reverse.posterior")
def test_official_reverse_step_is_the_recorded_one(golden):
    noisy, t, earlier = golden["reverse.x_t"], golden["reverse.t"], golden["reverse.t_prev"]
    keep = bernoulli.keep_probabilities(golden.config.num_timesteps)[:, None]
    clean = bernoulli.flip_to_clean(noisy, golden["reverse.p_flip"])
    golden.check("reverse.p_x0", clean)
    golden.check("reverse.posterior", bernoulli.posterior(noisy, golden["reverse.p_x0"], keep[earlier], keep[t] / keep[earlier]))


@pytest.mark.parametrize("schedule", bernoulli.NOISE_SCHEDULES)
@pytest.mark.parametrize("num_timesteps", [1, 2, 7, 100, 256, 1000])
def test_keep_falls_from_one_to_zero(schedule, num_timesteps):
    keep = bernoulli.keep_probabilities(num_timesteps, schedule)
    assert keep.shape == (num_timesteps + 1,)
    assert (keep[0], keep[-1]) == (1, 0)
    assert (keep.diff() < 0).all()


@pytest.mark.parametrize("schedule", bernoulli.NOISE_SCHEDULES)
@pytest.mark.parametrize("num_timesteps", [1, 2, 5, 16, 40])
def test_kernel_in_closed_form_is_the_product_of_single_steps(schedule, num_timesteps):
    keep = bernoulli.keep_probabilities(num_timesteps, schedule)
    for start in range(num_timesteps):
        stepwise = BITS
        for t in range(start + 1, num_timesteps + 1):
            stepwise = bernoulli.transition(stepwise, keep[t] / keep[t - 1])
            torch.testing.assert_close(stepwise, bernoulli.transition(BITS, keep[t] / keep[start]), rtol=0, atol=1e-12)


def enumerated_posterior(noisy: float, clean: float, keep_earlier: float, keep_step: float) -> float:
    """P(earlier bit = 1 | noisy bit) by summing over every clean and earlier bit, with P(clean bit = 1) given."""

    def kernel(to: int, origin: int, keep: float) -> float:
        return keep * (to == origin) + (1 - keep) / 2

    total = 0.0
    for zero in (0, 1):
        joint = [kernel(mid, zero, keep_earlier) * kernel(int(noisy), mid, keep_step) for mid in (0, 1)]
        total += (clean if zero else 1 - clean) * joint[1] / sum(joint)
    return total


@pytest.mark.parametrize("schedule", bernoulli.NOISE_SCHEDULES)
@pytest.mark.parametrize("num_timesteps", [2, 5, 12])
def test_exact_posterior_is_the_enumerated_marginal(schedule, num_timesteps):
    keep = bernoulli.keep_probabilities(num_timesteps, schedule)
    clean = torch.tensor([0.0, 0.03, 0.5, 0.7, 1.0], dtype=torch.float64)
    for earlier, t in itertools.combinations(range(1, num_timesteps + 1), 2):
        for bit in (0.0, 1.0):
            step = keep[t] / keep[earlier]
            ours = bernoulli.posterior(torch.full_like(clean, bit), clean, keep[earlier], step, form="exact")
            by_hand = [enumerated_posterior(bit, p, keep[earlier].item(), step.item()) for p in clean.tolist()]
            torch.testing.assert_close(ours, torch.tensor(by_hand, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("form", "expected"), [("official", 0.0136), ("exact", 0.213)])
def test_the_two_posteriors_differ_at_small_t(form, expected):
    keep = bernoulli.keep_probabilities(256)
    noisy, clean = torch.zeros(1, 1), torch.full((1, 1), 0.7)
    ours = bernoulli.posterior(noisy, clean, keep[7].item(), (keep[10] / keep[7]).item(), form=form)
    assert abs(ours.item() - expected) < 5e-4


def test_posteriors_agree_where_the_clean_bit_is_known():
    keep = bernoulli.keep_probabilities(20)
    noisy, clean = BITS.repeat(2), BITS.repeat_interleave(2)
    for earlier, t in itertools.combinations(range(1, 21), 2):
        official, exact = (
            bernoulli.posterior(noisy, clean, keep[earlier], keep[t] / keep[earlier], form=form) for form in bernoulli.POSTERIORS
        )
        torch.testing.assert_close(official, exact)


@pytest.mark.parametrize("num_timesteps", [1, 2, 7, 16, 100, 256])
def test_sampling_visits_descending_levels_from_T_to_1(num_timesteps):
    assert bernoulli.sampling_timesteps(1, num_timesteps) == [num_timesteps]
    for steps in range(2, num_timesteps + 1):
        visited = bernoulli.sampling_timesteps(steps, num_timesteps)
        assert len(visited) == steps
        assert (visited[0], visited[-1]) == (num_timesteps, 1)
        assert all(later < earlier for earlier, later in itertools.pairwise(visited))


@pytest.mark.golden("sample.timesteps_*")
def test_visited_levels_are_the_recorded_ones(golden):
    for name in golden.matching(["sample.timesteps_*"]):
        recorded = golden[name]
        ours = torch.tensor(bernoulli.sampling_timesteps(len(recorded), golden.config.num_timesteps))
        golden.check(name, ours if recorded[0] > recorded[-1] else ours.flip(0))


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_balance_weights_by_hand(bits):
    target = torch.tensor(bits, dtype=torch.float64)
    ones = sum(bits) / len(bits)
    expected = [(1 - ones if bit else ones) + 1 / len(bits) for bit in bits]
    torch.testing.assert_close(bernoulli.balance_weights(target), torch.tensor(expected, dtype=torch.float64))


def test_bit_loss_by_hand():
    logits, target = torch.tensor([[0.0, 2.0, -1.0, 0.5]]).double(), torch.tensor([[1.0, 1.0, 0.0, 0.0]]).double()
    plain = F.softplus(-logits * (2 * target - 1))
    right = torch.sigmoid(logits * (2 * target - 1))
    losses = {
        (None, None, True): plain,
        (None, 0.25, True): plain,  # without a focal factor nothing else applies
        (0.0, None, True): plain * (0.5 + 0.25),  # two ones among four bits
        (0.0, 0.25, True): plain * torch.tensor([[0.25, 0.25, 0.75, 0.75]]),
        (2.0, None, True): plain * (1 - right) ** 2 * (0.5 + 0.25),
        (2.0, 0.25, False): plain * (1 - right) ** 2,
    }
    for (gamma, alpha, weighted), expected in losses.items():
        torch.testing.assert_close(bernoulli.bit_loss(logits, target, gamma, alpha, weighted), expected)


def test_bit_loss_is_finite_at_extreme_logits():
    logits = torch.tensor([[-200.0, 200.0, -200.0, 200.0]], requires_grad=True)
    loss = bernoulli.bit_loss(logits, torch.tensor([[0.0, 1.0, 1.0, 0.0]]), 0.5, None)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()


def test_draws_follow_their_generator_and_their_probability():
    probability = torch.tensor([0.0, 0.2, 0.5, 1.0]).repeat(20_000, 1)
    first, again, other = (bernoulli.draw(probability, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(first.mean(0), probability[0], rtol=0, atol=0.02)  # more than 5 standard errors


@pytest.mark.parametrize(("steps", "levels"), [(0, 16), (-1, 16), (17, 16)])
def test_step_count_out_of_range_is_refused(steps, levels):
    with pytest.raises(ValueError, match=rf"num_denoise_steps={steps}, but it must lie in 1\.\.{levels}"):
        bernoulli.sampling_timesteps(steps, levels)


def test_unknown_schedule_and_posterior_are_named():
    with pytest.raises(ValueError, match="noise schedule 'cos' is unknown; choose one of linear, cosine, sigmoid"):
        bernoulli.keep_probabilities(16, "cos")
    with pytest.raises(ValueError, match="posterior 'true' is unknown; choose one of official, exact"):
        bernoulli.posterior(torch.zeros(1), torch.zeros(1), 0.5, 0.5, form="true")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_uniform_numbers_made_before_give_the_bits_of_a_draw(dtype):
    probability = torch.rand(31, 17, generator=torch.Generator().manual_seed(1)).to(dtype)
    drawn = bernoulli.draw(probability, torch.Generator().manual_seed(2))
    numbers = bernoulli.uniform(probability.shape, dtype, torch.Generator().manual_seed(2))
    ahead = bernoulli.from_uniform(probability, numbers)
    assert ahead.dtype == dtype
    assert torch.equal(ahead, drawn)


def test_a_generator_of_the_cpu_gives_the_same_bits_on_every_device(device):
    probability = torch.rand(31, 17, generator=torch.Generator().manual_seed(1))
    here = bernoulli.draw(probability, torch.Generator().manual_seed(2))
    there = bernoulli.draw(probability.to(device), torch.Generator().manual_seed(2))
    assert there.device.type == device.type
    assert torch.equal(there.cpu(), here)
