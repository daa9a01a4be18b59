"""Promises of the reveal orders: every token once, and the transcoder on the tokens of a step only."""

from __future__ import annotations

import pytest
import torch

from bigr_features.functional import masking
from bigr_features.sampling import RevealStep
from bigr_features.sampling.noise import make_noise
from bigr_features.sampling.orders import ORDERS, halton_ranks, known_ranks, radical_inverse

from ..helpers import TINY, random_codes, recording, tiny_generator


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("grid_size", [1, 2, 3, 5, 8, 13, 16, 32])
def test_halton_meets_every_token_once(grid_size):
    assert sorted(halton_ranks(grid_size)) == list(range(grid_size**2))


def test_halton_begins_as_worked_out_by_hand():
    """Points (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9) on a 4 x 4 grid lie in rows 2, 1, 3, 0 and columns 1, 2, 0, 1."""
    assert [radical_inverse(i, 2) for i in (1, 2, 3, 4)] == [0.5, 0.25, 0.75, 0.125]
    order = sorted(range(16), key=halton_ranks(4).__getitem__)
    assert order[:4] == [2 * 4 + 1, 1 * 4 + 2, 3 * 4 + 0, 0 * 4 + 1]


@pytest.mark.parametrize("order", ORDERS[1:])
def test_ranks_number_the_hidden_tokens_of_each_image(order):
    mask = torch.rand(5, 9, generator=seeded()) < 0.5
    ranks = known_ranks(order, mask, make_noise(5, seeded()))
    for row, hidden in zip(ranks, mask, strict=True):
        assert sorted(row[hidden].tolist()) == list(range(int(hidden.sum())))
    if order == "raster":
        assert all(row[hidden].tolist() == sorted(row[hidden].tolist()) for row, hidden in zip(ranks, mask, strict=True))
    if order == "random":
        assert not torch.equal(ranks, known_ranks(order, mask, make_noise(5, seeded(1))))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("num_reveal_steps", [1, 2, 4, 9, 12])
def test_hidden_tokens_are_drawn_once_and_known_tokens_stay_in_every_order(order, num_reveal_steps):
    model, known = tiny_generator(), random_codes(TINY, batch=4, seed=7)
    mask = torch.stack([torch.arange(9) % 9 < hidden for hidden in (9, 5, 1, 0)])
    steps: list[RevealStep] = []
    settings = {"order": order, "num_reveal_steps": num_reveal_steps, "generator": seeded()}
    codes = model.generate(torch.tensor([0, 1, 2, 3]), codes=known, mask=mask, on_step=steps.append, **settings)
    assert torch.equal(torch.stack([step.revealed for step in steps]).sum(0), mask.long())
    assert torch.equal(codes[~mask], known[~mask])
    for step in steps:
        ran = ~step.probabilities.isnan().any(-1)
        assert torch.equal(ran, step.confidence > -torch.inf)
        assert not (step.revealed & ~ran).any()
        if order != "entropy":
            assert torch.equal(ran, step.revealed)


def test_orders_known_beforehand_run_the_transcoder_on_the_tokens_of_the_step():
    model = tiny_generator()
    counts = masking.reveal_counts(9, 4)
    for order in ORDERS:
        model.transcoder.sample, calls = recording(type(model.transcoder).sample.__get__(model.transcoder))
        model.generate(torch.tensor([0, 1]), order=order, num_reveal_steps=4, generator=seeded())
        left = [9 - sum(counts[:step]) for step in range(4)]
        expected = left if order == "entropy" else counts
        assert [len(args[0]) for args, _ in calls] == [2 * count for count in expected if count]


def test_images_that_reveal_nothing_in_a_step_are_left_out_of_it():
    model, known = tiny_generator(), random_codes(TINY, batch=2)
    model.condition, calls = recording(model.condition)
    mask = torch.stack([torch.arange(9) < 9, torch.arange(9) < 1])
    model.generate(torch.tensor([0, 1]), codes=known, mask=mask, num_reveal_steps=3, guidance_scale=1.0, generator=seeded())
    assert [len(args[0]) for args, _ in calls] == [sum(masking.reveal_counts(n, 3)[step] > 0 for n in (9, 1)) for step in range(3)]
