"""Promises of `bigr_features.functional.checks`: what is wrong is refused, and the message names the value given and what is expected."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigr_features.functional import checks


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_images_that_fit_pass_unchanged(batch, channels, height, width):
    images = torch.zeros(batch, channels, height, width)
    assert checks.check_image_batch(images, channels, height, width) is images


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_dtype_passes(dtype):
    checks.check_image_batch(torch.zeros(1, 3, 4, 4, dtype=dtype), 3, 4, 4)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
def test_integer_images_are_refused(dtype):
    with pytest.raises(TypeError, match=rf"images have dtype {dtype}; expected floats in \[0, 1\]. Divide uint8 pixels by 255"):
        checks.check_image_batch(torch.zeros(1, 3, 4, 4, dtype=dtype), 3, 4, 4)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 4, 4), r"images have shape \[3, 4, 4\]; expected \(batch, 3, 4, 4\)"),
        ((1, 1, 3, 4, 4), r"images have shape \[1, 1, 3, 4, 4\]"),
        ((0, 3, 4, 4), "the batch of images is empty; give at least one image"),
        ((2, 1, 4, 4), "images have 1 channels; the model expects 3"),
        ((2, 3, 5, 4), "images are 5 x 4; the model expects 4 x 4"),
        ((2, 3, 4, 8), "images are 4 x 8; the model expects 4 x 4"),
    ],
)
def test_images_of_another_shape_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        checks.check_image_batch(torch.zeros(shape), 3, 4, 4)


@given(st.integers(0, 5))
def test_pixels_from_zero_to_one_pass(seed):
    pixels = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    pixels[0, 0, 0, 0], pixels[1, 2, 3, 3] = 0.0, 1.0
    checks.check_pixels(pixels)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-2.1, 2.6, r"pixels lie in \[-2.1, 2.6\]; expected \[0, 1\]. They look ImageNet-normalised"),
        (-1.0, 1.0, r"pixels lie in \[-1, 1\]; expected \[0, 1\]"),
        (0.0, 255.0, r"pixels lie in \[0, 255\]; expected \[0, 1\]. They look like 0..255; divide by 255"),
        (0.0, 1.1, r"pixels lie in \[0, 1.1\]; expected \[0, 1\].$"),
        (0.0, torch.inf, "pixels lie in .0, inf.; expected"),
    ],
)
def test_pixels_outside_zero_to_one_are_refused(low, high, message):
    pixels = torch.full((2, 3, 4, 4), 0.5)
    pixels[0, 0, 0, 0], pixels[1, 0, 0, 0] = low, high
    with pytest.raises(ValueError, match=message):
        checks.check_pixels(pixels)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (-2.1, 2.6, r"pixels lie in \[-2.1, 2.6\]; expected \[-1, 1\]. They look ImageNet-normalised"),
        (0.0, 255.0, r"expected \[-1, 1\]. They look like 0..255; divide by 255 and map to \[-1, 1\]"),
        (-1.0, 1.1, r"pixels lie in \[-1, 1.1\]; expected \[-1, 1\]"),
    ],
)
def test_pixels_outside_minus_one_to_one_are_refused_where_those_are_taken(low, high, message):
    pixels = torch.full((2, 3, 4, 4), 0.5)
    pixels[0, 0, 0, 0], pixels[1, 0, 0, 0] = low, high
    with pytest.raises(ValueError, match=message):
        checks.check_pixels(pixels, (-1.0, 1.0))


def test_pixels_that_may_lie_in_zero_to_one_are_said_where_minus_one_to_one_is_taken():
    with pytest.warns(UserWarning, match=r"no pixel of 2 images is negative, they lie in \[0, 0\.5\]"):
        checks.check_pixels(torch.linspace(0, 0.5, 24).view(2, 3, 2, 2), (-1.0, 1.0))


def test_indices_are_no_bits():
    with pytest.raises(ValueError, match=r"codes have shape \(2, 9\).*Indices \(B, N\) belong to a VQ tokenizer"):
        checks.check_codes(torch.zeros(2, 9, dtype=torch.int64), 9, 5)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 300))
def test_indices_that_name_a_code_pass(batch, tokens, size):
    checks.check_indices(torch.full((batch, tokens), size - 1), tokens, size)
    with pytest.raises(ValueError, match=rf"index {size} is out of range; this tokenizer has codes 0\.\.{size - 1}"):
        checks.check_indices(torch.full((batch, tokens), size), tokens, size)


def test_nan_pixels_name_their_images():
    pixels = torch.full((4, 3, 4, 4), 0.5)
    pixels[1, 2, 3, 3] = pixels[3, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"images \[1, 3\] of the batch hold NaN pixels"):
        checks.check_pixels(pixels)


@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9))
def test_codes_that_fit_pass(batch, tokens, bits):
    checks.check_codes(torch.zeros(batch, tokens, bits), tokens, bits)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 9, 16), "codes have 16 bits but this model was built with code_dim=24; load the model with code_dim=16"),
        ((2, 8, 24), r"codes have shape \(2, 8, 24\); expected \(batch, 9, 24\)"),
        ((9, 24), r"codes have shape \(9, 24\)"),
        ((0, 9, 24), r"codes have shape \(0, 9, 24\); expected .* a batch of 1 or more"),
    ],
)
def test_codes_of_another_shape_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        checks.check_codes(torch.zeros(shape), 9, 24)


@pytest.mark.parametrize(("value", "named"), [(0.5, "0.5"), (2, "2"), (-1, "-1"), (torch.nan, "nan"), (1 + 1e-3, "1.001")])
def test_codes_other_than_bits_are_refused(value, named):
    codes = torch.ones(2, 3, 4)
    codes[1, 2, 0] = value
    with pytest.raises(ValueError, match=f"codes hold {named}; expected bits, 0 and 1 only"):
        checks.check_bits(codes)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_bits_of_every_dtype_pass(dtype):
    checks.check_bits(torch.tensor([[[0, 1], [1, 1]]]).to(dtype))


def test_labels_up_to_the_null_class_pass():
    checks.check_labels(torch.arange(11), 10)
    checks.check_labels(None, 10)


@pytest.mark.parametrize("label", [-1, 11, 1000])
def test_labels_out_of_range_are_refused(label):
    with pytest.raises(ValueError, match=rf"label {label} is out of range; expected 0\.\.9, or 10 for the null class"):
        checks.check_labels(torch.tensor([3, label]), 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool])
def test_labels_must_be_integers(dtype):
    with pytest.raises(TypeError, match=f"labels have dtype {dtype}; expected integer"):
        checks.check_labels(torch.zeros(2, dtype=dtype), 10)


def test_timesteps_from_one_to_T_pass():
    checks.check_timesteps(torch.arange(1, 17).reshape(2, 8), (2, 8), 16)


@pytest.mark.parametrize("timestep", [0, -1, 17])
def test_timesteps_out_of_range_are_refused(timestep):
    timesteps = torch.ones(2, 8, dtype=torch.int64)
    timesteps[1, 3] = timestep
    with pytest.raises(ValueError, match=rf"timestep {timestep} is out of range; expected 1\.\.16"):
        checks.check_timesteps(timesteps, (2, 8), 16)


@pytest.mark.parametrize("timesteps", [torch.ones(16, dtype=torch.int64), torch.ones(2, 8)])
def test_timesteps_of_another_shape_or_dtype_are_refused(timesteps):
    with pytest.raises(ValueError, match=rf"timesteps have shape .*{timesteps.dtype}; expected integers \(2, 8\)"):
        checks.check_timesteps(timesteps, (2, 8), 16)
