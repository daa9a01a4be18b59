"""The promise of exact resume: killed at any moment and continued, a run ends with the weights of an uninterrupted one."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import pytest
import torch

from bigr_features.train import checkpoint
from bigr_features.train.generator import train
from bigr_features.train.tokenizer import train_tokenizer

from ..processes import kill_when, start
from .small import logged

pytestmark = pytest.mark.slow  # whole trainings in processes of their own


def states(run) -> dict:
    state = checkpoint.load(run / "checkpoints")
    return {name: state[name] for name in ("step", "best", "model", "ema", "optimizer", "random")}


def assert_same(found, expected, where="state"):
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple):
        for i, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{i}]")
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected), where
    else:
        assert found == expected, where


def reached(run, step: int) -> bool:
    lines = logged(run) if (run / "log.jsonl").is_file() else []
    return bool(lines) and lines[-1]["step"] >= step


def killed_run(function, config, kills: int, seed: int):
    """Run to the end in spite of so many kills: at random steps, and every third one in the middle of a save."""
    draw = random.Random(seed)
    folder = config.out / "checkpoints"
    happened = []
    for kill in range(kills):
        process = start(function, replace(config, resume=True))
        before = checkpoint.steps_in(folder)[-1] if folder.is_dir() and checkpoint.steps_in(folder) else 0
        if kill % 3 == 2:
            done = kill_when(process, lambda: any(folder.glob(".step_*")))
            happened.append("save")
        else:
            target = min(before + draw.randint(1, 8), config.steps - 1)
            done = kill_when(process, partial(reached, config.out, target))
            happened.append(target)
        for step in checkpoint.steps_in(folder):
            assert checkpoint.load(folder, step)["step"] == step, "a checkpoint is half-written"
        if not done:
            break
    process = start(function, replace(config, resume=True))
    process.join(120)
    assert process.exitcode == 0
    return happened


def test_generator_killed_ten_times_ends_bitwise_equal(train_config, tmp_path):
    config = train_config(
        steps=60, checkpoint_every=4, validate_every=5, keep_last=3, ema_decay=0.9, micro_batches=2, codes=None, source="sample:digits",
        validation=16, sample_bits=True,
    )  # fmt: skip
    assert config.model.residual_dropout > 0  # the global random state counts too
    whole = replace(config, out=tmp_path / "whole")
    train(whole)
    happened = killed_run(train, replace(config, out=tmp_path / "killed"), kills=10, seed=0)
    assert len(happened) == 10, f"the run ended before the tenth kill: {happened}"
    assert_same(states(tmp_path / "killed"), states(tmp_path / "whole"))
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "killed" / "model" / name).read_bytes() == (tmp_path / "whole" / "model" / name).read_bytes()
    for split in ("train", "validation"):
        columns = ("step", "loss")
        found, expected = ([[line[c] for c in columns] for line in logged(tmp_path / run, split)] for run in ("killed", "whole"))
        assert found == expected


@pytest.mark.parametrize("adversarial", [False, True])
def test_tokenizer_killed_ends_bitwise_equal(tokenizer_config, tmp_path, adversarial):
    config = tokenizer_config(steps=24, checkpoint_every=4, validate_every=8)
    if adversarial:
        config = replace(config, adversarial_weight=0.5, adversarial_start=5, discriminator_width=8, discriminator_depth=1)
    whole = replace(config, out=tmp_path / "whole")
    train_tokenizer(whole)
    killed_run(train_tokenizer, replace(config, out=tmp_path / "killed"), kills=3, seed=1)
    assert_same(states(tmp_path / "killed"), states(tmp_path / "whole"))
    if adversarial:
        both = [checkpoint.load(tmp_path / run / "checkpoints")["adversary"] for run in ("killed", "whole")]
        assert_same(*both)
