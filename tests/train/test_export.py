"""What training wrote loads as a pretrained model, finished or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch

from bigr_features import extract_features
from bigr_features.checkpoints import load_model
from bigr_features.train import checkpoint
from bigr_features.train.export import ExportConfig, export
from bigr_features.train.generator import train

from .small import GENERATOR, TOKENIZER


@pytest.fixture
def run(train_config):
    config = train_config()
    train(config)
    return config.out


def pretrained(folder, **changes):
    """The timm model of the tests' sizes, with weights from a folder."""
    fields = {key: value for key, value in GENERATOR.to_dict().items() if key not in ("num_classes", "grid_size")}
    fields.update(channel_multipliers=TOKENIZER.channel_multipliers, embed_dim=32, img_size=16, **changes)
    overlay = {"file": str(folder), "input_size": (3, 16, 16)}
    return timm.create_model("bigr_nano", pretrained=True, pretrained_cfg_overlay=overlay, **fields).eval()


def test_a_finished_run_becomes_a_pretrained_model(run, tmp_path):
    export(ExportConfig(run=run, out=tmp_path / "weights", name="digits", dtype="float32"))
    model = pretrained(tmp_path / "weights" / "digits")
    for key, value in load_model(run / "model").state_dict().items():
        assert torch.equal(model.generator.state_dict()[key], value)
    for key, value in load_model(run / "tokenizer").state_dict().items():
        assert torch.equal(model.tokenizer.state_dict()[key], value)


def test_weights_are_refused_where_they_would_compute_something_else(train_config):
    """Rotary base and noise schedule have no shape that would show the difference, and names alone would say little of positions."""
    config = train_config(model=replace(GENERATOR, rope_base=30.0))
    train(config)
    with pytest.raises(ValueError, match=r"trained with rope_base=30.0, but this model has rope_base=100.0; create it with rope_base=30.0"):
        pretrained(config.out, rope_base=100.0)
    with pytest.raises(ValueError, match=r"trained with input_positions=False, but this model has input_positions=True"):
        pretrained(config.out, rope_base=30.0, input_positions=True)
    assert pretrained(config.out, rope_base=30.0, class_dropout=0.3).generator.config.class_dropout == 0.3


def test_weights_trained_without_labels_take_none(train_config):
    config = train_config(unconditional=True)
    train(config)
    model = pretrained(config.out)
    assert model.generator.config.unconditional
    settings = dict(num_reveal_steps=2, num_denoise_steps=2)
    null = torch.tensor([10])
    assert model.generate(null, **settings).shape == (1, 3, 16, 16)
    with pytest.raises(ValueError, match="label 3 was given, but the model was trained without labels"):
        model.generate(torch.tensor([3]), **settings)
    with pytest.raises(ValueError, match="label 3 was given, but the model was trained without labels"):
        extract_features(model, torch.rand(1, 3, 16, 16), labels=3, progress=False)


def test_the_block_that_was_chosen_for_features_is_the_default(run, tmp_path):
    """By a folder of ours and by one for the Hub; the middle one without a choice, any other by name."""
    export(ExportConfig(run=run, out=tmp_path / "chosen", name="digits", feature_layer=1))
    export(ExportConfig(run=run, out=tmp_path / "hub", hub=True, feature_layer=1, dtype="float32"))
    assert pretrained(run).feature_layer == 0
    assert pretrained(tmp_path / "chosen" / "digits").feature_layer == 1
    assert pretrained(tmp_path / "chosen" / "digits", feature_layer=0).feature_layer == 0
    assert pretrained(tmp_path / "chosen" / "digits", feature_layer=-1, generative=False).feature_layer == 1
    assert timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).feature_layer == 1
    with pytest.raises(ValueError, match=r"feature_layer=2; this BiGR has blocks 0\.\.1"):
        export(ExportConfig(run=run, out=tmp_path / "wrong", feature_layer=2))


def test_a_step_is_exported_with_averaged_weights_in_half_precision(run, tmp_path):
    folder = export(ExportConfig(run=run, out=tmp_path / "weights", step=3))
    averaged = checkpoint.load(run / "checkpoints", 3)["ema"]
    for key, value in load_model(folder).state_dict().items():
        torch.testing.assert_close(value, averaged[key], rtol=1e-3, atol=1e-6)
    assert (folder / "model.safetensors").stat().st_size < (run / "model" / "model.safetensors").stat().st_size * 0.6


def test_a_folder_for_the_hub_loads_as_timm_loads_one(run, tmp_path):
    folder = export(ExportConfig(run=run, out=tmp_path / "digits_model", hub=True, dtype="float32"))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.rand(2, 3, 16, 16)
    export(ExportConfig(run=run, out=tmp_path / "weights", name="digits", dtype="float32"))
    assert torch.equal(model(images), pretrained(tmp_path / "weights" / "digits")(images))
    assert model.generator.config == load_model(run / "model").config
    assert model.generate(torch.tensor([1]), num_reveal_steps=2, num_denoise_steps=2).shape == (1, 3, 16, 16)
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm\n")
    for said in (
        "# digits_model",
        "16 x 16 pixels",
        "16 of 8 bits",
        "masked",
        "| steps | 6 |",
        "held-out images | step 6",
        "hf-hub:you/digits_model",
    ):
        assert said in card, said
    block = card.split("```python\n")[1].split("```")[0].replace("hf-hub:you/digits_model", f"local-dir:{folder}")
    found = {}
    exec(block.replace("model.generate(", "model.generate(num_reveal_steps=2, num_denoise_steps=2, labels="), found)
    assert found["features"].shape == (2, 32)
    assert found["images"].shape == (2, 3, 16, 16)
    with pytest.raises(FileExistsError, match="holds a model already; give another folder"):
        export(ExportConfig(run=run, out=folder, hub=True))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dtype": "int8"}, ValueError, "dtype='int8'"),
        ({"step": 77}, FileNotFoundError, "no checkpoint of step 77"),
    ],
)
def test_wrong_wishes_are_named(run, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        export(ExportConfig(run=run, out=tmp_path / "weights", **changes))
    assert not (tmp_path / "weights").exists()


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        export(ExportConfig(run=tmp_path, out=tmp_path / "weights"))
