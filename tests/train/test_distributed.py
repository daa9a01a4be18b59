"""Promises about several processes: the same training as one, and checkpoints that one process can read."""

from __future__ import annotations

import shlex

import pytest

from bigr_features.checkpoints import load_model
from bigr_features.train import checkpoint

from ..processes import command
from .small import logged


@pytest.fixture
def arguments(tokenizer_folder, codes_folder, tmp_path):
    """Options of a small training without dropout, which draws other numbers in each process."""

    def build(name: str, *more) -> list:
        options = {
            "tokenizer": tokenizer_folder, "codes": codes_folder, "out": tmp_path / name, "steps": 20, "batch-size": 16,
            "learning-rate": 1e-3, "warmup-steps": 5, "validation": 20, "validate-every": 10, "log-every": 1, "checkpoint-every": 10,
            "sample-every": 0, "device": "cpu", "threads": 1, "precision": "fp32", "schedule": "constant",
            "model.code-dim": 8, "model.depth": 2, "model.width": 32, "model.num-heads": 2, "model.grid-size": 4,
            "model.ffn-multiple-of": 16, "model.denoiser-depth": 1,
            "model.denoiser-width": 32, "model.residual-dropout": 0, "model.ffn-dropout": 0,
        }  # fmt: skip
        return ["train", *(str(part) for name, value in options.items() for part in (f"--{name}", value)), *map(str, more)]

    return build


def losses(run, split="train"):
    return [line["loss"] for line in logged(run, split)]


def test_two_processes_train_as_one_does(arguments, tmp_path):
    for name, processes in (("one", 1), ("two", 2)):
        done = command(*arguments(name), processes=processes)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert losses(tmp_path / "two", "validation") == pytest.approx(losses(tmp_path / "one", "validation"), abs=1e-4)
    assert len(losses(tmp_path / "two")) == 20


def test_two_processes_train_a_vq_tokenizer_as_one_does(tmp_path):
    options = shlex.split(
        "--preset llamagen_nano --source sample:digits --limit 60 --validation 20 --steps 4 --batch-size 8 --log-every 2 "
        "--validate-every 4 --checkpoint-every 4 --dead-after 2 --reseed-dead-codes --device cpu --threads 1 --precision fp32 "
        "--no-flip "
        "--model.image-size 16 --model.channel-multipliers 1 1 1 --model.embed-dim 32 --model.codebook-size 16"
    )
    for name, processes in (("one", 1), ("two", 2)):
        done = command("train-tokenizer", *options, "--out", tmp_path / name, processes=processes)
        assert done.returncode == 0, done.stderr
    one, two = (logged(tmp_path / name) for name in ("one", "two"))
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], abs=1e-4)  # afterwards dead codes move onto other latents
    for name in ("codebook_usage", "perplexity"):
        assert two[0][name] == pytest.approx(one[0][name], rel=1e-4)
    state = checkpoint.load(tmp_path / "two" / "checkpoints")
    assert state["codes"]["last_used"].max() == 4


def test_sharded_training_saves_what_one_process_reads_and_continues(arguments, tmp_path):
    done = command(*arguments("sharded", "--fsdp", "--steps", 2), processes=2)
    assert done.returncode == 0, done.stderr
    assert load_model(tmp_path / "sharded" / "model").config.width == 32
    done = command(*arguments("sharded", "--resume", "--steps", 4))
    assert done.returncode == 0, done.stderr
    done = command(*arguments("one", "--steps", 4))
    assert losses(tmp_path / "sharded") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


def test_a_batch_that_cannot_be_shared_is_refused(arguments):
    done = command(*arguments("odd", "--batch-size", 15), processes=2)
    assert done.returncode != 0
    assert "batch_size=15 cannot be shared by 2 processes in 1 micro-batches each; give a multiple of 2" in done.stderr
