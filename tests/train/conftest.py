"""A tokenizer, its codes of real digits, and settings small enough for a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bigr_features import BinaryAutoencoder
from bigr_features.checkpoints import save_model
from bigr_features.train.code_cache import EncodeConfig, encode
from bigr_features.train.generator import TrainConfig
from bigr_features.train.tokenizer import TrainTokenizerConfig

from .small import GENERATOR, TOKENIZER


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    torch.manual_seed(0)
    save_model(BinaryAutoencoder(TOKENIZER), folder)
    return folder


@pytest.fixture(scope="session")
def codes_folder(tokenizer_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("codes")
    encode(
        EncodeConfig(tokenizer=tokenizer_folder, source="sample:digits", out=folder, limit=200, device="cpu", precision="fp32", threads=1)
    )
    return folder


@pytest.fixture
def train_config(tokenizer_folder, codes_folder, tmp_path):
    """Settings of a generator training, with what a test changes."""

    def build(**changes) -> TrainConfig:
        config = TrainConfig(
            tokenizer=tokenizer_folder, codes=codes_folder, out=tmp_path / "run", model=GENERATOR, steps=6, batch_size=16,
            learning_rate=1e-3, schedule="constant", warmup_steps=3, validation=20,
            validate_every=3, log_every=1, checkpoint_every=3, sample_every=0,
            ema_decay=0.9999, device="cpu", precision="fp32", threads=1, trackers=(),
        )  # fmt: skip
        return replace(config, **changes)

    return build


@pytest.fixture
def tokenizer_config(tmp_path):
    """Settings of a tokenizer training, with what a test changes."""

    def build(**changes) -> TrainTokenizerConfig:
        config = TrainTokenizerConfig(
            source="sample:digits", limit=120, out=tmp_path / "run", model=TOKENIZER, steps=6, batch_size=8, validation=20,
            learning_rate=1e-3, warmup_steps=3, validate_every=3, log_every=1, checkpoint_every=3,
            device="cpu", precision="fp32", threads=1, trackers=(),
        )  # fmt: skip
        return replace(config, **changes)

    return build
