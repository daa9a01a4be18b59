"""Promise: no model is guessed for photographs; small grey images go to the one that ships, which is said."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image

from bigr_features.cli.model_choice import OF_SAMPLES, model_for


def folder_of(tmp_path, *pictures: Image.Image):
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    return str(tmp_path)


def noise(side: int, mode: str) -> Image.Image:
    return Image.fromarray(np.random.default_rng(side).integers(256, size=(side, side, 3), dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
@pytest.mark.parametrize("side", [8, 28, 32])
def test_small_grey_images_go_to_the_model_that_ships(tmp_path, caplog, mode, side):
    with caplog.at_level(logging.WARNING):
        assert model_for(None, folder_of(tmp_path, *[noise(side, mode)] * 3)) == OF_SAMPLES
    assert f"no --model was given, and these images are small and grey: {OF_SAMPLES} reads them" in caplog.text


@pytest.mark.parametrize(
    "pictures",
    [[noise(32, "RGB")], [noise(33, "L")], [noise(28, "L"), noise(200, "L")], [noise(28, "L"), noise(28, "RGB")]],
    ids=["in colour", "larger", "some larger", "some in colour"],
)
def test_for_others_a_model_is_asked_for(tmp_path, pictures):
    with pytest.raises(ValueError, match=r"which model is to read .*--model tf_efficientnet_lite0.in1k .*--model pixels"):
        model_for(None, folder_of(tmp_path, *pictures))


def test_unreadable_images_decide_nothing(tmp_path):
    source = folder_of(tmp_path, noise(28, "L"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert model_for(None, source) == OF_SAMPLES
    (tmp_path / "0.png").unlink()
    with pytest.raises(ValueError, match="which model is to read"):
        model_for(None, source)


def test_a_name_and_a_sample_are_taken_as_they_are(tmp_path):
    assert model_for("resnet18", str(tmp_path)) == "resnet18"
    assert model_for(None, "sample:digits") == OF_SAMPLES
