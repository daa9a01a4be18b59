"""Promises of guidance, top-k, top-p and the draw: recorded filters, ties, and no class of probability 0."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigr_features.functional.filtering import draw_index, filtered, guided


@pytest.mark.golden("filter.*.kept", "filter.*.probs")
def test_filters_are_the_recorded_ones(golden_system):
    for name, run in golden_system.record.get("filters", {}).items():
        logits = golden_system["filter.logits"]
        top_k = min(run["top_k"], logits.shape[-1]) or None  # the public code cuts it down silently
        kept = filtered(logits / run["temperature"], top_k, run["top_p"])
        golden_system.check(f"filter.{name}.kept", kept > -math.inf)
        golden_system.check(f"filter.{name}.probs", kept.softmax(-1))


def test_ties_at_the_last_place_are_all_kept():
    logits = torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0])
    assert (filtered(logits, top_k=2) > -math.inf).tolist() == [True, False, True, True, True]


def test_the_class_that_crosses_top_p_is_kept():
    logits = torch.tensor([0.1, 0.5, 0.4]).log()
    assert (filtered(logits, top_p=0.6) > -math.inf).tolist() == [False, True, True]
    assert (filtered(logits, top_p=1e-9) > -math.inf).tolist() == [False, True, False]
    assert (filtered(logits, top_p=1.0) > -math.inf).all()


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1.0), st.integers(0, 99))
def test_something_is_always_kept_and_only_the_largest(classes, top_k, top_p, seed):
    logits = torch.randn(3, classes, generator=torch.Generator().manual_seed(seed))
    kept = filtered(logits, min(top_k, classes), top_p) > -math.inf
    assert (kept.sum(-1) >= 1).all()
    assert (kept.sum(-1) <= top_k).all()
    for row, mask in zip(logits, kept, strict=True):
        assert mask.all() or row[mask].min() >= row[~mask].max()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"top_k": 0}, r"top_k=0, but there are 4 classes to choose from; give 1\.\.4"),
        ({"top_k": 5}, "top_k=5, but there are 4 classes"),
        ({"top_p": 0.0}, r"top_p=0.0; expected a share in \(0, 1\]"),
        ({"top_p": 1.5}, "top_p=1.5"),
    ],
)
def test_filters_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        filtered(torch.zeros(2, 4), **given)


def test_draws_follow_the_cumulative_probability():
    probabilities = torch.tensor([0.25, 0.0, 0.5, 0.25, 0.0]).expand(4, 5)
    numbers = torch.tensor([0.0, 0.25, 0.74, 0.99999])
    assert draw_index(probabilities, numbers).tolist() == [0, 2, 2, 3]


@given(st.integers(0, 200))
def test_a_class_of_probability_0_is_never_drawn(seed):
    source = torch.Generator().manual_seed(seed)
    probabilities = filtered(torch.randn(7, 300, generator=source), top_k=5).softmax(-1)
    largest = torch.full((7,), 1 - 2**-24)
    for numbers in (torch.zeros(7), torch.rand(7, generator=source), largest):
        drawn = draw_index(probabilities, numbers)
        assert (probabilities.gather(-1, drawn[:, None]) > 0).all()


def test_draws_have_the_right_frequencies():
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4])
    numbers = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    counts = draw_index(probabilities.expand(len(numbers), 4), numbers).bincount() / len(numbers)
    torch.testing.assert_close(counts, probabilities, rtol=0, atol=0.01)  # 6 standard errors


def test_guidance_goes_from_the_unconditional_logits():
    cond, uncond = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 3.0])
    torch.testing.assert_close(guided(cond, uncond, 2.0), torch.tensor([2.0, 1.0]))
    assert guided(cond, None, 2.0) is cond
