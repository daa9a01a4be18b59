"""Promises of `ConstantTable`: on the module's device, never saved, never below float32."""

from __future__ import annotations

import pytest
import torch

from bigr_features.models.constants import ConstantTable

from ..helpers import random_codes, tiny_generator

VALUES = torch.tensor([1 / 3, 2 / 3, 1e-9], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_modules_keep_a_float32_table(dtype):
    for table in (ConstantTable(lambda: VALUES).to(dtype), ConstantTable(lambda: VALUES, dtype=dtype)):
        torch.testing.assert_close(table.table, VALUES.float(), rtol=0, atol=0)


def test_double_is_followed_without_rounding_on_the_way():
    for table in (ConstantTable(lambda: VALUES).double(), ConstantTable(lambda: VALUES, dtype=torch.float64)):
        torch.testing.assert_close(table.table, VALUES, rtol=0, atol=0)


def test_there_and_back_loses_nothing():
    table = ConstantTable(lambda: VALUES).to(torch.bfloat16).double()
    torch.testing.assert_close(table.table, VALUES, rtol=0, atol=0)


def test_it_is_right_after_a_build_on_the_meta_device():
    table = ConstantTable(lambda: VALUES, device="meta")
    assert table.table.is_meta
    torch.testing.assert_close(table.to_empty(device="cpu").table, VALUES.float(), rtol=0, atol=0)


def test_it_is_not_saved():
    assert ConstantTable(lambda: VALUES).state_dict() == {}


def test_a_generator_in_bfloat16_rotates_and_corrupts_in_float32():
    model, half = tiny_generator(), tiny_generator().bfloat16()
    torch.testing.assert_close(half.trunk.rope.table, model.trunk.rope.table, rtol=0, atol=0)
    torch.testing.assert_close(half.transcoder.alpha_bar.table, model.transcoder.alpha_bar.table, rtol=0, atol=0)
    codes = random_codes(model.config)
    full, rounded = model.condition(codes), half.condition(codes)
    assert rounded.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(full.flatten(), rounded.float().flatten(), dim=0) > 0.999
