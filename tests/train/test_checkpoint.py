"""Promises of training checkpoints: whole files, the last and the best kept, nothing lost on a full disk."""

from __future__ import annotations

import random
import resource

import numpy as np
import pytest
import torch

from bigr_features.train import checkpoint


def state(step: int, best: int | None = None, size: int = 4) -> dict:
    return {"step": step, "best": None if best is None else {"step": best, "loss": 0.5}, "weights": torch.full((size,), float(step))}


def test_what_is_saved_comes_back(tmp_path):
    checkpoint.save(tmp_path, state(3))
    loaded = checkpoint.load(tmp_path)
    assert loaded["step"] == 3
    assert torch.equal(loaded["weights"], torch.full((4,), 3.0))


def test_last_best_and_chosen_steps_are_kept(tmp_path):
    for step in range(1, 9):
        checkpoint.save(tmp_path, state(step, best=min(step, 4)), keep_last=2, keep_steps=(1, 6))
    assert checkpoint.steps_in(tmp_path) == [1, 4, 6, 7, 8]
    assert checkpoint.load(tmp_path, 4)["step"] == 4


def test_leftovers_of_a_killed_process_are_ignored_and_removed(tmp_path):
    checkpoint.save(tmp_path, state(1))
    (tmp_path / ".step_00000002.pt.123").write_bytes(b"half a file")
    assert checkpoint.steps_in(tmp_path) == [1]
    checkpoint.save(tmp_path, state(3))
    assert not list(tmp_path.glob(".step_*"))


def test_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    checkpoint.save(tmp_path, state(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # writes beyond it fail, as on a full disk
    try:
        with pytest.raises(OSError, match="the last good checkpoint is that of step 1"):
            checkpoint.save(tmp_path, state(2, size=1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.load(tmp_path)["step"] == 1
    assert not list(tmp_path.glob(".step_*"))


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no checkpoint"):
        checkpoint.load(tmp_path)
    torch.save({"model": {}}, tmp_path / "step_00000001.pt")
    with pytest.raises(ValueError, match="no training checkpoint"):
        checkpoint.load(tmp_path)


def test_every_source_of_randomness_is_restored(tmp_path):
    generator = torch.Generator().manual_seed(1)

    def draws():
        return random.random(), np.random.rand(), torch.rand(2).tolist(), torch.rand(2, generator=generator).tolist()  # noqa: NPY002

    draws()
    checkpoint.save(tmp_path, {"step": 1, "random": checkpoint.random_state(generator)})
    expected = draws()
    draws()
    checkpoint.restore_random_state(checkpoint.load(tmp_path)["random"], generator)
    assert draws() == expected
