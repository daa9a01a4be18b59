"""Promises about randomness: an image depends on its seed and on nothing else in its batch; hidden-only equals all-token sampling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigr_features.functional import masking
from bigr_features.sampling import sample_codes
from bigr_features.sampling.noise import make_noise
from bigr_features.sampling.orders import ORDERS

from ..helpers import TINY, Draws, backbone, random_codes, tiny_generator

SEVEN = torch.tensor([0, 1, 2, 3, 4, 0, 1])  # 4 is the null class
SEEDS = [11, 12, 13, 14, 15, 16, 11]


@pytest.mark.parametrize("order", ORDERS)
def test_the_same_seed_gives_the_same_image_alone_and_in_a_batch_of_seven(order):
    model, known = tiny_generator(), random_codes(TINY, batch=7)
    masks = torch.stack([torch.arange(9) < hidden for hidden in (9, 5, 1, 9, 3, 8, 9)])
    settings = {"order": order, "num_reveal_steps": 5, "gumbel_temperature": 0.4 if order == "entropy" else 0.0}
    batch = model.generate(SEVEN, codes=known, mask=masks, seeds=SEEDS, **settings)
    for i in range(7):
        one = slice(i, i + 1)
        alone = model.generate(SEVEN[one], codes=known[one], mask=masks[one], seeds=SEEDS[one], **settings)
        assert torch.equal(alone, batch[one])
    assert torch.equal(model.generate(SEVEN.flip(0), codes=known.flip(0), mask=masks.flip(0), seeds=SEEDS[::-1], **settings), batch.flip(0))


def test_images_too_are_the_same_to_the_last_bit_and_other_seeds_give_others():
    model = backbone("tiny")
    settings = {"num_reveal_steps": 2, "num_denoise_steps": 2}
    batch = model.generate(SEVEN, seeds=SEEDS, **settings)
    for i in (0, 3, 6):
        assert torch.equal(model.generate(SEVEN[i : i + 1], seeds=[SEEDS[i]], **settings), batch[i : i + 1])
    other = model.generate(SEVEN, seeds=[seed + 1 for seed in SEEDS], **settings)
    assert not any(torch.equal(one, another) for one, another in zip(batch, other, strict=True))


def test_without_batch_invariance_the_numbers_are_the_same_and_one_pass_serves_the_batch():
    """In float64, where no draw lies within rounding of its probability."""
    model = tiny_generator().double()
    invariant, joint = (
        sample_codes(model, SEVEN, seeds=SEEDS, num_reveal_steps=4, batch_invariant=one_by_one) for one_by_one in (True, False)
    )
    assert torch.equal(invariant, joint)


def all_token_sampling(model, labels: Tensor, num_reveal_steps: int, guidance_scale: float, uniforms: Tensor) -> Tensor:
    """The plain way: the transcoder on all tokens, two calls. `uniforms` (steps, draws, B * N, K)."""
    batch, tokens, bits = len(labels), model.config.num_tokens, model.config.code_dim
    codes, mask = torch.zeros(batch, tokens, bits).double(), torch.ones(batch, tokens, dtype=torch.bool)
    for step, count in enumerate(masking.reveal_counts(tokens, num_reveal_steps)):
        numbers = iter(uniforms[step])
        cond = model.condition(codes, labels, mask).flatten(0, 1)
        null = model.condition(codes, torch.full_like(labels, model.null_class), mask).flatten(0, 1)
        draw = lambda p, numbers=numbers: (next(numbers) < p).to(p.dtype)  # noqa: E731
        p = model.transcoder.sample(cond, null, guidance_scale=guidance_scale, draw=draw)
        confidence = (2 * p - 1).abs().mean(-1).reshape(batch, tokens).masked_fill(~mask, -torch.inf)
        revealed = torch.zeros_like(mask).scatter_(1, confidence.topk(count, dim=1).indices, True)
        codes = torch.where(revealed[..., None], draw(p).reshape(codes.shape), codes)
        mask = mask & ~revealed
    return codes


@pytest.mark.parametrize("guidance_scale", [1.5, 4.0])
def test_hidden_tokens_only_and_all_tokens_agree_when_fed_the_same_noise(monkeypatch, guidance_scale):
    model = tiny_generator().double()
    labels, steps = torch.tensor([0, 2, 3]), 4
    draws = model.config.num_denoise_steps + 1
    uniforms = torch.rand(steps, draws, 27, 5, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        expected = all_token_sampling(model, labels, steps, guidance_scale, uniforms)
    hidden = [torch.ones(27, dtype=torch.bool)]
    feed = (uniforms[step, i][hidden[0]] for step in range(steps) if masking.reveal_counts(9, steps)[step] for i in range(draws))
    monkeypatch.setattr(torch, "bernoulli", lambda p, generator=None: (next(feed) < p).to(p.dtype))

    def on_step(step) -> None:
        hidden[0] = (step.mask & ~step.revealed).flatten()

    ours = sample_codes(model, labels, num_reveal_steps=steps, guidance_scale=guidance_scale, on_step=on_step)
    assert torch.equal(ours, expected.to(ours.dtype))


def test_one_generator_serves_the_batch_as_before(monkeypatch):
    """One draw for all rows of the batch, not one an image."""
    monkeypatch.setattr(torch, "bernoulli", Draws())
    tiny_generator().generate(SEVEN, num_reveal_steps=1, num_denoise_steps=2, generator=torch.Generator().manual_seed(0))
    assert [len(p) for p in torch.bernoulli.probabilities] == [63, 63, 63]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"seeds": [1, 2]}, ValueError, "2 seeds were given for 7 images"),
        ({"seeds": SEEDS, "generator": torch.Generator()}, ValueError, "both generator and seeds"),
        ({"seeds": [*SEEDS[:6], -1]}, ValueError, "seed -1 is out of range"),
        ({"seeds": [*SEEDS[:6], 2**63]}, ValueError, "is out of range"),
        ({"seeds": [*SEEDS[:6], 0.5]}, TypeError, "seed 0.5 is a float"),
    ],
)
def test_wrong_seeds_are_named(given, error, message):
    with pytest.raises(error, match=message):
        tiny_generator().generate(SEVEN, num_reveal_steps=2, **given)


def test_seeds_may_be_numpy_integers_or_a_tensor():
    expected = [torch.rand(3, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)]
    for seeds in ([5, 6], torch.tensor([5, 6]), torch.tensor([5, 6]).numpy()):
        noise = make_noise(2, seeds=seeds)
        assert [torch.equal(torch.rand(3, generator=one), other) for one, other in zip(noise.generators, expected, strict=True)] == [
            True
        ] * 2
