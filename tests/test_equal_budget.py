"""Peers of equal budget: k-means of patches, trainings that go on, rows and their paired differences."""

from __future__ import annotations

import argparse
import base64
import importlib
import json
import sys

import numpy as np
import pytest

from .test_benchmarks import ROOT


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def options(tmp_path):
    def made(*given: str) -> list[str]:
        small = ["--limit", "100", "--steps", "4", "--batch-size", "8", "--save-every", "2", "--validation", "10", "--warmup-steps", "1"]
        return ["equal_budget.py", "--dataset", "sample:digits", *small, "--work", str(tmp_path / "work"), "--out", str(tmp_path), *given]

    return made


@pytest.mark.parametrize(("side", "channels", "field"), [(8, 3, 3), (9, 1, 4), (12, 3, 6)])
def test_patches_are_counted_as_one_by_one(benchmark, side, channels, field):
    """Against the definition, patch by patch."""
    random = np.random.default_rng(side)
    pixels = random.integers(0, 256, (30, side, side, channels)).astype(np.uint8)
    learned = benchmark("kmeans_patches").KMeansPatches(7, field, sampled=2_000, iterations=5).fit(pixels)
    found = learned.transform(pixels[:3])
    steps = side - field + 1
    half = (steps + 1) // 2
    for image, row in zip(pixels[:3], found, strict=True):
        expected = np.zeros((2, 2, 7))
        for top in range(steps):
            for left in range(steps):
                patch = image[top : top + field, left : left + field].astype(np.float64).ravel()
                patch = (patch - patch.mean()) / np.sqrt(patch.var() + 10)
                distances = np.linalg.norm((patch - learned.mean_) @ learned.whitening_ - learned.centres_, axis=1)
                expected[top // half, left // half] += np.maximum(0, distances.mean() - distances)
        np.testing.assert_allclose(row, expected.ravel(), rtol=2e-3, atol=2e-3)


def test_impossible_patches_are_refused(benchmark):
    learner = benchmark("kmeans_patches").KMeansPatches
    with pytest.raises(ValueError, match="images of side 8 hold no patch of side 9"):
        learner(5, 9).fit(np.zeros((3, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="1 images have 9 patches, fewer than 10 centres"):
        learner(10, 6).fit(np.zeros((1, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("method", ["mae", "supervised"])
def test_a_peer_that_was_stopped_ends_as_one_that_was_not(benchmark, tmp_path, method):
    from safetensors.numpy import load_file

    train_peer = benchmark("train_peer")
    parser = argparse.ArgumentParser()
    train_peer.add_training_options(parser)
    given = ["--limit", "60", "--steps", "4", "--batch-size", "8", "--save-every", "2", "--validation", "10", "--precision", "fp32"]
    args = parser.parse_args(given)
    args.method, args.data = method, "sample:digits"
    args.out = tmp_path / "whole"
    whole = train_peer.train(args)
    assert (whole["step"], whole["images_seen"], whole["method"]) == (4, 32, method)
    args.out = tmp_path / "stopped"
    real = train_peer.checkpoint.save

    def saved_then_killed(*wanted, **more):
        real(*wanted, **more)
        raise KeyboardInterrupt

    train_peer.checkpoint.save = saved_then_killed
    try:
        with pytest.raises(KeyboardInterrupt):
            train_peer.train(args)
    finally:
        train_peer.checkpoint.save = real
    train_peer.train(args)
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    for key, value in ours.items():
        np.testing.assert_allclose(theirs[key], value, rtol=0, atol=1e-7)
    args.learning_rate = 0.5
    with pytest.raises(ValueError, match="holds a run with another learning_rate"):
        train_peer.train(args)


def test_two_views_by_lightly(benchmark, tmp_path):
    pytest.importorskip("lightly")
    objectives = benchmark("peer_objectives")
    views = objectives.views_for("simclr", 16)(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3), np.random.default_rng(0))
    assert views.shape == (2, 16, 16, 3)
    assert (views[0] != views[1]).any()


def test_rows_are_made_by_one_command_each_and_compared(benchmark, options, tmp_path, monkeypatch, capsys):
    module = benchmark("equal_budget")
    for row in (["pixels"], ["mae"], ["bigr", "--model", "bigr_nano.fashion_mnist", "--images-seen", "32"]):
        monkeypatch.setattr(sys, "argv", options("--layers", "7", "--row", *row))
        module.main()
    printed = capsys.readouterr().out
    assert "not there yet: simclr, supervised, random, bits, kmeans, imagenet" in printed
    assert "BiGR - masked autoencoder, mean:" in printed
    rows = {name: json.loads((tmp_path / f"{name}_seed0.json").read_text()) for name in ("pixels", "mae", "bigr")}
    assert rows["mae"]["images_seen"] == 32
    assert rows["mae"]["core_seconds"] > 0
    assert rows["bigr"]["best"]["holdout_accuracy"] >= rows["bigr"]["mean"]["holdout_accuracy"]
    for row in rows.values():
        right = np.unpackbits(np.frombuffer(base64.b64decode(row["mean"]["right"]), np.uint8))[: row["dataset"]["test"]]
        assert right.mean() == pytest.approx(row["mean"]["accuracy"])


def test_a_paired_difference_by_hand(benchmark):
    module = benchmark("equal_budget")
    right = np.array([[1] * 60 + [0] * 40, [1] * 40 + [0] * 60], bool)
    rows = [{"right": base64.b64encode(np.packbits(one)).decode()} for one in right]
    difference, (low, high) = module.paired(*rows, 100)
    assert difference == pytest.approx(0.2)
    assert 0.11 < low < 0.14
    assert 0.26 < high < 0.30
    assert module.paired(rows[0], rows[0], 100) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "give --row, one of bigr, mae"),
        (["--row", "bits"], "--row bits needs --model"),
        (["--row", "bigr", "--model", "bigr_nano"], "--row bigr needs --images-seen"),
    ],
)
def test_what_a_row_lacks_is_said(benchmark, options, monkeypatch, capsys, given, message):
    monkeypatch.setattr(sys, "argv", options(*given))
    with pytest.raises(SystemExit):
        benchmark("equal_budget").main()
    assert message in capsys.readouterr().err
