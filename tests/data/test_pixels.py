"""Promises of crops: memory is bounded for pictures of any shape, and ordinary pictures give the numbers they always gave."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bigr_features.data import center_crop
from bigr_features.data.item_reader import pixel_id
from bigr_features.data.pixels import THIN, without_ends


def picture(width: int, height: int) -> Image.Image:
    """Smooth colours, so that a shift by a fraction of a pixel shows as a small difference."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 100 * np.sin(x / 9.0 + phase) * np.cos(y / 7.0) for phase in (0, 1, 2)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


def whole_then_cut(image: Image.Image, size: int) -> Image.Image:
    """The crop of ADM as it is published: the whole picture is resized."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 150), st.integers(8, 150), st.integers(8, 40))
def test_ordinary_pictures_keep_their_numbers(width, height, size):
    image = picture(width, height)
    np.testing.assert_array_equal(np.asarray(center_crop(image, size)), np.asarray(whole_then_cut(image, size)))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(17, 60), st.integers(8, 40), st.booleans(), st.integers(0, 3))
def test_thin_pictures_give_what_the_whole_would_have_given(short, ratio, size, upright, odd):
    long = short * ratio + odd
    image = picture(short, long) if upright else picture(long, short)
    found, expected = (np.asarray(crop(image, size)).astype(int) for crop in (center_crop, whole_then_cut))
    assert np.abs(found - expected).max() <= 2  # of 255, by rounding between the two passes of the filter


@pytest.fixture
def areas(monkeypatch):
    """Pixels of everything that is resized."""
    found = []
    resize = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, *a, **k: found.append(size[0] * size[1]) or resize(self, size, *a, **k))
    return found


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (3, 100_000), (100_000, 2), (1, 1), (700, 20_000)])
def test_no_large_picture_is_made_of_a_thin_one(areas, shape):
    assert center_crop(Image.new("RGB", shape, "gray"), 224).size == (224, 224)
    assert max(areas) <= max(THIN * 224 * 224, shape[0] * shape[1])


@pytest.mark.parametrize("shape", [(20_000, 1), (1, 20_001), (64, 65), (1600, 100), (1601, 100), (100, 1603)])
def test_ends_are_cut_on_both_sides_alike(shape):
    image = picture(*shape)
    middle = without_ends(image)
    if max(shape) <= THIN * min(shape) + 1:
        assert middle is image
        return
    assert min(middle.size) == min(shape)
    assert THIN * min(shape) <= max(middle.size) <= THIN * min(shape) + 1
    cut = (max(shape) - max(middle.size)) / 2
    assert cut == int(cut)
    array, ends = np.asarray(image), slice(int(cut), max(shape) - int(cut))
    np.testing.assert_array_equal(np.asarray(middle), array[:, ends] if shape[0] > shape[1] else array[ends])


@pytest.mark.parametrize("height", [1, 255, 256, 257, 700])
def test_ids_of_tall_pictures_are_those_of_all_their_pixels(height):
    image = picture(5, height)
    assert pixel_id(image) == hashlib.sha256(f"5 {height} ".encode() + image.tobytes()).hexdigest()[:32]
