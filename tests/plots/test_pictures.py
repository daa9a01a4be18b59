"""Promises of pictures: pixels as given, settings that come back, sheets with every cell in its place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bigr_features.data.pixels import as_output, to_pil, to_uint8
from bigr_features.plots import pictures


def test_pixels_are_rounded_clamped_and_put_last():
    images = torch.tensor([-0.5, 0.0, 0.5, 0.999, 1.0, 1.5]).reshape(1, 1, 2, 3)
    assert to_uint8(images).reshape(-1).tolist() == [0, 0, 128, 255, 255, 255]
    colors = torch.rand(2, 3, 4, 5)
    assert to_uint8(colors).shape == (2, 4, 5, 3)
    assert [one.mode for one in to_pil(colors)] == ["RGB", "RGB"]
    assert to_pil(images)[0].mode == "L"


def test_settings_come_back_from_a_png(tmp_path):
    settings = {"seed": 7, "labels": [1, 2], "order": "entropy", "name": "ä", "interval": None}
    pictures.save_png(tmp_path / "deep" / "a.png", Image.new("RGB", (3, 2), (1, 2, 3)), settings)
    assert pictures.read_settings(tmp_path / "deep" / "a.png") == settings
    with Image.open(tmp_path / "deep" / "a.png") as image:
        assert image.getpixel((2, 1)) == (1, 2, 3)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]
    Image.new("L", (2, 2)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="holds no settings"):
        pictures.read_settings(tmp_path / "b.png")


def test_a_sheet_holds_every_cell_enlarged_in_its_place():
    red, green = np.full((2, 2, 3), (255, 0, 0), np.uint8), np.full((2, 2, 1), 99, np.uint8)
    sheet = np.asarray(pictures.sheet([[red, None], [green, red]], side=10, gap=4))
    assert sheet.shape == (32, 32, 3)
    assert (sheet[4:14, 4:14] == (255, 0, 0)).all()
    assert (sheet[4:14, 18:28] == 255).all()
    assert (sheet[18:28, 4:14] == 99).all()
    assert (sheet[18:28, 18:28] == (255, 0, 0)).all()


def test_captions_make_room_and_must_fit():
    cell = np.zeros((8, 8, 3), np.uint8)
    plain, captioned = (
        pictures.sheet([[cell, cell]], side=64, **given) for given in ({}, {"columns": ["a", "b\nc"], "labels": ["row"], "title": "t"})
    )
    assert captioned.width > plain.width
    assert captioned.height > plain.height
    for given in ({"columns": ["a"]}, {"labels": ["a", "b"]}):
        with pytest.raises(ValueError, match="captions were given"):
            pictures.sheet([[cell, cell]], **given)
    with pytest.raises(ValueError, match="at least one picture"):
        pictures.sheet([[None]])


def test_cells_carry_frames_and_captions_below_and_keep_their_shape():
    wide = Image.new("RGB", (40, 20), (255, 0, 0))
    cells = [pictures.Cell(wide, ("one", "a caption that is far too long for its cell"), (0, 0, 255)), pictures.Cell(None, ("gone",))]
    plain, sheet = (np.asarray(pictures.sheet([row], side=20, gap=4, shrink=True)) for row in ([wide, wide], cells))
    assert sheet.shape[0] > plain.shape[0]
    assert sheet.shape[1] == plain.shape[1] == 4 + 2 * 24
    picture, missing = sheet[4:24, 4:24], sheet[4:24, 28:48]
    assert (picture[0] == (0, 0, 255)).all()
    assert (picture[:, 0] == (0, 0, 255)).all()
    assert (picture[6:14, 3:-3] == (255, 0, 0)).all()  # half as high as wide, in the middle
    assert (picture[3, 5] == pictures.FAINT).all()
    assert (missing == pictures.FAINT).all()
    assert (sheet[26:, 4:24] < 200).any()
    assert (sheet[26:, 24:28] == 255).all()  # captions stay below their own picture


def test_a_line_divides_columns_and_a_note_stands_above():
    cell = np.zeros((8, 8, 3), np.uint8)
    plain, divided = (pictures.sheet([[cell, cell]], side=16, gap=8, divide_after=after) for after in (None, 1))
    assert divided.width == plain.width + 16
    between = np.asarray(divided)[8:24, 8 + 16 : 8 + 16 + 24]
    assert (between == 150).all(2).any(1).all()
    assert pictures.sheet([[cell]], note="what was searched").height > pictures.sheet([[cell]]).height


def test_a_gif_has_a_frame_for_each_picture_and_lingers_on_the_last(tmp_path):
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (0, 100, 200)]
    pictures.save_gif(tmp_path / "a.gif", frames, milliseconds=100, last=500)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames == 3
        durations = []
        for i in range(3):
            gif.seek(i)
            durations.append(gif.info["duration"])
    assert durations == [100, 100, 500]


def test_heat_runs_from_dark_to_bright_and_marks_what_is_missing():
    colors = pictures.heat(np.array([[0.0, 1.0, np.nan, 7.0]]), missing=(1, 2, 3))
    assert colors.dtype == np.uint8
    assert colors[0, 0].sum() < colors[0, 1].sum()
    assert colors[0, 2].tolist() == [1, 2, 3]
    assert (colors[0, 1] == colors[0, 3]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: to_uint8(np.zeros((2, 4, 3, 3))), r"shape \(2, 4, 3, 3\)"),
        (lambda path: to_uint8(torch.full((1, 1, 2, 2), torch.nan)), "NaN"),
        (lambda path: as_output(None, "jpeg"), "output='jpeg'"),
        (lambda path: pictures.save_png(path / "a.jpg", None), "does not end in .png"),
        (lambda path: pictures.save_gif(path / "a.png", []), "does not end in .gif"),
        (lambda path: pictures.save_gif(path / "a.gif", []), "at least one frame"),
    ],
)
def test_wrong_input_is_named(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not list(tmp_path.iterdir())
