"""Promises of `bigr_features.functional.rope`: the recorded table, and what a rotation means."""

from __future__ import annotations

import pytest
import torch

from bigr_features.functional.rope import apply_rope, rope_table


@pytest.mark.golden("rope.table")
def test_table_is_the_recorded_one(golden):
    config = golden.config
    table = rope_table(config.grid_size, config.width // config.num_heads, config.num_cond_tokens, config.rope_base)
    golden.check("rope.table", table)


@pytest.mark.parametrize("grid_size", [1, 2, 5, 8])
@pytest.mark.parametrize("head_dim", [4, 8, 20, 64])
@pytest.mark.parametrize("num_cond_tokens", [0, 1, 3])
def test_condition_rows_are_zero_and_the_others_are_rotations(grid_size, head_dim, num_cond_tokens):
    table = rope_table(grid_size, head_dim, num_cond_tokens)
    assert table.shape == (num_cond_tokens + grid_size**2, head_dim // 2, 2)
    assert table.dtype == torch.float64
    torch.testing.assert_close(table[:num_cond_tokens], torch.zeros(num_cond_tokens, head_dim // 2, 2).double())
    length = table[num_cond_tokens:].norm(dim=-1)
    torch.testing.assert_close(length, torch.ones_like(length))


def test_first_half_turns_with_the_row_and_second_half_with_the_column():
    grid = rope_table(5, 16, 0).unflatten(0, (5, 5))  # (row, column, 8, 2)
    rows, columns = grid[:, :, :4], grid[:, :, 4:]
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows))
    torch.testing.assert_close(columns, columns[:1].expand_as(columns))
    torch.testing.assert_close(rows.transpose(0, 1), columns)


def test_rotation_by_hand():
    quarter_turn = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])  # first pair by 90 degrees, second by 0
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    torch.testing.assert_close(apply_rope(x, quarter_turn).flatten(), torch.tensor([-2.0, 1.0, 3.0, 4.0]))


@pytest.mark.parametrize("head_dim", [4, 8, 16])
def test_scores_depend_on_the_displacement_only(head_dim):
    side = 6
    table = rope_table(side, head_dim, 0)
    q, k = torch.randn(2, 1, 1, 1, head_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    queries, keys = (apply_rope(x.expand(1, 1, side * side, head_dim), table)[0, 0] for x in (q, k))
    scores = (queries @ keys.T).reshape(side, side, side, side)  # (row, column, row', column')
    torch.testing.assert_close(scores[:-1, :-1, :-1, :-1], scores[1:, 1:, 1:, 1:])


def test_dtype_is_kept_and_the_rotation_is_made_in_float32():
    table = rope_table(4, 8, 1).float()
    x = torch.randn(2, 3, 17, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    rotated = apply_rope(x, table)
    assert rotated.dtype == torch.bfloat16
    torch.testing.assert_close(rotated, apply_rope(x.float(), table).bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize("head_dim", [1, 2, 6, 30])
def test_head_width_that_is_no_multiple_of_4_is_refused(head_dim):
    with pytest.raises(ValueError, match=f"head_dim={head_dim},"):
        rope_table(4, head_dim)
