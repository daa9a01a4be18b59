"""One normaliser for all who compare by cosine: length 1 at any scale, zero rows as asked."""

import numpy as np
import pytest

from bigr_features.functional.vectors import unit_length


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.uint8])
def test_rows_get_length_1_in_float32(dtype):
    rows = np.random.default_rng(0).integers(1, 200, (1500, 6)).astype(dtype)
    before = rows.copy()
    unit = unit_length(rows)
    assert unit.dtype == np.float32
    np.testing.assert_array_equal(rows, before)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(unit, exact / np.linalg.norm(exact, axis=1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_rows_of_any_scale_get_unit_length_and_zero_stays_zero(scale):
    features = np.random.default_rng(0).standard_normal((2000, 5)).astype(np.float32)
    features[7] = 0
    unit = unit_length(features * np.float32(scale))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), np.arange(2000) != 7, rtol=1e-6)
    np.testing.assert_allclose(unit[0], features[0] / np.linalg.norm(features[0]), rtol=1e-5)


def test_in_place():
    rows = np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32)
    expected = unit_length(rows)
    assert unit_length(rows, out=rows) is rows
    np.testing.assert_array_equal(rows, expected)


def test_zero_rows_can_be_refused_and_are_named():
    rows = np.ones((1200, 3), np.float32)
    assert unit_length(rows, zero="refuse").shape == rows.shape
    rows[[4, 1100]] = 0
    with pytest.raises(ValueError, match=r"2 rows are all zero and have no direction to compare by cosine \(4, 1100\)"):
        unit_length(rows, zero="refuse")
    with pytest.raises(ValueError, match="zero='drop'"):
        unit_length(rows, zero="drop")
