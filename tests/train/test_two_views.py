"""Promises of the two-view term: VICReg as published, pairs of different views, the generative loss untouched, exact resume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bigr_features import BiGR
from bigr_features.checkpoints import load_model
from bigr_features.train import checkpoint
from bigr_features.train.code_cache import EncodeConfig, encode
from bigr_features.train.generator import train
from bigr_features.train.sampler import BatchSampler
from bigr_features.train.two_views import vicreg

from .small import GENERATOR, logged


@given(n=st.integers(2, 40), d=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_the_terms_are_those_of_the_paper(n, d, seed):
    source = np.random.default_rng(seed)
    views = [source.standard_normal((n, d)) * source.uniform(0.2, 3) for _ in range(2)]
    invariance, variance, covariance = (term.item() for term in vicreg(*(torch.from_numpy(view) for view in views)))
    assert invariance == pytest.approx(((views[0] - views[1]) ** 2).mean())
    hinges = [np.maximum(0, 1 - np.sqrt(view.var(0, ddof=1) + 1e-4)).mean() for view in views]
    assert variance == pytest.approx(np.mean(hinges))
    matrices = [np.atleast_2d(np.cov(view.T)) for view in views]
    assert covariance == pytest.approx(sum((m**2).sum() - (np.diag(m) ** 2).sum() for m in matrices) / d, abs=1e-9)


def test_embeddings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(4, 3\) and \(4, 2\); expected twice \(n, d\)"):
        vicreg(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="n of 2 or more"):
        vicreg(torch.zeros(1, 3), torch.zeros(1, 3))


@given(n=st.integers(2, 50), half=st.integers(1, 20), views=st.integers(2, 10), seed=st.integers(0, 100))
def test_views_of_an_image_stand_side_by_side_and_differ(n, half, views, seed):
    items = np.arange(n) * 3
    batches = list(BatchSampler(items, range(4), 2 * half, slice(0, 2 * half), views, seed, paired=True))
    seen = np.concatenate([batch.items[0::2] for batch in batches])
    for batch in batches:
        np.testing.assert_array_equal(batch.items[0::2], batch.items[1::2])
        assert (batch.views[0::2] != batch.views[1::2]).all()
        assert set(batch.views) <= set(range(views))
    assert set(seen[:n]) == set(items) or len(seen) < n  # every image once before any twice


def test_the_stream_is_that_of_the_block_and_the_loss_stays():
    torch.manual_seed(0)
    model = BiGR(GENERATOR).eval()
    codes = torch.randint(2, (3, 16, 8)).float()
    draws = {"timesteps": torch.full((3, 16), 5), "noisy_codes": codes, "mask": torch.arange(16).expand(3, 16) < 9}
    plain, both = model.loss(codes, **draws), model.loss(codes, **draws, stream_layer=0)
    assert plain.stream is None
    torch.testing.assert_close(both.loss, plain.loss)
    torch.testing.assert_close(both.stream, model.hidden_states(codes, mask=draws["mask"], layers=[0])[0])


@pytest.fixture(scope="module")
def two_views(tokenizer_folder, tmp_path_factory):
    """A cache with an image and its mirror image."""
    folder = tmp_path_factory.mktemp("views")
    options = {"limit": 120, "views": "flip", "device": "cpu", "precision": "fp32", "threads": 1}
    encode(EncodeConfig(tokenizer=tokenizer_folder, source="sample:digits", out=folder, **options))
    return folder


def test_views_grow_alike_and_a_resumed_training_ends_bitwise_equal(train_config, two_views, tmp_path):
    config = train_config(codes=two_views, two_view_weight=2.0, steps=60, checkpoint_every=30, validate_every=60, learning_rate=3e-3)
    train(replace(config, out=tmp_path / "whole"))
    train(replace(config, out=tmp_path / "part", steps=30))
    train(replace(config, out=tmp_path / "part", resume=True))
    states = [checkpoint.load(tmp_path / run / "checkpoints") for run in ("whole", "part")]
    for name in ("model", "ema"):
        for key, value in states[0][name].items():
            assert torch.equal(states[1][name][key], value), key
    for key, value in states[0]["two_views"]["model"].items():
        assert torch.equal(states[1]["two_views"]["model"][key], value), key
    lines = logged(tmp_path / "whole")
    terms = [line["two_view"] for line in lines]
    assert np.median(terms[-10:]) < 0.9 * np.median(terms[:5])
    assert {"view_invariance", "view_variance", "view_covariance"} <= set(lines[0])
    assert "two_view" not in logged(tmp_path / "whole", "validation")[-1]
    assert load_model(tmp_path / "whole" / "model").config == config.model


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"two_view_weight": -1.0}, "two_view_weight=-1.0; expected 0 or more"),
        ({"two_view_weight": 0.1, "batch_size": 18, "micro_batches": 2}, "batch_size=18 in 2 parts .*give a multiple of 4, at least 8"),
        ({"two_view_weight": 0.1, "two_view_layer": 2}, r"two_view_layer=2; the model has blocks 0\.\.1"),
    ],
)
def test_settings_that_cannot_work_are_refused(train_config, two_views, changes, message):
    with pytest.raises(ValueError, match=message):
        train(train_config(codes=two_views, **changes))


def test_one_view_is_not_enough(train_config):
    with pytest.raises(ValueError, match="needs two views of an image, but these have one; encode them with --views flip"):
        train(train_config(two_view_weight=0.1))
