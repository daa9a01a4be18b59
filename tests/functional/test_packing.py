"""Promises of `bigr_features.functional.packing`: every code comes back, and a bit takes a bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigr_features.functional.packing import pack_bits, packed_size, unpack_bits


@given(st.integers(0, 3), st.integers(1, 20), st.integers(1, 33), st.integers(0, 1000))
def test_codes_come_back_as_tensors_and_as_arrays(batch, tokens, bits, seed):
    codes = np.random.default_rng(seed).integers(0, 2, (batch, tokens, bits), dtype=np.uint8)
    packed = pack_bits(codes)
    assert packed.dtype == np.uint8
    assert packed.shape == (batch, packed_size(tokens, bits))
    np.testing.assert_array_equal(unpack_bits(packed, tokens, bits), codes)
    of_tensor = pack_bits(torch.from_numpy(codes))
    assert torch.equal(of_tensor, torch.from_numpy(packed))
    assert torch.equal(unpack_bits(of_tensor, tokens, bits), torch.from_numpy(codes))


def test_sizes_by_hand():
    assert [packed_size(*size) for size in ((256, 24), (64, 16), (1, 1), (3, 3), (1, 8), (1, 9))] == [768, 128, 1, 2, 1, 2]


def test_order_by_hand():
    codes = torch.tensor([[[1, 0, 0], [0, 0, 1], [1, 1, 1]]])
    assert pack_bits(codes).tolist() == [[0b10000111, 0b10000000]]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float64])
def test_codes_of_every_dtype_are_packed_alike(dtype):
    codes = torch.randint(2, (2, 5, 7), generator=torch.Generator().manual_seed(0))
    assert torch.equal(pack_bits(codes.to(dtype)), pack_bits(codes))


@pytest.mark.parametrize("value", [0.5, 2.0, -1.0, float("nan")])
def test_other_values_than_bits_are_refused(value):
    codes = torch.zeros(2, 3, 4)
    codes[1, 2, 3] = value
    for given_codes in (codes, codes.numpy()):
        with pytest.raises(ValueError, match="codes hold values other than 0 and 1"):
            pack_bits(given_codes)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"codes have shape \(4,\)"):
        pack_bits(torch.zeros(4))
    with pytest.raises(TypeError, match=r"dtype torch\.float32; expected uint8"):
        unpack_bits(torch.zeros(2, 2), 2, 8)
    with pytest.raises(ValueError, match=r"shape \(2, 3\); 2 tokens of 8 bits take \(\.\.\., 2\) bytes"):
        unpack_bits(torch.zeros(2, 3, dtype=torch.uint8), 2, 8)
