"""Promises of checkpoints and trackers: the best one is always there; trackers know the run; pictures cost one process a chunk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from bigr_features.checkpoints import load_model
from bigr_features.train import checkpoint, generator
from bigr_features.train.generator import train
from bigr_features.train.tokenizer import train_tokenizer

from .small import logged


@pytest.mark.parametrize(("validate_every", "checkpoint_every"), [(1, 4), (3, 5), (2, 7), (5, 2)])
@pytest.mark.parametrize("what", ["generator", "tokenizer"])
def test_the_best_checkpoint_is_there_whatever_the_intervals(
    train_config, tokenizer_config, validate_every, checkpoint_every, what, monkeypatch
):
    """The validations are made to be best in their second."""
    values = iter([0.5, 0.1, 0.3, 0.2, 0.4, 0.6, 0.7])
    intervals = {"steps": 7, "validate_every": validate_every, "checkpoint_every": checkpoint_every, "keep_last": 1}
    if what == "generator":
        config = train_config(**intervals)
        monkeypatch.setattr(generator, "validate", lambda *_: {"loss": next(values), "bce": 0.0, "bit_accuracy": 0.0})
        train(config)
        best, better = "loss", min
    else:
        config = tokenizer_config(**intervals)
        train_tokenizer(config)
        best, better = "psnr", max
    seen = {line["step"]: line[best] for line in logged(config.out, "validation")}
    expected = better(seen, key=seen.get)
    content = checkpoint.load(config.out / "checkpoints")
    assert content["best"]["step"] == expected
    assert json.loads((config.out / "checkpoints" / "best.json").read_text()) == content["best"]
    assert checkpoint.load(config.out / "checkpoints", expected)["step"] == expected
    assert checkpoint.steps_in(config.out / "checkpoints") == sorted({expected, 7})


def test_what_is_better():
    assert checkpoint.improves(None, "loss", 3.0)
    assert checkpoint.improves({"loss": 3.0}, "loss", 2.0)
    assert not checkpoint.improves({"loss": 3.0}, "loss", 3.0)
    assert checkpoint.improves({"psnr": 3.0}, "psnr", float("inf"), higher=True)
    assert not checkpoint.improves(None, "loss", float("nan"))


def test_keeping_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep_last=0; at least the newest checkpoint stays"):
        checkpoint.save(tmp_path, {"step": 1}, keep_last=0)


def test_trackers_get_the_settings_and_the_project(train_config, monkeypatch):
    import accelerate

    seen = {}
    true = accelerate.Accelerator.init_trackers

    def init_trackers(self, project_name, config=None, **more):
        seen.update(project=project_name, config=config)
        true(self, project_name, config=config, **more)

    monkeypatch.setattr(accelerate.Accelerator, "init_trackers", init_trackers)
    config = train_config(trackers=("tensorboard",), project="mine", keep_steps=(2, 4), steps=1)
    train(config)
    assert seen["project"] == "mine"
    assert seen["config"]["learning_rate"] == config.learning_rate
    assert seen["config"]["model.depth"] == config.model.depth
    assert seen["config"]["keep_steps"] == "[2, 4]"
    assert all(isinstance(value, bool | int | float | str) for value in seen["config"].values())
    written = [path for path in (config.out / "tensorboard" / "mine").rglob("*") if path.is_file()]
    assert any(path.name.startswith("events") for path in written)
    assert any("learning_rate" in path.read_text() for path in written if path.suffix == ".yml")


def test_pictures_are_decoded_a_few_at_a_time(train_config, tokenizer_folder, monkeypatch):
    config = train_config(num_samples=37, sample_reveal_steps=1, sample_denoise_steps=1)
    tokenizer, model = load_model(tokenizer_folder), load_model(train(replace(config, steps=1)))
    sizes, decode = [], tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda codes: (sizes.append(len(codes)), decode(codes))[1])
    images, labels = generator.sample(model.eval(), tokenizer, config)
    assert images.shape == (37, 3, 16, 16)
    assert labels.tolist() == [i % 10 for i in range(37)]
    assert sizes == [16, 16, 5]


def test_other_processes_draw_no_pictures(train_config, monkeypatch):
    """A process that is not the main one trains on while that one draws."""
    import accelerate

    monkeypatch.setattr(accelerate.Accelerator, "is_main_process", property(lambda self: False))
    drawn = []
    monkeypatch.setattr(generator, "sample", lambda *_: drawn.append(1))
    config = train_config(steps=2, sample_every=1)
    train(config)
    assert drawn == []
    assert not config.out.exists()


def test_tensorfloat_on_a_cpu_is_refused(train_config):
    with pytest.raises(ValueError, match="tf32=True, but TensorFloat-32 is of CUDA and this run is on cpu"):
        train(train_config(tf32=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("tf32", [True, False])
def test_tensorfloat_is_as_asked_for(train_config, tf32):
    train(train_config(tf32=tf32, steps=1, device="auto"))
    assert torch.backends.cuda.matmul.allow_tf32 == tf32
