"""Intervals by hand, hashes that see every byte, JSON that any parser reads."""

import json

import numpy as np
import pytest

from bigr_features.evaluate.reports import array_hash, bootstrap_interval, environment, portable_command, write_json


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
