"""The metrics of generation keep their memory flat: all of them on 100,000 x 512 features, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import itertools, sys
import numpy as np
from bigr_features.evaluate.distances import Points
from bigr_features.evaluate.frechet import frechet_feature_distance
from bigr_features.evaluate.inception_score import inception_score
from bigr_features.evaluate.kid import kernel_distance
from bigr_features.evaluate.manifold import manifold_hits
from bigr_features.evaluate.memorisation import memorisation

n, metric, most = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
blocks = Points.blocks
Points.blocks = lambda *args, **options: itertools.islice(blocks(*args, **options), most)
rng = np.random.default_rng(0)
ours, theirs = (rng.standard_normal((n, 512), dtype=np.float32) for _ in range(2))
found = {
    "frechet": lambda: frechet_feature_distance(ours, theirs),
    "kid": lambda: kernel_distance(ours, theirs, subsets=10).mean,
    "score": lambda: inception_score(ours, resamples=3).mean,
    "manifold": lambda: manifold_hits(ours, theirs).density,
    "memorisation": lambda: memorisation(ours[:200], theirs, ours[200:400]).closer_than_test,
}[metric]()
assert np.isfinite(found), found
high = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # of this process alone, unlike ru_maxrss
print(int(high.split()[1]) * 1024)
"""


def peak(n: int, metric: str, most_blocks: int = 10**9) -> int:
    """Peak resident bytes; with only so many blocks of distances in each pass, as every block allocates the same."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(n), metric, str(most_blocks)], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["frechet", "kid", "score", "manifold", "memorisation"])
def test_a_hundred_thousand_features_stay_below_3_gb(metric):
    assert peak(100_000, metric, most_blocks=3) < 3e9


@pytest.mark.parametrize("metric", ["manifold", "memorisation"])
def test_no_matrix_of_all_distances_is_held(metric):
    """12,000 x 12,000 distances would be 1.15 GB."""
    assert peak(12_000, metric, most_blocks=3) - peak(1_000, metric, most_blocks=3) < 6e8
