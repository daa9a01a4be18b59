"""Promise: Ctrl-C in a training finishes the step and writes its checkpoint; resumed, the run ends as one that was never stopped."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
import torch

from bigr_features.cli.errors import CONTINUES, interrupted
from bigr_features.train import checkpoint
from bigr_features.train.interruption import Interruption
from bigr_features.train.settings import TrainTokenizerConfig
from bigr_features.train.tokenizer import train_tokenizer

from .small import TOKENIZER


@pytest.fixture(autouse=True)
def _handler():
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before


def loop(interruption, done, before=None, after=None, times=1):
    """Steps 0 to 9, with Ctrl-C before or after the place of the checkpoint in one of them; steps and answers go into `done`."""
    steps = interruption.over(range(10))
    try:
        for step in steps:
            for _ in range(times * (step == before)):
                signal.raise_signal(signal.SIGINT)
            done.append((step, interruption.asked()))
            if step == after:
                signal.raise_signal(signal.SIGINT)
    finally:
        steps.close()


def test_the_step_in_hand_is_finished():
    done = []
    with pytest.raises(KeyboardInterrupt, match="stopped after step 3, whose checkpoint is written"):
        loop(Interruption(alone=True), done, before=3)
    assert done == [(0, False), (1, False), (2, False), (3, True)]


def test_a_signal_behind_the_checkpoint_waits_for_the_next_one():
    done = []
    with pytest.raises(KeyboardInterrupt, match="after step 1"):
        loop(Interruption(alone=True), done, after=0)
    assert done == [(0, False), (1, True)]


def test_a_second_one_leaves_at_once():
    done = []
    with pytest.raises(KeyboardInterrupt) as stopped:
        loop(Interruption(alone=True), done, before=0, times=2)
    assert (done, str(stopped.value)) == ([], "")


def test_of_several_processes_each_is_left_to_python():
    done = []
    with pytest.raises(KeyboardInterrupt):
        loop(Interruption(alone=False), done, before=0)
    assert done == []


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch):
    config = TrainTokenizerConfig(
        source="sample:digits", out=tmp_path / "whole", model=TOKENIZER, limit=40, batch_size=4, steps=5, validation=8, validate_every=100,
        checkpoint_every=100, log_every=1, device="cpu", precision="fp32", threads=1,
    )  # fmt: skip
    train_tokenizer(config)
    stopped = replace(config, out=tmp_path / "stopped")
    original = Interruption.asked

    def third(self):
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3:
            signal.raise_signal(signal.SIGINT)
        return original(self)

    with monkeypatch.context() as patched:
        patched.setattr(Interruption, "asked", third)
        with pytest.raises(KeyboardInterrupt, match="stopped after step 3"):
            train_tokenizer(stopped)
    assert checkpoint.steps_in(stopped.out / "checkpoints") == [3]
    train_tokenizer(replace(stopped, resume=True))
    found, expected = (checkpoint.load(run.out / "checkpoints")["ema"] for run in (stopped, config))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("command", [*CONTINUES, "plot"])
def test_the_last_line_says_how_to_go_on(command):
    said = interrupted(command, "stopped after step 3, whose checkpoint is written")
    assert said.startswith(f"bigr {command}: stopped after step 3")
    assert ("--resume" in said) == command.startswith("train")
    assert "interrupted; " in interrupted(command)
    assert "\n" not in said
