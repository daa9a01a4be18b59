"""Benchmark commands run as a user runs them."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(script: str, *args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("weights", [[], ["--random"]])
def test_linear_probe_writes_table_json_and_picture(tmp_path, weights):
    dataset = "digits"
    done = run("linear_probe.py", "--dataset", dataset, "--layers", "0", "-1", *weights, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert ("RANDOM weights" in done.stderr) == bool(weights)
    assert "raw pixels" in done.stdout
    assert "chosen layer" in done.stdout
    result = json.loads((tmp_path / f"linear_probe_{dataset}.json").read_text())
    rows = result["rows"]
    assert [row["layer"] for row in rows] == [None, None, 0, 7]
    tested = [row for row in rows if "test_accuracy" in row]
    assert len(tested) == 3
    for row in tested:
        low, high = row["test_interval"]
        assert low <= row["test_accuracy"] <= high
    chosen = next(row for row in rows if row.get("chosen"))
    assert chosen["holdout_accuracy"] == max(row["holdout_accuracy"] for row in rows[2:])
    assert len(result["weights_sha256"]) == 64
    assert (tmp_path / f"linear_probe_{dataset}.png").stat().st_size > 10_000


def test_linear_probe_names_a_layer_out_of_range(tmp_path):
    done = run("linear_probe.py", "--dataset", "digits", "--layers", "12", "--out", str(tmp_path))
    assert done.returncode != 0
    assert "layer 12 is out of range" in done.stderr
    assert not list(tmp_path.iterdir())


def test_linear_probe_names_an_unknown_dataset(tmp_path):
    done = run("linear_probe.py", "--dataset", "imagenet", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "fashion_mnist" in done.stderr


def test_retrieval_writes_tables_json_and_picture(tmp_path):
    small = shlex.split("--images 300 --queries 40 --scale 2000 --threads 1 --seconds 0.05")
    done = run("retrieval.py", *small, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "two stages, share of exact mAP" in done.stdout
    result = json.loads((tmp_path / "retrieval_fashion_mnist_sample.json").read_text())
    rows = {row["method"]: row for row in result["rows"]}
    assert len(rows) == 10
    assert rows["features, flat"]["bytes"] > 20 * rows["features, ITQ, 144 bits"]["bytes"]
    assert all(0 <= row["recall_at_1"] <= row["recall_at_10"] <= 1 for row in rows.values())
    curve = result["two_stage_curve"]
    assert curve[0]["map"] == pytest.approx(rows["features, ITQ, 144 bits"]["map"])
    assert [point["shortlist"] for point in curve] == sorted(point["shortlist"] for point in curve)
    assert (tmp_path / "retrieval_fashion_mnist_sample.png").stat().st_size > 10_000
    scale = json.loads((tmp_path / "retrieval_scale.json").read_text())["rows"]
    recalls = {}
    for row in scale:
        recalls.setdefault(row["method"], []).append(row["index_recall_at_10"])
    assert len(recalls) == 3
    assert all(found == sorted(found) for found in recalls.values()), "more effort found less"
