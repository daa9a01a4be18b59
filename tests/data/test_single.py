"""Promises of pictures given by hand: each oddity is an error that says what to do; masks follow their picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bigr_features.data.single import crop_mask, open_picture, picture_pixels, read_mask, transparency


def test_a_picture_of_the_models_size_is_taken_pixel_by_pixel(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(picture_pixels(open_picture(tmp_path / "a.png"), 32, 3, "a.png"), pixels)


def test_samples_can_be_named():
    assert open_picture("sample:fashion_mnist:3", sample_size=32).size == (32, 32)
    for name in ("sample:fashion_mnist", "sample:cifar:1", "sample:digits:-1", "sample:digits:x"):
        with pytest.raises(ValueError, match="names no picture; give sample:NAME:NUMBER"):
            open_picture(name)
    with pytest.raises(ValueError, match=r"has 2000 test images; give a number of 0\.\.1999"):
        open_picture("sample:fashion_mnist:2000")


def test_an_opaque_alpha_channel_is_no_matter_and_a_transparent_one_is_named(tmp_path):
    opaque = Image.new("RGBA", (32, 32), (10, 20, 30, 255))
    assert (picture_pixels(opaque, 32, 3, "a.png") == (10, 20, 30)).all()
    assert transparency(opaque.convert("RGB")) is None
    opaque.putpixel((3, 5), (10, 20, 30, 0))
    with pytest.raises(ValueError, match=r"alpha channel with 1 transparent pixels.*--mask alpha"):
        picture_pixels(opaque, 32, 3, "a.png")
    assert (picture_pixels(opaque, 32, 3, "a.png", allow_transparency=True) == (10, 20, 30)).all()
    assert np.argwhere(transparency(opaque)).tolist() == [[5, 3]]


def test_files_that_are_no_still_picture_are_named(tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    frames = [Image.new("RGB", (40, 40), (value, 0, 0)) for value in (0, 250)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1000])
    Image.new("RGB", (20, 40)).save(tmp_path / "small.png")
    for name, error, message in (
        ("missing.png", FileNotFoundError, "there is no file"),
        (".", IsADirectoryError, "is a folder"),
        ("text.png", ValueError, "is not an image that can be read"),
        ("moving.gif", ValueError, "is an animation of 2 frames"),
        ("cut.png", ValueError, "is damaged"),
    ):
        with pytest.raises(error, match=message):
            open_picture(tmp_path / name)
    with pytest.raises(ValueError, match="20 x 40, smaller than the model's 32 x 32; enlarge it first"):
        picture_pixels(open_picture(tmp_path / "small.png"), 32, 3, "small.png")


def test_masks_are_bright_where_to_draw_and_of_the_pictures_size(tmp_path):
    gray = np.zeros((8, 6), np.uint8)
    gray[2, 3], gray[4, 4] = 128, 127
    Image.fromarray(gray).save(tmp_path / "mask.png")
    assert np.argwhere(read_mask(tmp_path / "mask.png", Image.new("RGB", (6, 8)), "a.png")).tolist() == [[2, 3]]
    with pytest.raises(ValueError, match=r"mask\.png is 6 x 8 but a.png is 8 x 6"):
        read_mask(tmp_path / "mask.png", Image.new("RGB", (8, 6)), "a.png")
    Image.new("RGBA", (6, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    with pytest.raises(ValueError, match="transparent pixels; give black"):
        read_mask(tmp_path / "clear.png", Image.new("RGB", (6, 8)), "a.png")


@pytest.mark.parametrize(("width", "height"), [(32, 32), (64, 64), (50, 70), (200, 64), (33, 47)])
def test_a_mask_is_cropped_as_its_picture_is(width, height):
    """A white square on a black picture: what is at least half white after cropping is masked, what is black two pixels around is not."""
    picture = np.zeros((height, width), np.uint8)
    middle = np.s_[height // 2 - 9 : height // 2 + 8, width // 2 - 8 : width // 2 + 9]
    picture[middle] = 255
    cropped = picture_pixels(Image.fromarray(picture).convert("RGB"), 32, 3, "a.png")[..., 0]
    mask = crop_mask(picture > 0, 32)
    assert mask[cropped > 127].all()
    padded = np.pad(cropped, 2)
    near = np.max([padded[i : i + 32, j : j + 32] for i in range(5) for j in range(5)], axis=0)
    assert not mask[near < 8].any()
    assert not crop_mask(np.zeros((height, width), bool), 32).any()
    assert crop_mask(np.ones((height, width), bool), 32).all()


def test_one_masked_pixel_of_a_large_picture_masks_one_pixel_of_the_small_one():
    mask = np.zeros((128, 128), bool)
    mask[77, 14] = True
    assert np.argwhere(crop_mask(mask, 32)).tolist() == [[19, 3]]
