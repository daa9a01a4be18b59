"""Intervals by hand, hashes that see every byte, JSON that any parser reads."""

import json

import numpy as np
import pytest

from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, evaluation_result, portable_command, write_json


def test_interval_of_a_coin_matches_the_normal_approximation():
    correct = np.arange(10_000) % 2 == 0
    low, high = bootstrap_interval(correct)
    assert low == pytest.approx(0.5 - 1.96 * 0.005, abs=5e-4)
    assert high == pytest.approx(0.5 + 1.96 * 0.005, abs=5e-4)


@pytest.mark.parametrize("value", [True, False])
def test_interval_of_certainty_is_a_point(value):
    assert bootstrap_interval(np.full(50, value)) == (float(value), float(value))


def test_interval_needs_items():
    with pytest.raises(ValueError, match="at least 1 item"):
        bootstrap_interval(np.array([], dtype=bool))


def test_hash_sees_values_shapes_and_dtypes():
    base = np.arange(6, dtype=np.uint8)
    variants = [base, base + 1, base.reshape(2, 3), base.astype(np.int16)]
    assert len({array_hash(array) for array in variants}) == len(variants)


def test_json_is_valid_and_refuses_nan(tmp_path):
    write_json(tmp_path / "new" / "result.json", {"accuracy": 0.5, "environment": environment()})
    content = json.loads((tmp_path / "new" / "result.json").read_text())
    assert content["environment"]["versions"]["torch"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "nan.json", {"accuracy": float("nan")})
    assert not (tmp_path / "nan.json").exists()


def test_a_command_does_not_tell_where_files_lie():
    assert portable_command("python /home/me/x/probe.py --data /data/fashion --out runs/a") == "python probe.py --data fashion --out runs/a"
    assert (
        portable_command("probe.py --model vit=/data/a/w.safetensors --out=/tmp/x a/b") == "probe.py --model vit=w.safetensors --out=x a/b"
    )
    assert portable_command("python /x/bigr_features/cli/__main__.py train --out a") == "bigr train --out a"


def test_a_result_by_hand_with_a_class_missing_on_either_side():
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    result = evaluation_result(scores, np.array([0, 1, 1, 3]), np.array([0, 1, 2]), {"layer": 5}, class_names=["ant", "bee", "cat", "dog"])
    assert result["top1"] == 0.5
    assert result["top5"] is None
    assert result["per_class"] == {"ant": 1.0, "bee": 0.5, "cat": None, "dog": 0.0}
    assert result["classes_not_in_test"] == ["cat"]
    assert result["classes_not_in_train"] == ["dog"]
    assert result["seeds"] is None
    assert result["protocol"] == {"layer": 5}


def test_top_5_of_votes_counts_no_class_without_one():
    scores = np.array([[1.0, 0, 0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0, 0, 0]])
    labels, classes = np.array([1, 1]), np.arange(7)
    assert evaluation_result(scores, labels, classes, {})["top5"] == 1.0
    voted = evaluation_result(scores, labels, classes, {}, votes=True, seed_accuracies=[0.5, 0.7])
    assert voted["top5"] == 0.5
    assert voted["seeds"]["mean"] == pytest.approx(0.6)
    assert voted["seeds"]["std"] == pytest.approx(0.2 / 2**0.5)
