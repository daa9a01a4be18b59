"""The study of training recipes: changes put together, runs that are judged on unseen training images, results that are not made twice."""

from __future__ import annotations

import importlib
import json
import sys

import pytest

from bigr_features import BinaryAutoencoder
from bigr_features.checkpoints import save_model

from .test_benchmarks import ROOT


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("recipe")


def test_changes_are_put_together(recipe):
    both = recipe.change_of("start+levels_4+crops")
    assert both.training == {"timesteps_per_token": 4}
    assert both.model == {"init_std": 0.06, "input_positions": True, "gate_init": 0.2}
    assert both.views == "ten_crop"
    with pytest.raises(ValueError, match="no change is called 'levels_5'; there are base, init_std"):
        recipe.change_of("start+levels_5")


def test_every_change_is_one_that_training_takes(recipe):
    from bigr_features.models.presets import preset_configs
    from bigr_features.train.settings import TrainConfig

    for change in recipe.CHANGES.values():
        model = preset_configs("bigr_nano", code_dim=12)[1].replace(**change.model)
        TrainConfig(tokenizer=".", out=".", codes=".", model=model, **{"unconditional": True, **change.training})


def test_a_study_is_judged_on_unseen_training_images_and_goes_on(recipe, tmp_path, monkeypatch, capsys):
    from bigr_features.models.presets import preset_configs

    tokenizer, _ = preset_configs("bigr_nano", code_dim=12)
    small = lambda *args, **kwargs: preset_configs(*args, **kwargs, depth=3, width=32, denoiser_width=16)  # noqa: E731
    monkeypatch.setattr(recipe, "preset_configs", small)
    save_model(BinaryAutoencoder(tokenizer.replace(channels=32, channel_multipliers=(1, 1, 1))), tmp_path / "tokenizer")
    options = ["--dataset", "sample:digits", "--tokenizer", str(tmp_path / "tokenizer"), "--only", "base", "labels+two_view_0.3"]
    options += [
        "--steps",
        "4",
        "--batch-size",
        "8",
        "--limit",
        "100",
        "--threads",
        "1",
        "--work",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", ["recipe.py", *options])
    recipe.main()
    first = capsys.readouterr().out
    assert "labels+two_view_0.3" in first
    result = json.loads((tmp_path / "out" / "k12_labels+two_view_0.3_seed0.json").read_text())
    assert set(result["linear_probe"]) == set(result["knn"]) == {str(i) for i in range(3)}
    assert result["best"] == max(result["linear_probe"].values()) >= result["middle"] == result["linear_probe"]["0"]
    assert "20 training images that the run did not see; no test image" in result["protocol"]["measured_on"]
    assert result["core_seconds"] > 0
    assert result["images_seen"] == 32
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("k*.json")}
    recipe.main()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("k*.json")} == before
    assert capsys.readouterr().out == first
    monkeypatch.setattr(sys, "argv", ["recipe.py", *options, "--steps", "5"])
    with pytest.raises(ValueError, match=r"was made with .*'steps': 4.*, now .*'steps': 5"):
        recipe.main()
