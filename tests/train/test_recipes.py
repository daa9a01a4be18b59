"""Promises of the settings that follow a preset, and of what is held out where no number is given."""

from __future__ import annotations

import dataclasses

import pytest

from bigr_features.cli.help import own_first
from bigr_features.cli.main import _starting_point
from bigr_features.models.presets import PRESETS
from bigr_features.train.recipes import GENERATOR_RECIPES, IMAGES, TOKENIZER_RECIPES
from bigr_features.train.sampler import HELD_OUT, hold_out
from bigr_features.train.settings import TrainConfig, TrainTokenizerConfig


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("command", "settings", "recipes"),
    [("train", TrainConfig, GENERATOR_RECIPES), ("train-tokenizer", TrainTokenizerConfig, TOKENIZER_RECIPES)],
)
def test_every_size_but_nano_has_a_recipe_of_settings_that_exist(command, settings, recipes, preset):
    start = _starting_point(command, settings, ["--preset", preset])
    defaults = {field.name: field.default for field in dataclasses.fields(settings)}
    recipe = {name: value for name, value in recipes.get(preset, {}).items() if name in defaults}
    assert ("nano" in preset) == (not recipe)
    assert recipe == recipes.get(preset, {})
    assert {name: getattr(start, name) for name in recipe} == recipe
    if not recipe:
        assert (start.steps, start.learning_rate) == (defaults["steps"], defaults["learning_rate"])


def test_bigr_l_trains_as_published():
    start = _starting_point("train", TrainConfig, ["--preset=bigr_l"])
    assert (start.batch_size, start.learning_rate, start.weight_decay, start.betas) == (1024, 1e-4, 0.02, (0.9, 0.95))
    assert start.steps * start.batch_size == pytest.approx(400 * IMAGES, rel=1e-3)


@pytest.mark.parametrize(("items", "expected"), [(5, 0), (10, 1), (2_000, 200), (50_000, HELD_OUT)])
def test_a_tenth_is_held_out_where_no_number_is_given(items, expected):
    train, held_out = hold_out(items, None, 0)
    assert (len(train), len(held_out)) == (items - expected, expected)


def test_help_lists_what_is_needed_and_a_commands_own_options_first():
    names = [field.name for field in dataclasses.fields(own_first(TrainTokenizerConfig))]
    assert names[:2] == ["source", "out"]
    assert names.index("steps") < names.index("keep_last")
    assert sorted(names) == sorted({field.name for field in dataclasses.fields(TrainTokenizerConfig)})
