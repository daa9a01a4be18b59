"""Promises of the tokenizer: recorded bits and images, a gradient through hard bits, and pixels checked at the boundary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bigr_features import BinaryAutoencoder
from bigr_features.models.autoencoder import straight_through

from ..helpers import TINY_TOKENIZER, randomized, tiny_tokenizer


def images(batch: int = 2, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def as_maps(tokens: Tensor) -> Tensor:
    """(B, N, K) to (B, K, G, G), as the public code keeps them."""
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))


@pytest.mark.golden("encoder_out", "bit_*", "code_det", "z_q_det", "image_from_*", "codebook_loss")
def test_every_stage_is_the_recorded_one(golden_tokenizer, tokenizer):
    golden, image = golden_tokenizer, golden_tokenizer["image"]
    hidden = tokenizer.encoder(image)
    probability = tokenizer.bit_probabilities(image)
    codes = tokenizer.encode(image)
    golden.check("encoder_out", hidden)
    golden.check("bit_logits", as_maps(tokenizer.quantizer(hidden)))
    golden.check("bit_probs", as_maps(probability))
    golden.check("code_det", as_maps(codes))
    golden.check("z_q_det", as_maps(tokenizer.quantizer.embed(codes)))
    golden.check("image_from_det", tokenizer.decode(codes))
    golden.check("image_from_random", tokenizer.decode(golden["code_random"].flatten(2).transpose(1, 2)))
    twice = torch.sigmoid(probability)  # the public code's term takes the logistic twice
    golden.check("codebook_loss", (twice * (1 - twice)).mean().reshape(1))


def test_forward_is_the_recorded_reconstruction(golden_tokenizer, tokenizer):
    golden_tokenizer.check("image_from_det", tokenizer(golden_tokenizer["image"]))


def test_codes_are_the_thresholded_probabilities():
    model = tiny_tokenizer()
    codes, probability = model.encode(images()), model.bit_probabilities(images())
    assert codes.shape == (2, 64, 5)
    assert torch.equal(codes, (probability > 0.5).float())
    assert 0.1 < codes.mean() < 0.9


def test_straight_through_gradient():
    probability = torch.tensor([0.2, 0.7, 0.5], requires_grad=True)
    bits = straight_through((probability > 0.5).float(), probability)
    assert bits.tolist() == [0.0, 1.0, 0.0]
    (bits * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert probability.grad.tolist() == [1.0, 10.0, 100.0]


@pytest.mark.parametrize("sample", [False, True])
def test_gradient_of_codes_is_the_gradient_of_probabilities(sample):
    model, weight = tiny_tokenizer(), torch.randn(2, 64, 5, generator=torch.Generator().manual_seed(0))
    gradients = []
    for values in (model.encode(images(), sample=sample), model.bit_probabilities(images())):
        model.zero_grad()
        (values * weight).sum().backward()
        gradients.append(model.encoder.blocks[0].weight.grad.clone())
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().sum() > 0


def test_gradient_of_the_reconstruction_reaches_every_parameter():
    model = tiny_tokenizer().train()
    (model(images()) - images()).square().mean().backward()
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0} == set()


def test_sampled_codes_follow_the_generator_and_the_probabilities():
    model, image = tiny_tokenizer(), images(1)
    first, again, other = (model.encode(image, sample=True, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        mean = torch.stack([model.encode(image, sample=True, generator=source) for _ in range(400)]).mean(0)
        torch.testing.assert_close(mean, model.bit_probabilities(image), rtol=0, atol=0.12)  # nearly 5 standard errors


def test_eval_mode_is_deterministic_and_train_mode_the_same():
    model = tiny_tokenizer()
    quiet = model(images())
    torch.testing.assert_close(model(images()), quiet, rtol=0, atol=0)
    torch.testing.assert_close(model.train()(images()), quiet, rtol=0, atol=0)


@pytest.mark.parametrize("size", [8, 24, 32])
def test_another_image_size_is_another_grid_with_the_same_weights(size):
    model = tiny_tokenizer()
    model.set_image_size(size)
    codes = model.encode(images(size=size))
    assert codes.shape == (2, (size // 2) ** 2, 5)
    assert model.decode(codes).shape == (2, 3, size, size)

    built = BinaryAutoencoder(TINY_TOKENIZER.replace(image_size=size, attention_resolutions=(size // 2,)))
    built.load_state_dict(model.state_dict())
    torch.testing.assert_close(built.bit_probabilities(images(size=size)), model.bit_probabilities(images(size=size)))
    torch.testing.assert_close(built.decode(codes.detach()), model.decode(codes.detach()))


def test_tokens_run_row_by_row():
    model = tiny_tokenizer()
    codes = torch.zeros(2, 64, 5)
    codes[1, 8 * 2 + 5] = 1  # row 2, column 5
    blank, marked = model.decode(codes)
    row, column = divmod(int((marked - blank).abs().sum(0).flatten().argmax()), 16)
    assert abs(row - 4.5) < 4
    assert abs(column - 10.5) < 4


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("decoder_multiplier", [1.0, 2.0])
def test_other_shapes_of_network_round_trip(levels, norm_first, decoder_multiplier):
    config = TINY_TOKENIZER.replace(
        channel_multipliers=(1, 2, 1)[:levels],
        norm_first=norm_first,
        decoder_multiplier=decoder_multiplier,
        in_chans=2,
        attention_resolutions=(8, 4),
    )
    model = randomized(BinaryAutoencoder(config))
    pixels = torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    assert model.encode(pixels).shape == (2, config.grid_size**2, 5)
    assert model(pixels).shape == pixels.shape


def test_half_precision_gives_float32_probabilities_and_bits():
    model, half = tiny_tokenizer(), tiny_tokenizer().bfloat16()
    probability = half.bit_probabilities(images().bfloat16())
    assert probability.dtype == torch.float32
    torch.testing.assert_close(probability, model.bit_probabilities(images()), rtol=0, atol=0.1)
    assert half.decode(half.encode(images().bfloat16())).dtype == torch.bfloat16


def test_without_its_decoder_the_tokenizer_still_encodes():
    model = tiny_tokenizer()
    codes = model.encode(images())
    model.drop_decoder()
    torch.testing.assert_close(model.encode(images()), codes, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match=r"decoding needs the decoder.*generative=True"):
        model.decode(codes)


def test_image_size_of_partial_tokens_is_refused():
    with pytest.raises(ValueError, match="image size 17 is not a multiple of 2"):
        tiny_tokenizer().set_image_size(17)


@pytest.mark.parametrize("call", ["encode", "bit_probabilities"])
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), TypeError, "dtype torch.uint8.*Divide uint8 pixels by 255"),
        (torch.zeros(0, 3, 16, 16), ValueError, "the batch of images is empty"),
        (torch.zeros(3, 16, 16), ValueError, r"shape \[3, 16, 16\]; expected \(batch, 3, 16, 16\)"),
        (torch.zeros(2, 1, 16, 16), ValueError, "images have 1 channels; the model expects 3"),
        (torch.zeros(2, 3, 16, 18), ValueError, "images are 16 x 18; the model expects 16 x 16"),
    ],
)
def test_images_of_another_shape_or_dtype_are_refused(call, wrong, error, message):
    with pytest.raises(error, match=message):
        getattr(tiny_tokenizer(), call)(wrong)


def test_pixels_are_checked_where_data_enters():
    model, nan = tiny_tokenizer(), images()
    nan[1, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"expected \[0, 1\]\. They look ImageNet-normalised"):
        model.encode((images() - 0.45) / 0.225)
    with pytest.raises(ValueError, match="divide by 255"):
        model.encode(images() * 255)
    with pytest.raises(ValueError, match=r"images \[1\] of the batch hold NaN"):
        model.encode(nan)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(2, 64, 6), "codes have 6 bits but this model was built with code_dim=5"),
        (torch.zeros(2, 63, 5), r"codes have shape \(2, 63, 5\); expected \(batch, 64, 5\)"),
        (torch.zeros(0, 64, 5), r"codes have shape \(0, 64, 5\)"),
    ],
)
def test_codes_of_another_shape_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        tiny_tokenizer().decode(codes)
