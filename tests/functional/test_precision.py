"""Choice of precision: measured once, the faster is taken, and a slower one that was asked for is said."""

import logging

import pytest
import torch
from torch import nn

from bigr_features.functional import precision
from bigr_features.functional.precision import Precision, bf16_time_ratio, choose_precision, instruction_sets, product_shape


@pytest.mark.parametrize(("ratio", "name"), [(0.5, "bf16"), (0.949, "bf16"), (0.96, "fp32"), (1.0, "fp32"), (65.0, "fp32")])
def test_auto_takes_what_is_faster(monkeypatch, ratio, name):
    monkeypatch.setattr(precision, "bf16_time_ratio", lambda *_: ratio)
    assert choose_precision("auto", "cpu") == Precision(name, "auto", ratio)


def test_a_precision_that_is_named_is_kept_and_said_where_it_is_slower(monkeypatch, caplog):
    monkeypatch.setattr(precision, "bf16_time_ratio", lambda *_: 12.5)
    with caplog.at_level(logging.WARNING):
        assert choose_precision("bf16", "cpu").name == "bf16"
    assert "12.5 times as long" in caplog.text
    caplog.clear()
    monkeypatch.setattr(precision, "bf16_time_ratio", lambda *_: 0.4)
    with caplog.at_level(logging.WARNING):
        assert choose_precision("bf16", "cpu").as_dict() == {"precision": "bf16", "asked": "bf16", "bf16_over_fp32_time": 0.4}
    assert caplog.text == ""


def test_fp32_is_not_measured(monkeypatch):
    monkeypatch.setattr(precision, "bf16_time_ratio", lambda *_: pytest.fail("measured"))
    assert choose_precision("fp32", "cpu") == Precision("fp32", "fp32", None)


def test_the_ratio_is_measured_once():
    bf16_time_ratio.cache_clear()
    first = choose_precision("auto", "cpu").ratio
    assert first > 0
    assert choose_precision("auto", "cpu").ratio == first
    assert bf16_time_ratio.cache_info().misses == 1


def test_the_shape_is_that_of_the_largest_product():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(40, 50), nn.Linear(50, 10))
    assert product_shape(module) == (40, 50)
    assert product_shape(nn.Conv2d(3, 8, 3)) == (27, 8)
    assert product_shape(nn.Identity()) == (512, 512)
    assert product_shape(nn.Linear(6, 7, device="meta")) == (6, 7)


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"fp16.*auto, fp32, bf16"):
        choose_precision("fp16", "cpu")


def test_instruction_sets_are_known_names():
    found = instruction_sets()
    assert set(found) <= set(precision.SETS)
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert "avx2" in found
