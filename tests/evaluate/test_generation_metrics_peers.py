"""The metrics of generation equal torch-fidelity's and torchmetrics' functions on random cases, and do not depend on block sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bigr_features.evaluate.frechet import frechet_feature_distance, frechet_interval, moments
from bigr_features.evaluate.inception_score import inception_score
from bigr_features.evaluate.kid import kernel_distance
from bigr_features.evaluate.manifold import manifold_hits, precision_recall
from bigr_features.evaluate.memorisation import memorisation

CASES = range(100)


def case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of some size, width, scale and offset."""
    rng = np.random.default_rng(seed)
    dim = int(rng.integers(2, 24))
    n, m = (int(rng.integers(2 * dim + 8, 3 * dim + 80)) for _ in range(2))
    mix = rng.normal(size=(dim, dim))
    scale, offset = 10 ** rng.uniform(-2, 2), rng.normal(size=dim) * 10 ** rng.uniform(-1, 2)
    ours = rng.normal(size=(n, dim)) @ mix * scale + offset
    theirs = (rng.normal(size=(m, dim)) * rng.uniform(0.5, 1.5, dim)) @ mix * scale + offset + rng.normal(size=dim) * scale * 0.3
    return ours, theirs


@pytest.mark.parametrize("seed", CASES)
def test_frechet_distance_is_that_of_torch_fidelity(seed):
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    ours, theirs = case(seed)
    statistics = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (ours, theirs)]
    expected = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_feature_distance(ours, theirs) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", CASES)
def test_kernel_distance_is_that_of_torch_fidelity(seed):
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid")
    ours, theirs = case(seed)
    size = min(len(ours), len(theirs)) - 3
    settings = {"kid_subsets": 7, "kid_subset_size": size, "rng_seed": seed, "verbose": False}
    expected = metric_kid.kid_features_to_metric(torch.from_numpy(ours), torch.from_numpy(theirs), **settings)
    found = kernel_distance(ours, theirs, subsets=7, subset_size=size, seed=seed, resamples=10)
    largest = ((np.square(ours).sum(1).max() + np.square(theirs).sum(1).max()) / ours.shape[1] + 1) ** 3  # of the kernel: scale of rounding
    assert found.mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-6, abs=1e-13 * largest)
    assert found.std == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-6, abs=1e-13 * largest)


@pytest.mark.parametrize("seed", CASES)
def test_inception_score_is_that_of_torch_fidelity(seed):
    metric_isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = case(seed)[0]
    splits = 1 + seed % 10
    expected = metric_isc.isc_features_to_metric(torch.from_numpy(logits), splits=splits, shuffle=seed % 2 == 0, rng_seed=seed)
    found = inception_score(logits, splits=splits, shuffle=seed if seed % 2 == 0 else None, resamples=2)
    assert found.mean == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert found.std == pytest.approx(expected["inception_score_std"], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("seed", CASES)
def test_precision_and_recall_are_those_of_torch_fidelity(seed):
    metric_prc = pytest.importorskip("torch_fidelity.metric_prc")
    ours, theirs = case(seed)
    settings = {"prc_neighborhood": 1 + seed % 5, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
    expected = metric_prc.prc_features_to_metric(torch.from_numpy(ours), torch.from_numpy(theirs), **settings)
    found = precision_recall(ours, theirs, 1 + seed % 5)
    assert found == pytest.approx((expected["precision"], expected["recall"]), rel=1e-6)


def test_frechet_distance_is_that_of_torchmetrics():
    image = pytest.importorskip("torchmetrics.image")

    class Identity(torch.nn.Module):
        num_features = 12

        def forward(self, x):
            return x.flatten(1)

    rng = np.random.default_rng(5)
    ours, theirs = rng.normal(size=(400, 12)), rng.normal(0.2, 1.3, size=(300, 12))
    metric = image.FrechetInceptionDistance(feature=Identity(), normalize=True).set_dtype(torch.float64)
    for features, real in ((ours, False), (theirs, True)):
        metric.update(torch.from_numpy(features)[:, :, None, None].expand(-1, -1, 1, 1), real=real)
    assert frechet_feature_distance(ours, theirs) == pytest.approx(float(metric.compute()), rel=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_block_sizes_change_nothing(rows, monkeypatch):
    ours, theirs = case(3)
    whole, chunked = manifold_hits(ours, theirs), manifold_hits(ours, theirs, block_rows=rows)
    for name in ("precise", "recalled", "balls", "covered"):
        assert np.array_equal(getattr(whole, name), getattr(chunked, name))
    copies = memorisation(ours, theirs, theirs[::2] + 0.1), memorisation(ours, theirs, theirs[::2] + 0.1, block_rows=rows)
    assert np.array_equal(copies[0].nearest, copies[1].nearest)
    assert copies[0].closer_than_test == copies[1].closer_than_test
    mean, covariance = moments(ours)
    interval = frechet_interval(ours, theirs, resamples=5)
    monkeypatch.setattr("bigr_features.evaluate.frechet.rows_per_block", lambda columns: rows)
    np.testing.assert_allclose(moments(ours)[0], mean, rtol=1e-12, atol=1e-12 * np.abs(ours).max())
    np.testing.assert_allclose(moments(ours)[1], covariance, rtol=1e-10, atol=1e-12 * np.abs(covariance).max())
    assert frechet_interval(ours, theirs, resamples=5) == pytest.approx(interval, rel=1e-9)
