"""Promises about devices: the steps of training never wait for one and need no float64; loaders work in every kind of process."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from bigr_features.data import load_sample, open_images
from bigr_features.functional.packing import pack_bits, unpack_bits
from bigr_features.train import batches, draws, generator, tokenizer
from bigr_features.train.code_cache import CodeCache
from bigr_features.train.monitor import Monitor
from bigr_features.train.sampler import BatchSampler, SampledBatch

from ..waiting import NoFloat64, NoWaiting
from .small import GENERATOR


def watch_steps(monkeypatch, module, mode) -> list[int]:
    """Let `mode` watch every step of a training, from its learning rate to its metrics; the list grows by each step watched."""
    watched = []
    begin, end = module.set_learning_rate, Monitor.add

    def set_learning_rate(*args):
        begin(*args)
        mode.__enter__()

    def add(self, step, *args):
        end(self, step, *args)
        mode.__exit__(None, None, None)
        watched.append(step)

    monkeypatch.setattr(module, "set_learning_rate", set_learning_rate)
    monkeypatch.setattr(Monitor, "add", add)
    return watched


@pytest.mark.parametrize("mode", [NoWaiting, NoFloat64])
@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batches": 2, "timesteps_per_token": 3},
        {"codes": None, "source": "sample:digits", "sample_bits": True},
        {"unconditional": True, "grad_checkpointing": True},
        {"model": replace(GENERATOR, causal=True, aux_weight=0.1)},
        {"bit_flips": 0.1, "mask_distribution": "truncated_normal"},
    ],
    ids=["codes", "images", "unconditional", "causal", "noisy"],
)
def test_a_step_of_generator_training_waits_for_no_device(train_config, monkeypatch, changes, mode):
    draws.keep_table(GENERATOR.num_timesteps, GENERATOR.noise_schedule)  # made once, on the CPU
    watched = watch_steps(monkeypatch, generator, mode())
    generator.train(train_config(steps=2, log_every=10, validate_every=10, checkpoint_every=10, **changes))
    assert watched == [1, 2]


@pytest.mark.parametrize("mode", [NoWaiting, NoFloat64])
def test_a_step_of_tokenizer_training_waits_for_no_device(tokenizer_config, monkeypatch, mode):
    watched = watch_steps(monkeypatch, tokenizer, mode())
    config = tokenizer_config(steps=2, adversarial_weight=0.5, adversarial_start=1, discriminator_width=8, discriminator_depth=1)
    tokenizer.train_tokenizer(replace(config, micro_batches=2))
    assert watched == [1, 2]


def test_codes_travel_as_bytes(codes_folder, device):
    cached = batches.CachedCodes(CodeCache(codes_folder), unconditional=False)
    sampler = [SampledBatch(0, np.array([5, 0, 199])), SampledBatch(1, np.array([7, 7]))]
    found = list(cached.batches(sampler, device))
    for (codes, labels), batch in zip(found, sampler, strict=True):
        assert codes.device.type == labels.device.type == device.type
        np.testing.assert_array_equal(codes.cpu(), unpack_bits(cached.cache.read(batch.items), 16, 8))
        np.testing.assert_array_equal(labels.cpu(), cached.cache.labels[batch.items])


def test_bits_pack_and_unpack_on_every_device(device):
    codes = torch.randint(2, (3, 7, 5), generator=torch.Generator().manual_seed(0))
    packed = pack_bits(codes.to(device))
    np.testing.assert_array_equal(packed.cpu(), pack_bits(codes.numpy()))
    assert torch.equal(unpack_bits(packed, 7, 5).cpu().long(), codes)


# ---------------------------------------------------------------------------------------------------------------------- reading


def test_reading_ahead_keeps_the_order_and_stays_a_little_in_front():
    read = []

    def double(item: int) -> int:
        read.append(item)
        return 2 * item

    found = batches.read_ahead(double, range(100), ahead=2)
    assert [next(found) for _ in range(10)] == list(range(0, 20, 2))
    found.close()
    assert read == list(range(len(read)))
    assert len(read) <= 13
    assert list(batches.read_ahead(double, [])) == []


def test_an_error_in_reading_reaches_the_loop():
    def fail_at_three(item: int) -> int:
        if item == 3:
            raise OSError("the disk is gone")
        return item

    found = batches.read_ahead(fail_at_three, range(10))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images in two classes, one of them broken."""
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(load_sample("digits").train_images[:12]):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / "ab"[i % 2] / f"{i:02d}.png")
    (folder / "a" / "04.png").write_bytes(b"broken")
    return folder


def test_what_a_worker_takes_can_be_pickled(folder):
    images = open_images(str(folder), size=16, in_chans=3, memory_limit=0)
    sampler = BatchSampler(np.arange(12), range(3), 4, slice(0, 4), 2, seed=0)
    copy, sampled = pickle.loads(pickle.dumps((images, sampler)))
    for ours, theirs in zip(sampler, sampled, strict=True):
        np.testing.assert_array_equal(ours.items, theirs.items)
        np.testing.assert_array_equal(ours.views, theirs.views)
    np.testing.assert_array_equal(copy.read(np.arange(12))[0], images.read(np.arange(12))[0])


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_loaders_work_in_processes_that_share_nothing(folder, monkeypatch, context):
    """As on Windows and macOS, where workers are not forked."""
    sampler = BatchSampler(np.arange(12), range(4), 6, slice(0, 6), 2, seed=0)
    read = lambda workers: list(  # noqa: E731
        batches.image_batches(open_images(str(folder), size=16, in_chans=3, memory_limit=0), sampler, "cpu", workers)
    )
    here = read(0)
    monkeypatch.setattr("torch.utils.data.DataLoader", partial(torch.utils.data.DataLoader, multiprocessing_context=context))
    there = read(1)
    for (pixels, batch), (others, other) in zip(here, there, strict=True):
        assert torch.equal(pixels, others)
        np.testing.assert_array_equal(batch.items, other.items)
