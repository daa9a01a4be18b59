"""The benchmark of the page, run small, as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_small_gallery_is_served_and_measured(tmp_path):
    sizes = ["--count", "120", "--images", "40", "--requests", "40", "--no-browser", "--out", str(tmp_path)]
    command = [sys.executable, str(ROOT / "benchmarks" / "web.py"), *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "web.json").read_text())
    assert result["pictures"] == 120
    assert result["page_bytes"] < 150_000
    assert list(result["memory_mb_by_requests"]) == ["2", "10", "20", "30", "40"]
    assert result["query_by_id_seconds"]["median"] <= result["query_by_id_seconds"]["max"]
    assert {"torch", "starlette"} <= set(result["environment"]["versions"])
