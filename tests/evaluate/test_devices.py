"""Evaluators on other devices: the same answers, no double precision where there is none, no waiting inside training steps."""

from __future__ import annotations

import traceback

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification
from torch.utils._python_dispatch import TorchDispatchMode

from bigr_features import KNNClassifier, LinearProbe
from bigr_features.evaluate import devices
from bigr_features.evaluate.attentive_probe import AttentiveProbe, EfficientProbe
from bigr_features.evaluate.mae_probe import MAEProbe
from bigr_features.evaluate.neighbors import CosineSearch

PROBES = {
    "linear": LinearProbe(Cs=(0.01, 0.1)),
    "mae": MAEProbe(base_lrs=(1.0, 3.0), batch_size=50, epochs=3, warmup_epochs=1),
    "knn": KNNClassifier(n_neighbors=(1, 5), whiten=(None, 0.1)),
    "knn, fast": KNNClassifier(n_neighbors=5, fast=True),
    "attentive": AttentiveProbe(num_heads=2, lrs=(1e-3, 3e-3), epochs=1),
    "efficient": EfficientProbe(num_queries=(1, 2), lrs=1e-3, epochs=1),
}
each_probe = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(400, 48, n_informative=12, n_classes=3, random_state=0)
    return X.astype(np.float32), y


def shaped(probe, X):
    """Pooled features, or the same numbers as 6 tokens of 8 features."""
    return X.reshape(len(X), 6, 8) if isinstance(probe, AttentiveProbe | EfficientProbe) else X


class NoDouble(TorchDispatchMode):
    """A device without double precision, as far as torch's work shows: any tensor of it is an error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                raise TypeError(f"{func} makes float64, which this device does not have")
        return result


@each_probe
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_no_double_precision_on_a_device_that_lacks_it(probe, dtype, data, monkeypatch):
    """In training and in prediction; what needs double precision is done in NumPy."""
    for module in ("devices", "arrays", "linear_probe", "mae_probe"):
        monkeypatch.setattr(f"bigr_features.evaluate.{module}.has_float64", lambda device: False)
    X, y = data
    X = shaped(probe, X.astype(dtype))
    fitted = type(probe)(**probe.get_params())
    with NoDouble():
        step = fitted.fit(X, y).predict(X)
    np.testing.assert_array_equal(step, type(probe)(**probe.get_params()).fit(X.astype(np.float32), y).predict(X))


def test_the_mode_of_the_test_above_does_catch_double_precision():
    with NoDouble(), pytest.raises(TypeError, match="float64"):
        torch.zeros(2, dtype=torch.float64)


@each_probe
@pytest.mark.parametrize("device", ["cuda:99", "gpu", "meta", 3.5])
def test_a_device_that_is_not_there_is_named(probe, device, data):
    X, y = data
    with pytest.raises(ValueError, match=f"device='?{device}'? cannot be used"):
        type(probe)(**probe.get_params() | {"device": device}).fit(shaped(probe, X), y)


def test_a_device_is_given_as_text_or_as_torch_has_it():
    assert devices.checked_device("cpu") == devices.checked_device(torch.device("cpu")) == devices.CPU
    assert devices.has_float64(devices.CPU)
    assert devices.most_precise(devices.CPU) == torch.float64


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@each_probe
def test_a_gpu_gives_the_answers_of_the_cpu(probe, data):
    X, y = data
    X = shaped(probe, X)
    shares = [type(probe)(**probe.get_params() | {"device": device}).fit(X, y).predict_proba(X) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(*shares, atol=2e-3)


@pytest.mark.parametrize("n", [50, 3000])
def test_shortlists_by_a_product_are_those_of_faiss(n):
    """The search of other devices, run here on the CPU."""
    rng = np.random.default_rng(0)
    gallery, queries = (rng.standard_normal((count, 24)).astype(np.float32) for count in (n, 40))
    search, other = CosineSearch(gallery, fast=False), CosineSearch(gallery, fast=False)
    other._items = torch.from_numpy(other.gallery)
    expected, found = (one.search(queries, 7) for one in (search, other))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


class NoWaiting(TorchDispatchMode):
    """Fails on what makes the host wait for a device: a number read from a tensor, or positions of nonzero entries.

    Initial weights are drawn on the CPU, and AdamW keeps its count of steps there: reading those waits for nothing.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        if waits and not any(part in frame.filename for frame in traceback.extract_stack() for part in ("torch/optim/", "nn/init.py")):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["mae", "attentive", "efficient"])
def test_training_steps_do_not_wait_for_the_device(name, data):
    X, y = data
    probe = PROBES[name]
    fitted = type(probe)(**probe.get_params()).fit(shaped(probe, X), y)  # AdamW and others warm up
    with NoWaiting():
        if name == "mae":
            fitted._train(X, y.astype(np.int64), np.arange(len(y)), np.array([1.0, 3.0]))
        else:
            fitted._train(shaped(probe, X), y.astype(np.int64), np.arange(len(y)), devices.CPU, 2, 1e-3, 1)
