"""Fixtures of several test files: the golden sets with the models that belong to them."""

from __future__ import annotations

import copy
import signal

import pytest
import torch
from hypothesis import settings
from safetensors.torch import load_file

from bigr_features.checkpoints import load_llamagen_tokenizer, load_official_generator, load_official_tokenizer
from bigr_features.functional.int8 import Int8Unavailable, check_int8

from .helpers import SYSTEMS, GoldenSet, load_system

# the same examples in every run, and no limit on the time of one
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


def pytest_configure(config):
    config.addinivalue_line("markers", "golden(*patterns): recorded tensors that this test compares, all of them")
    config.addinivalue_line("markers", "slow: takes many seconds; `-m 'not slow'` leaves it out, the whole suite runs it")


@pytest.fixture(autouse=True)
def _interruptible():
    """Ctrl-C is Python's own in every test, however pytest was started and whatever a command before left behind."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _one_thread():
    """Recorded numbers were made with one thread, and small models are slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def int8_kernel():
    """Skips where torch has no int8 product for this processor, and says so: there the product refuses int8 in the same words."""
    try:
        check_int8("cpu")
    except Int8Unavailable as error:
        pytest.skip(str(error))


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


@pytest.fixture
def golden_vq(request):
    """The recorded VQ tokenizer set."""
    yield from _golden(request, "systems/llamagen_vq")


@pytest.fixture(scope="session")
def vq_tokenizer():
    """The tokenizer of that set, in eval mode, read from its official-format file. Not to be changed."""
    golden = GoldenSet("systems/llamagen_vq")
    return load_llamagen_tokenizer(golden.folder / "official_checkpoint.pt", golden.config).eval()


@pytest.fixture(params=SYSTEMS)
def golden_system(request):
    """Each recorded generator of a compared system."""
    yield from _golden(request, request.param)


@pytest.fixture(scope="session")
def _recorded_systems():
    return {name: load_system(name) for name in SYSTEMS}


@pytest.fixture
def system(golden_system, _recorded_systems):
    """The generator of that set, in eval mode; a copy of the test's own."""
    return copy.deepcopy(_recorded_systems[golden_system.name])


@pytest.fixture(scope="session")
def _recorded_generators(tmp_path_factory):
    models = {}
    for name in ("gen_a", "gen_b"):
        golden = GoldenSet(name)
        path = golden.folder / "official_checkpoint.pt"
        if not path.is_file():
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


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))])
def device(request) -> torch.device:
    """The CPU, and CUDA where there is one."""
    return torch.device(request.param)
