"""Promise: extract, probe, knn, generate and training work by name for each of the compared systems, end to end on random weights."""

from __future__ import annotations

import json
import shlex

import pytest
import timm
import torch

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.checkpoints import save_model
from bigr_features.cli import main
from bigr_features.plots.pictures import read_settings

NAMES = ("llamagen_nano", "bigr_nano_cat_ar", "bigr_nano_cat_mask", "bigr_nano_bin_ar")
PICTURE = "sample:fashion_mnist:0"


def run(line: str) -> None:
    main(shlex.split(line))


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def weights(name, tmp_path_factory):
    """The folders that `bigr export` would write, with random weights."""
    folder = tmp_path_factory.mktemp(name)
    torch.manual_seed(0)
    model = timm.create_model(name)
    save_model(model.generator, folder / "model")
    save_model(model.tokenizer, folder / "tokenizer")
    return folder


def test_extract_probe_and_knn(name, tmp_path):
    args = f"--model {name} --model-args depth=2 width=32 num_heads=2 --random --source sample:digits --limit 80 --device cpu --threads 1"
    for split in ("train", "test"):
        run(f"extract {args} --split {split} --out {tmp_path / split}")
    manifest = json.loads((tmp_path / "train" / "manifest.json").read_text())
    assert (manifest["preprocessing"]["mean"] == [0.5] * 3) == name.startswith("llamagen")  # each by its own preprocessing
    run(f"probe --train {tmp_path / 'train'} --test {tmp_path / 'test'} --Cs 0.1 --seeds 1 --out {tmp_path / 'probe.json'}")
    run(f"knn --train {tmp_path / 'train'} --test {tmp_path / 'test'} --out {tmp_path / 'knn.json'}")
    assert json.loads((tmp_path / "probe.json").read_text())["chosen"]
    assert json.loads((tmp_path / "knn.json").read_text())


def test_generate(name, weights, tmp_path):
    steps = " --num-denoise-steps 2" if name == "bigr_nano_bin_ar" else ""
    steps += " --num-reveal-steps 3" if name == "bigr_nano_cat_mask" else ""
    run(f"generate --model {name} --weights {weights} --labels 1 2 --num-per-label 1 --out {tmp_path / 'grid.png'} --device cpu{steps}")
    assert read_settings(tmp_path / "grid.png")["labels"] == [1, 2]
    run(f"interpolate --model {name} --weights {weights} --num-images 2 --num-rows 1 --out {tmp_path / 'way.png'} --device cpu{steps}")


def test_inpainting_works_with_masked_systems_and_is_refused_with_the_reason_otherwise(name, weights, tmp_path):
    line = f"inpaint {PICTURE} --model {name} --weights {weights} --num-reveal-steps 3 --out {tmp_path / 'in.png'} --device cpu"
    if "mask" in name:
        run(line)
        assert (tmp_path / "in.png").is_file()
        return
    with pytest.raises(SystemExit, match="generator is causal: it draws each token from those before it only"):
        run(line)


def test_a_strip_of_what_is_not_revealed_bit_by_bit_is_refused(name, weights, tmp_path):
    with pytest.raises(SystemExit, match="--strip and --gif show how bits are revealed"):
        run(f"generate --model {name} --weights {weights} --labels 1 --strip {tmp_path / 'strip.png'} --device cpu")


def test_train_from_a_cache_by_preset(name, weights, tmp_path):
    tokenizer = weights / "tokenizer"
    run(f"encode --tokenizer {tokenizer} --source sample:fashion_mnist --limit 40 --out {tmp_path / 'codes'} --device cpu")
    run(
        f"train --preset {name} --model.depth 2 --tokenizer {tokenizer} --codes {tmp_path / 'codes'} --out {tmp_path / 'run'} --steps 2 "
        "--batch-size 4 --validation 8 --sample-every 0 --device cpu --trackers"
    )
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
