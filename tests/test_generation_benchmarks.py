"""Benchmarks of generation run as a user runs them, and the plain implementation they compare with draws the same codes."""

from __future__ import annotations

import importlib
import json
import shlex
import sys

from .test_benchmarks import ROOT, run


def test_sampling_speed_counts_and_times_and_finds_equal_codes(tmp_path):
    done = run("sampling_speed.py", *shlex.split(f"--batch 1 --reveal-steps 4 --denoise-steps 4 --rounds 1 --threads 1 --out {tmp_path}"))
    assert done.returncode == 0, done.stderr
    assert "speed-up" in done.stdout
    result = json.loads((tmp_path / "sampling_speed_bigr_nano_fashion_mnist.json").read_text())
    assert result["same_codes_from_same_noise"]["equal_bits"] > 0.99  # 1 unless a draw lies within rounding of its probability
    row = result["batches"][0]
    assert row["multiply_adds_per_image"]["ours"] < row["multiply_adds_per_image"]["plain"]
    assert row["speedup"] > 0
    assert row["floor_seconds_per_image"] > 0


def test_causal_generators_are_timed_with_and_without_their_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    speed = importlib.import_module("sampling_speed")
    options = "--cache llamagen_nano:1 bigr_nano_bin_ar:1 --grid 3 --batch 1 2 --rounds 1 --denoise-steps 2"
    monkeypatch.setattr(sys, "argv", ["sampling_speed.py", *shlex.split(options), "--out", str(tmp_path)])
    speed.main()
    result = json.loads((tmp_path / "kv_cache.json").read_text())
    rows = [(row["preset"], row["batch"]) for row in result["rows"]]
    assert rows == [("llamagen_nano", 1), ("llamagen_nano", 2), ("bigr_nano_bin_ar", 1), ("bigr_nano_bin_ar", 2)]
    assert all(row["tokens"] == 9 and row["blocks"] == 1 and row["equal_tokens"] == 1 and row["speedup"] > 0 for row in result["rows"])
    assert "cpu" in result["environment"]
    assert "speed-up" in capsys.readouterr().out


def test_sampling_quality_writes_table_json_and_picture(tmp_path):
    done = run(
        "sampling_quality.py",
        *shlex.split("--images 8 --choice-images 3 --epochs 1 --reveal-steps 2 --denoise-steps 2 --resamples 5"),
        *shlex.split("--parts posterior order_unguided order_chosen inpainting"),
        "--out",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "real training images" in done.stdout
    result = json.loads((tmp_path / "sampling_quality.json").read_text())
    assert [row["posterior"] for row in result["posterior"]] == ["official", "exact"]
    assert [row["guidance_scale"] for row in result["order_unguided"]] == [1.0] * 5
    assert result["protocol"]["base"]["num_reveal_steps"] == result["protocol"]["base"]["num_denoise_steps"] == 2
    for row in result["order_chosen"]:
        assert row["num_reveal_steps"] == 2
        assert len(row["tried"]) == (27 if row["order"] == "entropy" else 9)
        best = min(row["tried"], key=lambda tried: tried["frechet_to_training_images"])
        assert {name: row[name] for name in best if name in row} == {name: value for name, value in best.items() if name in row}
    assert [row["name"] for row in result["order_chosen"]] == ["entropy", "random", "raster", "halton"]
    for row in [*result["posterior"], *result["order_chosen"], result["real_train_images"]]:
        low, high = row["frechet_interval"]
        assert 0 <= low <= row["frechet"] <= high
    shares = result["inpainting"]["kept_class"]
    assert len(shares) == 4
    assert all(0 <= entry["share"] <= 1 for entry in shares.values())
    assert (tmp_path / "sampling_quality.png").stat().st_size > 5_000
