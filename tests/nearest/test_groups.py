"""Promises of groups."""

from __future__ import annotations

from bigr_features.nearest.groups import joined_groups


def test_groups_by_hand():
    """a-b-c hang together through b, d-e are nearer; f is alone."""
    pairs = {("b", "a"): 0.9, ("b", "c"): 0.8, ("e", "d"): 0.99}
    assert joined_groups("abcdef", pairs) == [(["d", "e"], 0.99), (["a", "b", "c"], 0.8)]


def test_no_pairs_are_no_groups():
    assert joined_groups(["a", "b"], {}) == []
    assert joined_groups([], {}) == []
