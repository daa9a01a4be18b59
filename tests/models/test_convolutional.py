"""Promises of the convolutional parts: the order in which numbers lie in memory changes nothing that is computed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from bigr_features.models.convolutional import GroupNorm

from ..helpers import tiny_tokenizer


@pytest.mark.parametrize("size", [4, 8, 31, 32, 40])
@pytest.mark.parametrize("channels", [32, 64, 160])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_group_norm_of_either_memory_order(size, channels, dtype):
    torch.manual_seed(size + channels)
    norm = GroupNorm(channels, dtype=dtype)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = torch.randn(2, channels, size, size, dtype=dtype)
    last = x.to(memory_format=torch.channels_last)
    exact = F.group_norm(x.double(), 32, norm.weight.double(), norm.bias.double(), norm.eps)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for given in (x, last):
        torch.testing.assert_close(norm(given).double(), exact, rtol=0, atol=tolerance)
    assert norm(last).stride() == last.stride()


def test_bfloat16_is_near_the_exact_result():
    model = tiny_tokenizer()
    images, codes = torch.rand(3, 3, 16, 16), torch.randint(2, (3, 64, 5)).float()
    with torch.no_grad():
        exact = model.bit_probabilities(images), model.decode(codes)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.bit_probabilities(images), model.decode(codes)
    assert rounded[1].is_contiguous()
    for ours, expected in zip(rounded, exact, strict=True):
        torch.testing.assert_close(ours.float(), expected, rtol=0, atol=0.05)
