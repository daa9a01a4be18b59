"""Promises of pooling: what each one is, on tokens whose answer is seen by eye."""

from __future__ import annotations

import pytest
import torch

from bigr_features.functional.pooling import POOLINGS, check_poolings, feature_name, layer_and_pooling, pool_tokens

TOKENS = torch.tensor([[[1.0, 8.0], [3.0, 2.0]]])  # one image, two tokens
CLASS = torch.tensor([[5.0, 6.0]])


@pytest.mark.parametrize(
    ("pooling", "expected"), [("mean", [2.0, 5.0]), ("max", [3.0, 8.0]), ("cls", [5.0, 6.0]), ("concat", [5.0, 6.0, 2.0, 5.0])]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_pooling_by_hand(pooling, expected, dtype):
    found = pool_tokens(TOKENS.to(dtype), CLASS.to(dtype), pooling)
    assert found.dtype == torch.float32
    assert found.tolist() == [expected]


def test_the_mean_of_bfloat16_tokens_is_taken_in_float32():
    tokens = torch.full((1, 1000, 1), 1.0).index_fill(1, torch.tensor([0]), 256.0).bfloat16()
    assert pool_tokens(tokens, None, "mean").item() == pytest.approx(1.255, rel=1e-6)


@pytest.mark.parametrize("side", [2, 4, 7, 8])
def test_quarters_are_means_over_the_quarters_of_the_grid(side):
    tokens = torch.randn(3, side * side, 5, generator=torch.Generator().manual_seed(0))
    grid, half = tokens.view(3, side, side, 5), -(-side // 2)
    corners = [grid[:, rows, columns] for rows in (slice(half), slice(-half, None)) for columns in (slice(half), slice(-half, None))]
    expected = torch.cat([corner.mean((1, 2)) for corner in corners], dim=1)
    torch.testing.assert_close(pool_tokens(tokens, None, "quarters"), expected)


@pytest.mark.parametrize("grid", [(2, 8), (8, 2), (3, 5), (4, 4), (2, 2), (1 + 4, 2), (7, 16)])
def test_quarters_of_an_oblong_grid_are_those_of_the_real_grid(grid):
    rows, columns = grid
    tokens = torch.randn(2, rows * columns, 3, generator=torch.Generator().manual_seed(0))
    maps, down, across = tokens.view(2, rows, columns, 3), -(-rows // 2), -(-columns // 2)
    corners = [maps[:, y, x] for y in (slice(down), slice(-down, None)) for x in (slice(across), slice(-across, None))]
    expected = torch.cat([corner.mean((1, 2)) for corner in corners], dim=1)
    torch.testing.assert_close(pool_tokens(tokens, None, "quarters", grid), expected)


@pytest.mark.parametrize("grid", [(1, 16), (16, 1), (4, 5)])
def test_grids_without_quarters_are_refused(grid):
    with pytest.raises(ValueError, match=f"'quarters' needs a grid of tokens.*there are 16 as {grid[0]} x {grid[1]}"):
        pool_tokens(torch.zeros(1, 16, 2), None, "quarters", grid)


@pytest.mark.parametrize("count", [1, 6, 65])
def test_quarters_of_no_square_are_refused(count):
    with pytest.raises(ValueError, match=f"square grid of tokens, 2 x 2 or larger, but there are {count}"):
        pool_tokens(torch.zeros(1, count, 2), None, "quarters")


@pytest.mark.parametrize(
    ("poolings", "message"),
    [
        (("cls",), "needs a class token"),
        (("mean", "concat"), "'concat' needs a class token"),
        (("avg",), "'avg' is unknown; choose one or more of mean, cls, max, concat, quarters"),
        (("max", "max"), "given twice"),
        ((), "no pooling was given"),
    ],
)
def test_poolings_that_cannot_be_are_named(poolings, message):
    with pytest.raises(ValueError, match=message):
        check_poolings(poolings, has_class_token=False)


def test_names_say_layer_and_pooling():
    for pooling in POOLINGS:
        assert layer_and_pooling(feature_name(12, pooling)) == (12, pooling)
    assert feature_name(5, "mean") == "block5_mean"
    assert layer_and_pooling("bits") == layer_and_pooling("block5_other") == (None, None)
