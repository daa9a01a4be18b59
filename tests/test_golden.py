"""Promise: no recorded tensor is forgotten."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import tests

from .helpers import INPUTS, SETS, GoldenSet


def compared_patterns() -> set[str]:
    """What the `golden` marks of all tests name."""
    patterns = set()
    for module in pkgutil.walk_packages(tests.__path__, "tests."):
        if not module.name.rpartition(".")[2].startswith("test_"):
            continue
        for member in vars(importlib.import_module(module.name)).values():
            marks = getattr(member, "pytestmark", [])
            patterns.update(pattern for mark in marks if mark.name == "golden" for pattern in mark.args)
    return patterns


@pytest.mark.parametrize("name", SETS)
def test_every_recorded_tensor_is_an_input_or_compared_by_a_test(name):
    golden = GoldenSet(name)
    inputs, compared = golden.matching(INPUTS), golden.matching(compared_patterns())
    assert set(golden.tensors) - inputs - compared == set()


@pytest.mark.parametrize("name", SETS)
def test_the_noise_file_has_a_tolerance_for_every_computed_tensor(name):
    golden = GoldenSet(name)
    computed = set(golden.tensors) - golden.matching([*INPUTS, "schedule.*", "sample.timesteps_*"])
    assert {key for key in computed if golden[key].is_floating_point()} - set(golden.noise) == set()  # integers are met exactly
