"""Precision auto: the faster one is taken and written down, and a run that goes on keeps it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
import torch

from bigr_features.functional import precision
from bigr_features.train.code_cache import CodeCache, EncodeConfig, encode
from bigr_features.train.generator import train
from bigr_features.train.tokenizer import train_tokenizer


@pytest.fixture
def machine(monkeypatch):
    """Makes bf16 products take so many times as long as fp32 ones, as far as anybody measures."""

    def set_ratio(ratio: float) -> None:
        monkeypatch.setattr(precision, "bf16_time_ratio", lambda *_: ratio)

    return set_ratio


def settings_of(run) -> str:
    return json.loads((run / "config.json").read_text())["settings"]["precision"]


@pytest.mark.parametrize(("ratio", "name"), [(0.5, "bf16"), (11.0, "fp32")])
@pytest.mark.parametrize("kind", ["generator", "tokenizer"])
def test_training_takes_what_is_faster_and_writes_it_down(kind, ratio, name, machine, train_config, tokenizer_config, caplog):
    machine(ratio)
    config = (train_config if kind == "generator" else tokenizer_config)(precision="auto", steps=1)
    with caplog.at_level(logging.INFO):
        (train if kind == "generator" else train_tokenizer)(config)
    assert settings_of(config.out) == name
    environment = json.loads((config.out / "environment.json").read_text())
    assert (environment["precision"], environment["asked"], environment["bf16_over_fp32_time"]) == (name, "auto", ratio)
    assert environment["instruction_sets"] == precision.instruction_sets()
    assert f"precision {name}: bf16 takes {ratio:.2f} of the time of fp32 here" in caplog.text


def test_a_resumed_run_keeps_its_precision_and_says_where_it_is_slow(machine, train_config, caplog):
    config = train_config(precision="auto", steps=3)
    machine(0.5)
    train(config)
    machine(11.0)
    with caplog.at_level(logging.WARNING):
        train(replace(config, steps=6, resume=True))
    assert settings_of(config.out) == "bf16"
    assert "was begun in bf16 and goes on so, though fp32 is faster here (bf16 takes 11.00" in caplog.text
    with pytest.raises(ValueError, match="precision was 'bf16' and is now 'fp32'"):
        train(replace(config, steps=9, resume=True, precision="fp32"))


def test_a_slower_precision_that_is_asked_for_runs_and_is_said(machine, train_config, caplog):
    machine(11.0)
    config = train_config(precision="bf16", steps=1)
    with caplog.at_level(logging.WARNING):
        train(config)
    assert settings_of(config.out) == "bf16"
    assert "bf16 product takes 11.0 times as long as fp32" in caplog.text


@pytest.mark.parametrize("begun_by", ["this process", "another rank"])
def test_a_cache_keeps_its_precision(begun_by, machine, tokenizer_folder, tmp_path):
    config = EncodeConfig(
        tokenizer=tokenizer_folder, source="sample:digits", out=tmp_path / "codes", limit=64, shard_size=32, device="cpu", threads=1
    )
    machine(0.5)
    encode(config)
    codes = CodeCache(config.out).read(torch.arange(64).numpy())
    for path in config.out.glob("*00001*"):
        path.unlink()
    if begun_by == "another rank":
        (config.out / "config.json").unlink()  # which only the first rank writes
    machine(11.0)
    encode(config)  # goes on, in the precision of the shard that is there
    assert settings_of(config.out) == "bf16"
    assert (CodeCache(config.out).read(torch.arange(64).numpy()) == codes).all()
