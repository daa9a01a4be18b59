"""Promise: `bigr classify` measures every kind of generator by its likelihoods, and refuses what cannot be classified."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import save_model
from bigr_features.cli import main

NAMES = ("bigr_nano", "bigr_nano_bin_ar", "bigr_nano_cat_mask", "llamagen_nano")
SMALL = {"depth": 1, "width": 16, "num_heads": 1, "channels": 32, "num_res_blocks": 1, "embed_dim": 32, "channel_multipliers": (1, 1, 1)}
ARGS = "--model-args " + " ".join(f"{name}={str(value).replace(' ', '')}" for name, value in SMALL.items()) + " --device cpu"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of exported weights by name."""
    folder = tmp_path_factory.mktemp("generators")
    for name in NAMES:
        torch.manual_seed(0)
        model = timm.create_model(name, **SMALL)
        with torch.no_grad():
            for parameter in model.generator.parameters():
                parameter.normal_(std=0.2)
        save_model(model.generator, folder / name / "model")
        save_model(model.tokenizer, folder / name / "tokenizer")
    return folder


def classify(name: str, options: str, made, out) -> dict:
    """The result of a command, read back."""
    main(shlex.split(f"classify sample:fashion_mnist --model {name} --weights {made / name} {ARGS} --out {out} {options}"))
    return json.loads(out.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_generator(name, made, tmp_path, capsys):
    causal, categorical = name in ("bigr_nano_bin_ar", "llamagen_nano"), name in ("bigr_nano_cat_mask", "llamagen_nano")
    options = "--choose-on 20 --limit 10" + ("" if causal else " --num-masks 2 --mask-ratios 0.5 1.0 --num-groups 1 3")
    found = classify(name, options, made, tmp_path / "found.json")
    assert len(found["tried"]) == (1 if causal else 3) * (1 if categorical else 5)
    test = found["test"]
    assert test["test_samples"] == 10
    assert 0 <= test["top1_interval"][0] <= test["top1"] <= test["top1_interval"][1] <= 1
    best = max(found["tried"], key=lambda row: (row["accuracy"], -row["nll"]))
    assert {key: test["protocol"][key] for key in best} == best
    assert test["protocol"]["trunk_passes_per_image"] == 10 * (2 if best["mask_ratio"] == 0.5 else best["num_groups"] or 1)
    assert "T-shirt/top" in test["per_class"]
    assert f"of 10 images, {test['nll']:.3f} nats" in capsys.readouterr().out


def test_foreign_images_and_json(made, tmp_path, capsys):
    options = "--choose-on 10 --limit 10 --mask-ratios 1 --num-groups 1 --timesteps 8 --foreign sample:digits --json"
    found = classify("bigr_nano", options, made, tmp_path / "found.json")
    assert set(found["foreign"]["auroc"]) == {"likelihood", "confidence"}
    assert found["foreign"]["images"] == 10
    assert json.loads(capsys.readouterr().out) == found


def test_the_same_twice(made, tmp_path):
    options = "--choose-on 10 --limit 10 --num-masks 1 --mask-ratios 0.5 --num-groups 1 --timesteps 8"
    first, second = (classify("bigr_nano", options, made, tmp_path / f"{i}.json") for i in range(2))
    assert first["test"]["nll"] == second["test"]["nll"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("bigr_nano_bin_ar", "--mask-ratios 0.5", "--mask-ratios has no effect: bigr_nano_bin_ar is causal"),
        ("llamagen_nano", "--num-masks 3", "--num-masks has no effect: llamagen_nano is causal"),
        ("bigr_nano_cat_mask", "--timesteps 8", "--timesteps has no effect: bigr_nano_cat_mask has head='mlm'"),
        ("bigr_nano", "--timesteps 0", "timestep 0 is out of range; give noise levels in 1..256"),
        ("bigr_nano", "--mask-ratios 0", "mask_ratio=0.0; expected a number in (0, 1]"),
        ("bigr_nano", "--num-groups 0", "num_groups=0; expected 1 to 64"),
        ("llamagen_nano", "--num-groups 4", "--num-groups has no effect: llamagen_nano is causal"),
        ("bigr_nano", "--choose-on 0", "--choose-on 0; expected 1 or more"),
        ("bigr_nano", "--foreign nowhere/at/all", "nowhere/at/all"),
    ],
)
def test_wrong_options(name, options, message, made, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        classify(name, options, made, tmp_path / "found.json")
    assert message in str(stopped.value)
    assert not (tmp_path / "found.json").exists()


def test_a_model_without_labels_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="trained without labels"):
        main(shlex.split(f"classify sample:fashion_mnist --model bigr_nano.fashion_mnist_uncond --device cpu --out {tmp_path / 'a.json'}"))


def test_classes_that_the_generator_never_saw(made, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(12):
        for split in ("train", "test"):
            folder = tmp_path / split / f"class{number:02d}"
            folder.mkdir(parents=True)
            Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)).save(folder / "a.png")
    line = f"classify {tmp_path} --model bigr_nano --weights {made / 'bigr_nano'} {ARGS} --out {tmp_path / 'a.json'} --mask-ratios 1"
    with pytest.raises(SystemExit, match=r"label 10 is no class of this generator, trained with 10"):
        main(shlex.split(line))
