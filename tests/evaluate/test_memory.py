"""Evaluators keep to the memory that their docstrings state, at 200,000 samples of 1,000 classes: the peak of a child process."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

SAMPLES, CLASSES, WIDTH = 200_000, 1_000, 32
BLOCKS = 0.5  # GB that the docstrings allow beside the features
FEATURES = 4 * SAMPLES * WIDTH / 1e9  # GB
ONE_TABLE = 8 * SAMPLES * CLASSES / 1e9  # GB of one number for each sample and class: what must never be held

START = """
    import resource, sys
    import numpy as np
    import torch
    import faiss, sklearn
    from bigr_features import KNNClassifier, LinearProbe
    from bigr_features.evaluate.mae_probe import MAEProbe

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    X, y = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
    KNNClassifier(2).fit(np.eye(8), np.arange(8) % 2).predict(np.eye(8))  # what libraries take once, before anything is counted
    LinearProbe(Cs=(1.0,)).fit(np.eye(8), np.arange(8) % 2).predict(np.eye(8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
"""
END = """
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e9)
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Half precision features on disk, in clusters that k-NN and a linear probe can tell apart."""
    folder = tmp_path_factory.mktemp("memory")
    rng = np.random.default_rng(0)
    y = np.arange(SAMPLES) % CLASSES
    X = rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)[y] + 0.1 * rng.standard_normal((SAMPLES, WIDTH), dtype=np.float32)
    np.save(folder / "x.npy", X.astype(np.float16))
    np.save(folder / "y.npy", y)
    return folder


def peak_of(stored, work: str) -> float:
    """GB that a process takes for some work, beyond what it took for its libraries."""
    code = textwrap.dedent(START) + textwrap.dedent(work) + textwrap.dedent(END)
    arguments = [sys.executable, "-c", code, str(stored / "x.npy"), str(stored / "y.npy")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peak = float(done.stdout.splitlines()[-1])
    print(f"peak {peak:.3f} GB")
    return peak


def test_votes_are_counted_in_blocks(stored):
    """The quick one: 50,000 queries, whose shares of votes alone would take 0.4 GB."""
    work = """
        assert KNNClassifier(2).fit(X[:1000], y[:1000]).score(X[:50_000], y[:50_000]) > 0.95
    """
    assert peak_of(stored, work) < 0.3


@pytest.mark.slow
def test_votes_of_many_queries_are_counted_in_blocks(stored):
    work = """
        probe = KNNClassifier(2).fit(X[:2000], y[:2000])
        assert probe.score(X, y) > 0.95
    """
    assert peak_of(stored, work) < BLOCKS + FEATURES < ONE_TABLE


@pytest.mark.slow
def test_settings_are_chosen_and_samples_left_out_in_blocks(stored):
    work = """
        probe = KNNClassifier((10, 20, 100), (0.07, 0.2), (None, 0.1), holdout=0.01).fit(X, y)
        assert probe.score(X[:2000], y[:2000]) > 0.95
        few = KNNClassifier((5, 10)).fit(X[:20_000], y[:20_000])
        assert few.leave_one_out_accuracy()[5] > 0.95
    """
    assert peak_of(stored, work) < BLOCKS + 2 * FEATURES


@pytest.mark.slow
def test_a_linear_probe_reads_and_scores_in_blocks(stored):
    work = """
        probe = LinearProbe(Cs=(0.01, 0.1), max_iter=1, tol=0.5, max_bytes=0).fit(X, y)
        assert probe.score(X, y) > 0.1
    """
    assert peak_of(stored, work) < BLOCKS


@pytest.mark.slow
def test_maes_probe_scores_in_blocks(stored):
    work = """
        probe = MAEProbe((1.0, 3.0), batch_size=512, epochs=1, warmup_epochs=0).fit(X, y)
        assert probe.score(X, y) > 0.01
    """
    assert peak_of(stored, work) < BLOCKS + FEATURES
