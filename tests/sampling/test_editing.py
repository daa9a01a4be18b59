"""Promises of editing: known tokens and pixels outside the mask stay to the last bit, hidden tokens are drawn once, errors by name."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bigr_features.sampling import RevealStep, edit, enrich, inpaint, interpolate, outpaint, regions
from bigr_features.sampling.interpolation import normalized_weights, path_weights

from ..helpers import backbone, pixels

FAST = {"num_denoise_steps": 2}
NULL = 7  # of the tiny backbone: 64 x 64 images, 4 x 4 tokens of 16 x 16 pixels, 7 classes


@pytest.fixture(scope="module")
def model():
    return backbone("tiny")


def ragged_masks(batch: int, seed: int = 0) -> torch.Tensor:
    """Irregular pixel masks (batch, 64, 64), each of another size, never over all tokens."""
    random = torch.Generator().manual_seed(seed)
    masks = torch.zeros(batch, 64, 64, dtype=torch.bool)
    for i in range(batch):
        rows, columns = torch.randint(0, 48, (2, 3 * (i + 1)), generator=random)
        masks[i, rows, columns] = True
    return masks


def hidden_by(masks: torch.Tensor) -> torch.Tensor:
    """The rule in words: a token is hidden if any of its 16 x 16 pixels is masked."""
    return torch.stack([mask.reshape(4, 16, 4, 16).permute(0, 2, 1, 3).flatten(2).any(-1).flatten() for mask in masks])


def check_edited(model, edited, images, masks, steps: list[RevealStep], composited: bool = True):
    hidden = hidden_by(masks)
    assert torch.equal(edited.token_mask, hidden)
    assert torch.equal(edited.known_codes, model.encode(images))
    assert torch.equal(edited.codes[~hidden], edited.known_codes[~hidden])
    assert torch.equal(torch.stack([step.revealed for step in steps]).sum(0), hidden.long())
    outside = ~masks[:, None].expand_as(images)
    assert torch.equal(edited.images[outside], images[outside]) == composited
    torch.testing.assert_close(edited.images[~outside], edited.decoded[~outside], rtol=0, atol=0)


@pytest.mark.parametrize("order", ["entropy", "halton"])
@pytest.mark.parametrize("num_reveal_steps", [None, 1, 3])
def test_inpainting_a_batch_with_different_masks(model, order, num_reveal_steps):
    images, masks, steps = pixels(model, 4), ragged_masks(4), []
    edited = inpaint(
        model, images, masks, torch.tensor([0, 1, 2, NULL]), order=order, num_reveal_steps=num_reveal_steps, on_step=steps.append, **FAST
    )
    check_edited(model, edited, images, masks, steps)


def test_one_mask_holds_for_every_image_of_the_batch(model):
    images, mask = pixels(model, 3), regions.center_mask(64)
    once, three = (inpaint(model, images, given, 2, seeds=[1, 2, 3], **FAST) for given in (mask, mask.expand(3, 1, 64, 64)))
    assert torch.equal(once.images, three.images)
    assert once.token_mask.sum(1).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    "mask", [np.pad(np.ones((9, 9)), (0, 55)), torch.zeros(64, 64, dtype=torch.uint8).index_fill_(0, torch.tensor(5), 1)]
)
def test_masks_may_be_arrays_of_zeros_and_ones(model, mask):
    images, steps = pixels(model), []
    edited = inpaint(model, images, mask, None, on_step=steps.append, **FAST)
    check_edited(model, edited, images, (torch.as_tensor(mask) == 1).expand(2, 64, 64), steps)


def test_without_composition_the_result_is_the_decoders_picture(model):
    images, masks, steps = pixels(model), ragged_masks(2), []
    edited = inpaint(model, images, masks, 1, composite=False, on_step=steps.append, **FAST)
    check_edited(model, edited, images, masks, steps, composited=False)
    torch.testing.assert_close(edited.images, model.decode(edited.codes).clamp(0, 1), rtol=0, atol=1e-6)


def test_concealed_pixels_reach_no_known_token(model):
    masks = regions.center_mask(64).expand(2, 64, 64)
    images = pixels(model)
    others = torch.where(masks[:, None], pixels(model, seed=1), images)
    hidden = [inpaint(model, given, masks, 1, conceal=True, seeds=[1, 2], **FAST) for given in (images, others)]
    assert torch.equal(hidden[0].known_codes, hidden[1].known_codes)
    assert torch.equal(hidden[0].images, hidden[1].images)
    seen = [inpaint(model, given, masks, 1, seeds=[1, 2], **FAST).known_codes for given in (images, others)]
    assert not torch.equal(*seen)


def test_the_same_seed_gives_the_same_edit_alone_and_in_a_batch_of_seven(model):
    images, masks, labels, seeds = pixels(model, 7), ragged_masks(7), torch.arange(7) % 5, list(range(7))
    batch = inpaint(model, images, masks, labels, seeds=seeds, **FAST)
    for i in (0, 3, 6):
        one = slice(i, i + 1)
        alone = inpaint(model, images[one], masks[one], labels[one], seeds=seeds[one], **FAST)
        assert torch.equal(alone.known_codes, batch.known_codes[one])
        assert torch.equal(alone.images, batch.images[one])
    enriched = enrich(model, images, labels, seeds=seeds, **FAST)
    assert torch.equal(enrich(model, images[2:3], labels[2:3], seeds=[2], **FAST).images, enriched.images[2:3])


def test_editing_is_inpainting_as_a_class(model):
    images, masks = pixels(model), ragged_masks(2)
    edited, inpainted = (function(model, images, masks, 3, seeds=[1, 2], **FAST) for function in (edit, inpaint))
    assert torch.equal(edited.images, inpainted.images)
    other = edit(model, images, masks, torch.tensor([4, 3]), seeds=[1, 2], **FAST)
    assert torch.equal(other.images[1], edited.images[1])
    assert not torch.equal(other.codes[0], edited.codes[0])


@pytest.mark.parametrize(("height", "width", "offset"), [(32, 32, None), (40, 64, None), (33, 47, (3, 10)), (64, 16, (0, 48))])
def test_outpainting_keeps_the_picture_and_draws_every_token_it_does_not_cover(model, height, width, offset):
    part, steps = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)), []
    edited = outpaint(model, part, 1, offset=offset, on_step=steps.append, **FAST)
    top, left = offset or ((64 - height) // 2, (64 - width) // 2)
    known = torch.zeros(2, 64, 64, dtype=torch.bool)
    known[:, top : top + height, left : left + width] = True
    canvas = F.pad(part, (left, 64 - left - width, top, 64 - top - height), mode="replicate")
    check_edited(model, edited, canvas, ~known, steps)
    assert torch.equal(edited.images[:, :, top : top + height, left : left + width], part)


@pytest.mark.parametrize(("num_passes", "size"), [(2, 64), (4, 16), (5, 64), (16, 1)])
def test_enriching_draws_every_token_once_and_keeps_the_others_in_each_pass(model, num_passes, size):
    passes, steps = [], []
    low = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    edited = enrich(model, low, 2, num_passes=num_passes, on_pass=lambda *seen: passes.append(seen), on_step=steps.append, **FAST)
    assert [index for index, _, _ in passes] == list(range(num_passes))
    assert (torch.stack([mask for _, mask, _ in passes]).sum(0) == 1).all()
    sizes = torch.stack([mask.sum(1) for _, mask, _ in passes])
    assert int(sizes.max() - sizes.min()) <= 1
    assert (torch.stack([step.revealed for step in steps]).sum(0) == 1).all()
    before = edited.known_codes
    for _, mask, codes in passes:
        assert torch.equal(codes[~mask], before[~mask])
        before = codes
    assert torch.equal(edited.codes, before)
    assert (edited.images.shape, edited.images.min() >= 0, edited.images.max() <= 1) == ((3, 3, 64, 64), True, True)


def test_weights_of_a_path_lead_from_class_to_class():
    assert path_weights(3, 5).tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]
    torch.testing.assert_close(path_weights(4, 11).sum(1), torch.ones(11))


def test_interpolation_ends_in_its_classes_and_all_images_share_their_noise(model):
    between = interpolate(model, [1, 4], num_images=3, num_reveal_steps=2, **FAST)
    ends = model.generate(torch.tensor([1, 4]), seeds=[0, 0], num_reveal_steps=2, **FAST)
    torch.testing.assert_close(between[[0, 2]], ends, rtol=0, atol=1e-4)
    three = interpolate(model, [1, 4, 6], [[0.2, 0.3, 0.5]], num_reveal_steps=2, **FAST)
    assert three.shape == (1, 3, 64, 64)


def test_weights_that_do_not_sum_to_one_are_divided_by_their_sum_and_it_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        weights = normalized_weights([[1, 3], [0.5, 0.5]], 2)
    assert weights.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert "weights of 1 of 2 images do not sum to 1 (the first to 4); divided by their sum" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        normalized_weights([0.1, 0.2, 0.7], 3)
    assert not caplog.records


def test_blending_fits_brightness_and_leaves_the_outside_alone():
    pytest.importorskip("cv2")
    ramp = torch.linspace(0.2, 0.6, 32).expand(2, 3, 32, 32)
    for mask in (regions.center_mask(32), regions.box_mask(32, 0, 0, 10, 13), regions.side_mask(32, "left")):
        masks = mask.expand(2, 32, 32)
        blended = regions.blend_seams(ramp, ramp + 0.2, masks)
        outside = ~masks[:, None].expand_as(ramp)
        assert torch.equal(blended[outside], ramp[outside])
        assert float((blended - ramp).abs().mean()) < 0.6 * float((regions.composite(ramp, ramp + 0.2, masks) - ramp).abs().mean())
    center = regions.center_mask(32).expand(2, 32, 32)
    assert float((regions.blend_seams(ramp, ramp + 0.2, center) - ramp).abs().max()) < 0.02
    gray = regions.blend_seams(ramp[:, :1], ramp[:, :1] + 0.2, center)
    assert gray.shape == (2, 1, 32, 32)


def test_masks_by_name():
    assert regions.center_mask(32).nonzero().aminmax().min.item() == 8
    assert regions.center_mask(32).sum() == 16 * 16
    assert regions.side_mask(32, "right")[:, 16:].all()
    assert regions.side_mask(32, "top").sum() == 16 * 32
    for call in (
        lambda: regions.box_mask(32, 30, 0, 4, 4),
        lambda: regions.box_mask(32, 0, 0, 0, 4),
        lambda: regions.box_mask(32, -1, 0, 4, 4),
    ):
        with pytest.raises(ValueError, match="does not lie in an image of 32 x 32"):
            call()
    with pytest.raises(ValueError, match="side='middle'"):
        regions.side_mask(32, "middle")
    with pytest.raises(ValueError, match="fraction=1"):
        regions.center_mask(32, 1)


MASK = regions.center_mask(64)
FULL = torch.zeros(64, 64).index_fill_(0, torch.arange(0, 64, 16), 1)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: inpaint(m, pixels(m), torch.ones(28, 28)), ValueError, "mask is 28 x 28 but the images are 64 x 64"),
        (lambda m: inpaint(m, pixels(m), torch.ones(3, 64, 64)), ValueError, r"mask has shape \(3, 64, 64\); expected \(64, 64\)"),
        (lambda m: inpaint(m, pixels(m), MASK & False), ValueError, "mask of image 0 is empty"),
        (lambda m: inpaint(m, pixels(m), torch.stack([MASK, MASK & False])), ValueError, "mask of image 1 is empty"),
        (lambda m: inpaint(m, pixels(m), MASK | True), ValueError, "touches every one of its 4 x 4 tokens, so no token is known"),
        (lambda m: inpaint(m, pixels(m), FULL), ValueError, "touches every one"),
        (lambda m: inpaint(m, pixels(m), MASK * 0.5), ValueError, "mask holds 0.5; expected True and False"),
        (lambda m: inpaint(m, pixels(m), MASK, 8), ValueError, "label 8 is out of range"),
        (lambda m: inpaint(m, pixels(m), MASK, -1), ValueError, "label -1 is out of range"),
        (lambda m: inpaint(m, pixels(m), MASK, torch.tensor([1, 2, 3])), ValueError, r"labels have shape \(3,\); expected one label"),
        (lambda m: inpaint(m, pixels(m), MASK, 1.5), TypeError, "labels have dtype torch.float32"),
        (lambda m: inpaint(m, pixels(m), MASK, num_reveal_steps=5), ValueError, r"num_reveal_steps=5, but at most 4 tokens .* give 1..4"),
        (lambda m: inpaint(m, pixels(m), MASK, num_reveal_steps=0), ValueError, "num_reveal_steps=0"),
        (lambda m: inpaint(m, pixels(m), MASK, guidance_scale=0.5), ValueError, "guidance_scale=0.5"),
        (lambda m: inpaint(m, pixels(m), MASK, num_denoise_steps=17), ValueError, r"it must lie in 1\.\.16"),
        (lambda m: inpaint(m, pixels(m), MASK, seeds=[1]), ValueError, "1 seeds were given for 2 images"),
        (lambda m: inpaint(m, pixels(m), MASK, blend=True, composite=False), ValueError, "blend=True"),
        (lambda m: inpaint(m, pixels(m)[:, :, :32, :32], MASK), ValueError, "images are 32 x 32; the model expects 64 x 64"),
        (lambda m: inpaint(m, pixels(m) * 255, MASK), ValueError, r"pixels lie in \[.*divide by 255"),
        (lambda m: inpaint(m, (pixels(m) * 255).to(torch.uint8), MASK), TypeError, "dtype torch.uint8"),
        (lambda m: edit(m, pixels(m), MASK, None), ValueError, r"no label was given, but edit needs a class of 0\.\.6; use inpaint"),
        (lambda m: edit(m, pixels(m), MASK, NULL), ValueError, "label 7, the null class, was given"),
        (lambda m: edit(m, pixels(m), MASK, torch.tensor([1, NULL])), ValueError, "the null class"),
        (lambda m: outpaint(m, pixels(m)), ValueError, "outpainting to 64 x 64 needs smaller ones"),
        (lambda m: outpaint(m, pixels(m)[:, :, :20, :20], offset=(50, 0)), ValueError, "does not lie in an image of 64 x 64"),
        (lambda m: outpaint(m, pixels(m)[:, :, :20, :20]), ValueError, "touches every one of its 4 x 4 tokens"),
        (lambda m: enrich(m, torch.rand(1, 3, 65, 65)), ValueError, "65 x 65, larger than the model's 64 x 64"),
        (lambda m: enrich(m, pixels(m), num_passes=1), ValueError, r"num_passes=1; give 2\.\.16"),
        (lambda m: enrich(m, pixels(m), num_passes=17), ValueError, "num_passes=17"),
        (lambda m: enrich(m, pixels(m), num_passes=8, num_reveal_steps=3), ValueError, "num_reveal_steps=3, but at most 2 tokens"),
        (lambda m: interpolate(m, [1]), ValueError, "1 classes were given; interpolation needs 2"),
        (lambda m: interpolate(m, [1, NULL]), ValueError, "label 7, the null class, was given, but interpolate"),
        (lambda m: interpolate(m, [1, 9]), ValueError, "label 9 is out of range"),
        (lambda m: interpolate(m, [1, 2], num_images=1), ValueError, "num_images=1"),
        (lambda m: interpolate(m, [1, 2], [[0.5, 0.2, 0.3]]), ValueError, r"weights have shape \(1, 3\); expected \(images, 2\)"),
        (lambda m: interpolate(m, [1, 2], [[1.5, -0.5]]), ValueError, "weights hold -0.5"),
        (lambda m: interpolate(m, [1, 2], [[0.0, 0.0]]), ValueError, "weights of an image are all 0"),
    ],
)
def test_wrong_input_is_named(model, call, error, message):
    with pytest.raises(error, match=message):
        call(model)


@pytest.mark.parametrize(("output", "kind"), [("uint8", np.ndarray), ("pil", list), ("tensor", torch.Tensor)])
def test_generated_images_come_in_three_forms_and_are_decoded_in_pieces(model, monkeypatch, output, kind):
    sizes, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda codes: sizes.append(len(codes)) or decode(codes))
    images = model.generate(torch.tensor([0, 1, 2, 3, 4]), output=output, decode_batch=2, num_reveal_steps=1, **FAST)
    assert (len(images), sizes) == (5, [2, 2, 1])
    assert isinstance(images, kind)
    with pytest.raises(ValueError, match="output='jpeg'; choose one of tensor, uint8, pil"):
        model.generate(torch.tensor([0]), output="jpeg")
