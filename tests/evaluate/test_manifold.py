"""Promises of precision, recall, density and coverage: by hand, with roles swapped, at the rim of a ball."""

from __future__ import annotations

import numpy as np
import pytest

from bigr_features.evaluate.manifold import density_coverage, manifold_hits, precision_recall


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def test_on_a_line_by_hand():
    """Real points 0, 1, 2, 10 have nearest others at 1, 1, 1 and 8; generated ones 2.5, 5, 30 at 2.5, 2.5 and 25."""
    hits = manifold_hits(column(2.5, 5, 30), column(0, 1, 2, 10), k=1, density_k=1)
    assert hits.precise.tolist() == [True, True, False]  # 2.5 in the ball of 2 (1..3) and of 10 (2..18); 5 in that of 10; 30 in none
    assert hits.balls.tolist() == [2, 1, 0]
    assert hits.recalled.tolist() == [True, True, True, True]  # the ball of 2.5 is 0..5, that of 30 reaches to 5..55
    assert hits.covered.tolist() == [False, False, True, True]
    assert (hits.precision, hits.recall, hits.density, hits.coverage) == pytest.approx((2 / 3, 1, 1, 0.5))


@pytest.mark.parametrize("inside", [True, False])
def test_a_point_at_the_rim_lies_inside(inside):
    """Real points 0, 3 and 4: the ball of 0 with k = 1 ends at 3."""
    beyond = 0.0 if inside else 1e-9
    assert manifold_hits(column(-3 - beyond, -100), column(0, 3, 4), k=1, density_k=1).precise.tolist() == [inside, False]


def test_the_rim_is_exact_where_products_of_matrices_are_not():
    """Points of a grid far from 0, in more dimensions than one product rounds well: distances to neighbours are equal by construction."""
    rng = np.random.default_rng(0)
    steps = np.eye(32)[rng.permutation(32)[:20]]
    for offset in (0, 1e3, 1e6):
        real = np.concatenate([np.zeros((1, 32)), steps]) + offset  # all at 1 from the first
        hits = manifold_hits(offset - steps, real, k=1, density_k=1)
        assert hits.precise.all()  # at exactly 1 from the first point, whose ball ends there
        assert hits.covered.tolist() == [True] + [False] * 20


def test_duplicates_of_a_point_are_its_neighbours():
    """Of 0, 0, 0, 0, 5 with k = 3, the balls of the zeros have no extent, and only that of 5 reaches from 0 to 10."""
    hits = manifold_hits(column(0, 1, 5, 11), column(0, 0, 0, 0, 5), k=3, density_k=1)
    assert hits.precise.tolist() == [True, True, True, False]
    hits = manifold_hits(column(0, 1e-3, 7, 9), np.zeros((5, 1)), k=3, density_k=1)
    assert hits.precise.tolist() == [True, False, False, False]


def test_a_tight_cluster_in_a_wide_set_is_precise_and_recalls_nothing_and_the_reverse():
    rng = np.random.default_rng(1)
    tight, wide = 0.01 * rng.normal(size=(300, 8)), rng.normal(size=(300, 8))
    assert precision_recall(tight, wide) == (1.0, 0.0)
    assert precision_recall(wide, tight) == (0.0, 1.0)
    density, coverage = density_coverage(tight, wide)
    assert density > 2  # density rewards collapse
    assert coverage < 0.3
    assert density_coverage(wide, tight) == (0.0, 0.0)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_of_one_distribution_density_is_1_and_coverage_as_expected(k):
    rng = np.random.default_rng(2)
    density, coverage = density_coverage(rng.normal(size=(2000, 5)), rng.normal(size=(2000, 5)), k)
    assert density == pytest.approx(1, abs=0.08)
    assert coverage == pytest.approx(1 - 0.5**k, abs=0.03)


def test_equal_sets_are_all_inside():
    features = np.random.default_rng(3).normal(size=(50, 600)) + 40  # wide features, far from 0
    hits = manifold_hits(features, features.copy())
    assert hits.precision == hits.recall == hits.coverage == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: precision_recall(np.zeros((9, 2)), np.zeros((9, 3))), "2 dimensions and the reference 3"),
        (lambda: precision_recall(np.zeros((9, 2)), np.zeros((3, 2))), "k=3 neighbours were asked for, but a point has 2 others"),
        (lambda: precision_recall(np.zeros((3, 2)), np.zeros((9, 2))), "k=3 neighbours"),
        (lambda: precision_recall(np.zeros((9, 2)), np.zeros((9, 2)), 0), "k=0"),
        (lambda: density_coverage(np.zeros(9), np.zeros((9, 2))), r"shape \(9,\)"),
        (lambda: density_coverage(np.full((9, 2), np.inf), np.zeros((9, 2))), "NaN or infinite values, the first in row 0"),
        (lambda: density_coverage(np.array([["a"], ["b"]]), np.zeros((9, 1))), "expected real numbers"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
