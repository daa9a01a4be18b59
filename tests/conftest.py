"""Fixtures of several test files: the golden sets with the models that belong to them."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import settings
from safetensors.torch import load_file

from bigr_features.checkpoints import load_official_generator, load_official_tokenizer

from .helpers import GoldenSet

# the same examples in every run, and no limit on the time of one
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes many seconds; left out by -m 'not slow'")
    config.addinivalue_line("markers", "golden(*patterns): recorded tensors that this test compares, all of them")


@pytest.fixture(autouse=True)
def _one_thread():
    """Recorded numbers were made with one thread, and small models are slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _golden(request, name: str):
    """The set; afterwards, everything that the test's mark names must have been compared."""
    golden = GoldenSet(name)
    yield golden
    marked = request.node.get_closest_marker("golden")
    forgotten = golden.matching(marked.args if marked else ()) - golden.checked
    assert not forgotten, f"the test promises to compare {sorted(forgotten)} but does not"


@pytest.fixture(params=["gen_a", "gen_b"])
def golden(request):
    """Each recorded generator set."""
    yield from _golden(request, request.param)


@pytest.fixture
def golden_tokenizer(request):
    """The recorded autoencoder set."""
    yield from _golden(request, "ae")


@pytest.fixture(scope="session")
def _recorded_generators(tmp_path_factory):
    models = {}
    for name in ("gen_a", "gen_b"):
        golden = GoldenSet(name)
        path = tmp_path_factory.mktemp(name) / "published.pt"
        torch.save({"ema": load_file(golden.folder / "generator.safetensors")}, path)
        models[name] = load_official_generator(path, golden.config).eval()
    return models


@pytest.fixture
def generator(golden, _recorded_generators):
    """The generator of the golden set, in eval mode; a copy of the test's own."""
    return copy.deepcopy(_recorded_generators[golden.name])


@pytest.fixture(scope="session")
def tokenizer():
    """The tokenizer of the golden set `ae`, in eval mode, read from its official-format file. Not to be changed."""
    golden = GoldenSet("ae")
    return load_official_tokenizer(golden.folder / "official_bae.th", golden.config).eval()
