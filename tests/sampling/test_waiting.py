"""Promises about devices: the loops of sampling never wait for one, need no float64, and give the same images on each."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from bigr_features.functional.inference import evaluating
from bigr_features.sampling import editing, interpolation, masked, noise, orders, process, start

from ..helpers import TINY, backbone, pixels, random_codes, tiny_generator
from ..waiting import NoFloat64, NoWaiting

LABELS = torch.tensor([0, 1, 4, 2])  # 4 is the null class
MASKS = torch.stack([torch.arange(9) < hidden for hidden in (9, 5, 1, 7)])
CASES = {
    "entropy": {"gumbel_temperature": 0.3},
    "random": {"order": "random"},
    "raster": {"order": "raster", "guidance_scale": 1.0},
    "halton": {"order": "halton", "bits": "threshold", "guidance_schedule": "linear"},
    "exact": {"posterior": "exact", "batch_invariant": True},
}


def watched(monkeypatch, mode) -> None:
    """Let `mode` watch the loop of sampling: what runs while the model is set to evaluate."""

    @contextmanager
    def evaluating_and_watching(model):
        with evaluating(model), mode:
            yield

    monkeypatch.setattr(masked, "evaluating", evaluating_and_watching)


@pytest.mark.parametrize("source", ["seeds", "generator", "global"])
@pytest.mark.parametrize("name", CASES)
def test_the_loop_of_sampling_waits_for_no_device(name, source, monkeypatch, device):
    model, known = tiny_generator().to(device), random_codes(TINY, batch=4)
    given = {"seeds": {"seeds": [1, 2, 3, 4]}, "generator": {"generator": torch.Generator().manual_seed(0)}, "global": {}}[source]
    settings = {"num_reveal_steps": 4, "num_denoise_steps": 3, "batch_invariant": False, **CASES[name], **given}
    watched(monkeypatch, NoWaiting())
    assert model.generate(LABELS.to(device), **settings).shape == (4, 9, 5)
    assert model.generate(LABELS.to(device), codes=known.to(device), mask=MASKS.to(device), **settings).shape == (4, 9, 5)


def test_the_watcher_notices_what_waits():
    with pytest.raises(AssertionError, match="reads a value"), NoWaiting():
        torch.ones(2).sum().item()
    with pytest.raises(AssertionError, match="reads a value"), NoWaiting():
        torch.ones(2).nonzero()
    with pytest.raises(AssertionError, match="counts its entries"), NoWaiting():
        torch.ones(2)[torch.tensor([True, False])]
    with pytest.raises(AssertionError, match="counts its entries"), NoWaiting():
        torch.ones(2)[torch.tensor([True, False])] = 3.0
    with pytest.raises(AssertionError, match="copies from meta to the host"), NoWaiting():
        torch.ones(2, device="meta").cpu()
    with pytest.raises(AssertionError, match="meets float64"), NoFloat64():
        torch.ones(2).double()


def test_the_draws_of_a_step_are_copied_at_once():
    """One copy a step to the device, however many images, draws and seeds; the meta device stands for an accelerator."""
    for images in (1, 5):
        sources = noise.make_noise(images, seeds=range(images))
        like = torch.empty(0, device="meta")
        with NoWaiting() as watcher:
            draws = sources.step([3] * images, 100, True, 5, 9, like)
            draw = draws.chain(slice(0, 3))
            bits = [draw(torch.empty(3, 5, device="meta")) for _ in range(100)]
            numbers = draws.gumbel("meta"), draws.final(torch.empty(3 * images, 5, device="meta"))
        assert watcher.copies == 1
        assert {one.device.type for one in (*bits, *numbers)} == {"meta"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("gumbel", [0, 9])
def test_draws_made_ahead_are_those_drawn_one_by_one(dtype, final, gumbel):
    rows, like = [3, 0, 2], torch.empty(0, dtype=dtype)
    probabilities = [torch.rand(5, 4, generator=torch.Generator().manual_seed(i), dtype=dtype) for i in range(4)]
    ahead, lazy = (noise.make_noise(3, seeds=[5, 6, 5]) for _ in range(2))
    draws = ahead.step(rows, 3, final, 4, gumbel, like)
    first, second = draws.chain(slice(0, 3)), draws.chain(slice(3, 5))
    for probability in probabilities[:3]:
        together = torch.cat([first(probability[:3]), second(probability[3:])])
        assert torch.equal(together, lazy.bernoulli(probability, rows))
    if gumbel:
        assert torch.equal(draws.gumbel("cpu"), lazy.gumbel((3, gumbel), "cpu"))
    if final:
        assert torch.equal(draws.final(probabilities[3]), lazy.bernoulli(probabilities[3], rows))
    after = [torch.rand(1, generator=one) for one in ahead.generators]
    assert after == [torch.rand(1, generator=one) for one in lazy.generators]


@pytest.mark.parametrize("name", CASES)
def test_sampling_needs_no_float64(name):
    model = tiny_generator()
    settings = {"num_reveal_steps": 4, "num_denoise_steps": 3, **CASES[name]}
    model.generate(LABELS, seeds=[1, 2, 3, 4], **settings)  # tables are made once, on the CPU
    with NoFloat64():
        model.generate(LABELS, seeds=[1, 2, 3, 4], **settings)
        model.generate(LABELS, generator=torch.Generator().manual_seed(0), codes=random_codes(TINY, batch=4), mask=MASKS, **settings)


def test_editing_and_interpolation_need_no_float64():
    model = backbone("tiny")
    images, mask = pixels(model, batch=2), torch.zeros(64, 64, dtype=torch.bool)
    mask[16:40, 16:50] = True
    settings = {"num_reveal_steps": 2, "num_denoise_steps": 2, "seeds": [0, 1]}
    with NoFloat64():
        editing.inpaint(model, images, mask, 2, **settings)
        editing.outpaint(model, images[:, :, :40, :40], 2, **settings)
        editing.enrich(model, images[:, :, ::2, ::2], 2, num_passes=2, **settings)
        model.generate(torch.tensor([[0, 1], [2, 3]]), label_weights=torch.tensor([[0.5, 0.5], [0.1, 0.9]]), **settings)


def test_tables_are_made_on_the_cpu_whatever_the_default_device_is():
    from bigr_features.functional import bernoulli, rope

    with torch.device("meta"):
        for schedule in bernoulli.NOISE_SCHEDULES:
            assert bernoulli.keep_probabilities(16, schedule).device.type == "cpu"
        assert rope.rope_table(3, 8).device.type == "cpu"


def test_numbers_for_people_are_made_on_the_cpu():
    probabilities = torch.tensor([[0.5, 1.0], [0.0, 0.0]])
    assert process.token_entropy(probabilities).tolist() == [0.5, 0.0]
    weights = interpolation.normalized_weights(torch.tensor([[1, 3]]), 2)
    torch.testing.assert_close(weights, torch.tensor([[0.25, 0.75]]))


@pytest.mark.parametrize("order", orders.ORDERS[1:])
def test_known_orders_are_the_same_as_in_float64(order):
    mask = torch.rand(6, 4096, generator=torch.Generator().manual_seed(0)) < 0.7
    found = orders.known_ranks(order, mask, noise.make_noise(6, seeds=range(6)))
    again = noise.make_noise(6, seeds=range(6))
    position = {
        "random": lambda: again.uniform((6, 4096), "cpu"),
        "raster": lambda: torch.arange(4096).expand(6, -1),
        "halton": lambda: torch.tensor(orders.halton_ranks(64)).expand(6, -1),
    }[order]()
    assert torch.equal(found, orders.ranks(position.double().masked_fill(~mask, torch.inf)))


def test_seeded_images_run_together_on_an_accelerator_and_alone_on_a_cpu():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [start.runs_one_by_one(given, cpu) for given in (None, True, False)] == [True, True, False]
    assert [start.runs_one_by_one(given, gpu) for given in (None, True, False)] == [False, True, False]


def test_a_seed_gives_the_same_codes_on_every_device(device):
    """In float64, where no draw lies within rounding of its probability."""
    model = tiny_generator().double()
    settings = {"num_reveal_steps": 4, "seeds": [1, 2, 3, 4], "gumbel_temperature": 0.3}
    expected = model.generate(LABELS, **settings)
    assert torch.equal(model.to(device).generate(LABELS.to(device), **settings).cpu(), expected)
