"""The benchmark of the evaluators runs at a small size, and what it compares agrees."""

import json
from pathlib import Path

import pytest

from .processes import program

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "evaluators.py"
SMALL = "--samples 1500 --test-samples 500 --gallery 4500 --queries 100 --features 40 --classes 5 --rank 10 --Cs 0.001 0.1 --threads 1"


def test_both_sides_reach_the_same(tmp_path):
    done = program(SCRIPT, *SMALL.split(), "--sklearn-max-iter", "500", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "evaluators.json").read_text())
    probe, knn = result["probe"], result["knn"]
    assert [row["C"] for row in probe["rows"]] == [0.001, 0.1]
    assert probe["worst_objective_ratio"] < 1.001
    for row in probe["rows"]:
        assert row["accuracy"] == pytest.approx(row["sklearn_accuracy"], abs=0.01)
    assert knn["same_neighbours"] > 0.999
    assert knn["accuracy"] == pytest.approx(knn["sklearn_accuracy"], abs=0.01)
    assert "path of 2" in done.stdout
    assert "k-NN" in done.stdout
