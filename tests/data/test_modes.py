"""Promises of picture modes: one look for one picture, however it is stored, and no depth guessed from the values."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, TiffImagePlugin

from bigr_features.data import open_images
from bigr_features.data.modes import upright
from bigr_features.data.single import open_picture, read_mask

GRAY = (np.add.outer(np.arange(32), 2 * np.arange(32)) * 2).astype(np.uint8)  # 0..186, so that stretching would show


def stored(image: Image.Image, kind: str, **options) -> Image.Image:
    """A picture after it went through a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


def pgm(maximum: int, plain: bool = False) -> bytes:
    values = np.round(GRAY / 255 * maximum).astype(int)
    if plain:
        return f"P2\n32 32\n{maximum}\n{' '.join(map(str, values.ravel()))}\n".encode()
    return f"P5\n32 32\n{maximum}\n".encode() + values.astype(">u2" if maximum > 255 else "u1").tobytes()


# -------------------------------------------------------------------------------------------------------------------- bit depths


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("maximum", [100, 255, 300, 1023, 4095, 40_000, 65_535])
def test_a_graymap_of_any_maximum_looks_the_same(tmp_path, maximum, plain):
    (tmp_path / "a.pgm").write_bytes(pgm(maximum, plain))
    pixels = open_images(tmp_path, size=32).read(np.array([0]))[0][0]
    assert np.abs(pixels.astype(int) - GRAY[..., None]).max() <= 2


@pytest.mark.parametrize("order", ["<u2", ">u2"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_look_like_eight(kind, order):
    deep = Image.fromarray((GRAY.astype(np.uint16) * 257).astype(order))
    try:
        image = stored(deep, kind)
    except (OSError, KeyError):
        pytest.skip(f"this Pillow writes no {deep.mode} as {kind}")
    assert image.mode.startswith("I")
    np.testing.assert_array_equal(np.asarray(upright(image, in_chans=1)), GRAY)


def test_dark_pictures_of_sixteen_bits_stay_dark():
    """Scaling is by the range of the format, not by the values of the picture."""
    dark = Image.fromarray((GRAY.astype(np.uint16) * 257) // 16)
    assert np.asarray(upright(stored(dark, "PNG"))).max() == GRAY.max() // 16


def test_a_tiff_where_zero_is_white_is_turned_over():
    info = TiffImagePlugin.ImageFileDirectory_v2()
    image = stored(Image.fromarray(GRAY.astype(np.uint16) * 257), "TIFF", tiffinfo=info)
    image.load()
    image.tag_v2[262] = 0
    np.testing.assert_array_equal(np.asarray(upright(image, in_chans=1)), 255 - GRAY)


def test_floats_between_zero_and_one_are_gray():
    image = stored(Image.fromarray((GRAY / 255).astype(np.float32)), "TIFF")
    assert image.mode == "F"
    np.testing.assert_array_equal(np.asarray(upright(image, in_chans=1)), GRAY)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (GRAY.astype(np.int32) * 257, "32 bits or with a sign"),
        (GRAY.astype(np.int32), "32 bits or with a sign"),
        (GRAY.astype(np.float32), r"floats between 0 and 186"),
        (GRAY.astype(np.float32) - 1, r"floats between -1 and 185"),
        (np.where(GRAY > 9, np.nan, 0).astype(np.float32), "floats between nan"),
    ],
    ids=["wide", "wide and low", "to 186", "negative", "nan"],
)
def test_gray_values_of_unknown_range_are_skipped_with_the_reason(tmp_path, values, reason):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=f"none of the 1 images .* can be read.*{reason}.*save it with 8 or 16 bits"):
        open_images(tmp_path, size=32)
    with pytest.raises(ValueError, match=f"a.tif cannot be taken: .*{reason}"):
        open_picture(tmp_path / "a.tif")
    Image.fromarray(GRAY).save(tmp_path / "b.png")
    assert len(open_images(tmp_path, size=32)) == 1


def test_pictures_and_masks_given_by_hand_have_their_depth(tmp_path):
    (tmp_path / "a.pgm").write_bytes(pgm(65_535))
    picture = open_picture(tmp_path / "a.pgm")
    np.testing.assert_array_equal(np.asarray(picture), GRAY)
    assert np.array_equal(read_mask(tmp_path / "a.pgm", picture, "a.pgm"), GRAY >= 128)


# ------------------------------------------------------------------------------------------------------------------ transparency


def see_through(alpha: np.ndarray, mode: str) -> Image.Image:
    """A picture whose colours are black and whose shape is in its alpha channel."""
    image = Image.new("RGBA", alpha.shape[::-1], (0, 0, 0, 0))
    image.putalpha(Image.fromarray(alpha))
    return image.convert(mode)


ALPHA = np.zeros((16, 16), np.uint8)
ALPHA[4:12, 4:12] = 255
ALPHA[0, :] = 128


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "PA"])
def test_transparent_pictures_lie_on_white(mode, in_chans):
    found = np.asarray(upright(see_through(ALPHA, mode), in_chans)).reshape(16, 16, in_chans).astype(int)
    assert np.abs(found - (255 - ALPHA.astype(int))[..., None]).max() <= 1


def test_premultiplied_gray_lies_on_white():
    image = Image.new("La", (4, 4), (0, 0))
    assert np.asarray(upright(image)).min() == 255


@pytest.mark.parametrize(
    ("mode", "colour", "clear", "ink", "expected"),
    [
        ("L", 0, 0, 90, 90), ("RGB", (0, 0, 0), (0, 0, 0), (90, 90, 90), 90), ("1", 0, 0, 1, 255), ("P", 0, 0, 1, None),
        ("I;16", 0, 0, 90 * 257, 90),
    ],
    ids=lambda value: str(value),
)  # fmt: skip
def test_a_transparent_colour_is_white(mode, colour, clear, ink, expected):
    image = Image.new(mode, (4, 4), colour)
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((1, 2), ink)
    found = np.asarray(upright(stored(image, "PNG", transparency=clear)))
    assert found[0, 0].tolist() == [255] * 3
    assert found[2, 1].tolist() == ([10, 20, 30] if expected is None else [expected] * 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "GIF", "ICO"])
def test_every_format_with_transparency(kind):
    shape = see_through(np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((16, 16), np.uint8)), "RGBA")
    found = np.asarray(upright(stored(shape, kind, **({"lossless": True} if kind == "WEBP" else {}))))
    assert found[2, 2].tolist() == found[-3, -3].tolist() == [255] * 3
    assert found[2, -3].tolist() == found[-3, 2].tolist() == [0] * 3


def test_an_opaque_alpha_channel_changes_nothing():
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(colours)
    image.putalpha(255)
    np.testing.assert_array_equal(np.asarray(upright(image)), colours)


def test_different_shapes_on_a_transparent_ground_are_different_pictures(tmp_path):
    for i in range(3):
        see_through(np.roll(ALPHA, 3 * i, axis=1), "RGBA").save(tmp_path / f"{i}.png")
    pixels = open_images(tmp_path, size=16).read(np.arange(3))[0]
    assert len({image.tobytes() for image in pixels}) == 3


# ---------------------------------------------------------------------------------------------------------------------- rotation


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_turning_keeps_depth_and_transparency(mode):
    values = np.zeros((4, 6), np.uint8)
    values[0] = 200
    image = Image.fromarray(values.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(values).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    found = np.asarray(upright(stored(image, "PNG", exif=exif), in_chans=1))
    assert found.shape == (6, 4)
    assert (found[:, -1] == 200).all()
    assert (found[:, :-1] == 0).all()


def test_the_picture_given_is_left_as_it_is():
    image = see_through(ALPHA, "RGBA")
    image.getexif()[ExifTags.Base.Orientation] = 6
    before = image.tobytes()
    upright(image)
    assert image.tobytes() == before
    assert image.getexif()[ExifTags.Base.Orientation] == 6
