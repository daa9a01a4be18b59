"""Promise: what a watcher sees of the steps is the whole drawing: every token is new once, and the last picture is the result."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import timm
import torch

import bigr_features  # noqa: F401
from bigr_features.data.pixels import to_uint8
from bigr_features.sampling.watching import view_of

SMALL = {"depth": 1, "width": 32, "num_heads": 2}
SYSTEMS = {
    "bigr_nano": ({"num_reveal_steps": 4}, {"denoiser_width": 16, "denoiser_depth": 1}),
    "bigr_nano_cat_mask": ({"num_reveal_steps": 4}, {}),
    "bigr_nano_bin_ar": ({}, {"denoiser_width": 16, "denoiser_depth": 1}),
    "llamagen_nano": ({}, {}),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_token_is_new_once_and_the_last_picture_is_the_result(name):
    settings, sizes = SYSTEMS[name]
    torch.manual_seed(0)
    model = timm.create_model(name, **SMALL, **sizes).eval()
    views = []
    images = model.generate(
        torch.tensor([1]), seeds=[0], guidance_scale=1.0, on_step=lambda step: views.append(view_of(model, step)), **settings
    )
    assert np.sort(np.concatenate([view.revealed for view in views])).tolist() == list(range(64))
    for before, after in pairwise(views):
        assert set(before.hidden) == set(after.revealed) | set(after.hidden)
    assert len(views[-1].hidden) == 0
    for view in views:
        assert view.picture.shape == (32, 32, 3)
        assert view.picture.dtype == np.uint8
        assert len(view.confidence) == len(view.revealed)
        assert ((view.confidence >= 0) & (view.confidence <= 1)).all()
    np.testing.assert_array_equal(views[-1].picture, to_uint8(images)[0].repeat(3 // images.shape[1], 2))


def test_a_step_that_reveals_nothing_of_an_image_is_no_view():
    model = timm.create_model("bigr_nano", **SMALL, denoiser_width=16, denoiser_depth=1).eval()
    steps = []
    codes, mask = torch.zeros(2, 64, 16), torch.zeros(2, 64, dtype=torch.bool)
    mask[0, :8] = mask[1, 0] = True
    model.generator.generate(torch.tensor([1, 2]), codes=codes, mask=mask, seeds=[0, 1], num_reveal_steps=8, on_step=steps.append)
    views = [[view_of(model, step, image) for step in steps] for image in (0, 1)]
    assert sum(view is not None for view in views[1]) == 1
    assert sum(len(view.revealed) for view in views[0] if view is not None) == 8


def test_what_the_sampler_does_not_know_yet_is_grey():
    model = timm.create_model("bigr_nano", **SMALL, denoiser_width=16, denoiser_depth=1).eval()
    views = []
    options = {"seeds": [0], "num_reveal_steps": 4, "order": "raster", "guidance_scale": 1.0}
    model.generate(torch.tensor([1]), on_step=lambda step: views.append(view_of(model, step)), **options)
    hidden = np.zeros(64, bool)
    hidden[views[0].hidden] = True
    cells = views[0].picture.reshape(8, 4, 8, 4, 3).transpose(0, 2, 1, 3, 4).reshape(64, -1)
    assert (cells[hidden] == 205).all()
