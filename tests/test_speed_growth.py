"""The measurement of growth runs both loops, and adds runs up."""

from __future__ import annotations

import json

from .test_benchmarks import run


def test_runs_of_both_loops_add_up(tmp_path):
    options = ["--only", "images", "--sizes", "3", "--rounds", "1", "--out", str(tmp_path)]
    for loops in (["plain loop", "bigr extract"], ["bigr extract"]):
        done = run("speed_growth.py", *options, "--loops", *loops)
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "speed_growth.json").read_text())
    assert [(row["loop"], row["runs"], row["images"]) for row in found["images"]] == [("plain loop", 1, 3), ("bigr extract", 2, 3)]
    for row in found["images"]:
        assert row["images_per_second"] > 0
        assert 0 <= row["beyond_first_shard_mib"] < row["peak_mib"]
    done = run("speed_growth.py", *options, "--rounds", "0")
    assert "every number must be 1 or more" in done.stderr
