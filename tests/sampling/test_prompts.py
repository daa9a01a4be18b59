"""Promises of drawing from prompts: images of their own, guidance to a prompt and away from a negative one, mixtures with exact ends."""

from __future__ import annotations

import pytest
import torch

from bigr_features.sampling.captions import joined

from ..helpers import random_codes
from ..text import text_generator

SETTINGS = {"num_reveal_steps": 3, "num_denoise_steps": 4}


@pytest.mark.parametrize("head", ["bernoulli", "mlm"])
def test_an_image_of_a_prompt_is_the_same_in_any_batch(head):
    settings = SETTINGS if head == "bernoulli" else {"num_reveal_steps": 3}
    model = text_generator(model={"head": head, "adaln": head == "bernoulli"})
    together = model.generate(text=["a dark bag", "light boot", ""], seeds=[3, 4, 5], **settings)
    for i, prompt in enumerate(["a dark bag", "light boot", ""]):
        assert torch.equal(model.generate(text=[prompt], seeds=[3 + i], **settings)[0], together[i])


def test_both_branches_of_guidance_are_the_prompt_and_what_to_lead_away_from():
    model = text_generator()
    both = model.captions(["a dark bag", "light boot"]).with_null()
    codes = random_codes(model.config).repeat(2, 1, 1)
    with torch.no_grad():
        x = model.condition(codes, text=both.labels)
        torch.testing.assert_close(x[2:], model.condition(codes[:2]), rtol=0, atol=2e-6)
    seen = {}
    for negative in (None, "boot", ["boot", ""]):
        seen[str(negative)] = model.generate(
            text=["a dark bag"] * 2, negative_text=negative, seeds=[0, 1], num_reveal_steps=1, guidance_scale=6.0, num_denoise_steps=4
        )
    assert not torch.equal(seen["None"], seen["boot"])
    assert torch.equal(seen["boot"][0], seen["['boot', '']"][0])
    assert torch.equal(seen["None"][1], seen["['boot', '']"][1])


def test_guidance_changes_nothing_without_a_prompt_unless_it_leads_away_from_one():
    model = text_generator()
    plain = model.generate(batch_size=1, seeds=[0], guidance_scale=1.0, **SETTINGS)
    assert torch.equal(model.generate(text=[""], seeds=[0], guidance_scale=5.0, **SETTINGS), plain)
    away = model.generate(text=[""], negative_text="a dark bag", seeds=[0], guidance_scale=5.0, **SETTINGS)
    assert not torch.equal(away, plain)


def test_a_mixture_ends_exactly_in_its_prompts():
    model = text_generator()
    ends = model.captions(["a dark bag", "light"])
    mixed = ends.mixed(torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]))
    given, single = model.conditioned(mixed), model.conditioned(ends)
    torch.testing.assert_close(given.vector[[0, 2]], single.vector)
    torch.testing.assert_close(given.vector[1], single.vector.mean(0))
    assert torch.equal(given.visible[[0, 2]], single.visible)
    assert given.visible[1].sum() == 3
    codes = random_codes(model.config, 1).expand(3, -1, -1)
    with torch.no_grad():
        x = model.condition(codes, text=mixed)
        torch.testing.assert_close(x[[0, 2]], model.condition(codes[:2], text=ends), rtol=0, atol=2e-6)


def test_batches_of_other_lengths_and_mixtures_join():
    model = text_generator()
    ends = model.captions(["a dark bag", "light"])
    whole = joined([ends.mixed(torch.tensor([[0.25, 0.75]])), model.null_captions(1), ends])
    assert whole.mask.shape == (4, 2, 6)
    given = model.conditioned(whole)
    torch.testing.assert_close(given.vector[1:2], model.class_vector())
    torch.testing.assert_close(given.vector[2:], model.conditioned(ends).vector)
