"""Promises of pictures of the sampling process: what they show is what happened."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bigr_features.data.pixels import to_uint8
from bigr_features.plots import pictures
from bigr_features.sampling import RevealStep, process

from ..helpers import backbone


@pytest.fixture(scope="module")
def seen():
    model, steps = backbone("tiny"), []
    model.generate(torch.tensor([0, 1]), num_reveal_steps=4, num_denoise_steps=2, seeds=[1, 2], on_step=steps.append)
    return model, steps


def test_entropy_of_a_token_is_the_mean_over_its_bits_in_bits():
    p = torch.tensor([[0.5, 0.5], [0.0, 1.0], [0.5, 1.0], [0.25, 0.25], [torch.nan, 0.5]])
    entropy = process.token_entropy(p)
    expected = [1.0, 0.0, 0.5, 0.25 * 2 + 0.75 * np.log2(4 / 3)]
    np.testing.assert_allclose(entropy[:4], expected)
    assert entropy[4].isnan()


def test_frames_show_hidden_new_and_known_tokens_and_end_in_the_image(seen):
    model, steps = seen
    frames = process.frames_of(model, steps, image=1)
    assert sum(frame.revealed for frame in frames) == 16
    assert frames[-1].hidden == 0
    for frame, step in zip(frames, steps, strict=True):
        tokens = frame.cells["tokens"].reshape(16, 3)
        assert torch.equal(torch.from_numpy((tokens == process.NEW).all(-1)), step.revealed[1])
        assert torch.equal(torch.from_numpy((tokens == process.HIDDEN).all(-1)), step.mask[1] & ~step.revealed[1])
        assert 0 <= frame.mean_entropy <= 1
        covered = (frame.cells["revealed"] == process.HIDDEN).all(-1).reshape(4, 16, 4, 16).all((1, 3)).reshape(-1)
        assert (covered >= (step.mask[1] & ~step.revealed[1]).numpy()).all()
    image = to_uint8(model.decode(steps[-1].codes).clamp(0, 1))[1]
    assert np.abs(frames[-1].cells["guess"].astype(int) - image).max() <= 1
    assert np.array_equal(frames[-1].cells["revealed"], frames[-1].cells["guess"])


def test_strip_and_animation(seen):
    frames = process.frames_of(*seen)
    assert process.reveal_strip(frames, columns=2, side=32).width < process.reveal_strip(frames, columns=3, side=32).width
    assert len(process.reveal_animation(frames, side=32)) == len(frames)
    with pytest.raises(ValueError, match="columns=0"):
        process.reveal_strip(frames, columns=0)


def test_orders_known_beforehand_have_no_guess_before_the_end():
    model, steps = backbone("tiny"), []
    model.generate(torch.tensor([0]), num_reveal_steps=3, num_denoise_steps=2, order="raster", on_step=steps.append)
    frames = process.frames_of(model, steps)
    assert [frame.cells["guess"] is None for frame in frames] == [True] * (len(frames) - 1) + [False]
    process.reveal_animation(frames, side=32)
    process.reveal_strip(frames, side=32)


def test_no_steps_is_named(seen):
    step: RevealStep = seen[1][0]
    empty = RevealStep(0, 1.0, step.mask, step.probabilities, step.confidence, torch.zeros_like(step.revealed), step.codes)
    for steps in ([], [empty]):
        with pytest.raises(ValueError, match="no step revealed a token of image 0"):
            process.frames_of(seen[0], steps)


def test_before_and_after_tints_the_mask():
    before, after = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = True
    with_mask, without = process.before_after(before, masks, after), process.before_after(before, None, after)
    assert with_mask.width > without.width
    assert (pictures.tint(np.zeros((4, 4, 1), np.uint8), masks[0].numpy())[0, 0] > 0).any()
