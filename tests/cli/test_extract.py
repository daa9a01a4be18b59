"""Promises of `bigr extract`: a store from one line, from several processes, again without work, and one clear line otherwise."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

from bigr_features.cli import main
from bigr_features.cli.models import parse_arguments
from bigr_features.features.store import FeatureStore

from ..processes import command

NANO = shlex.split("extract --model bigr_nano --model-args depth=2 width=32 num_heads=2 --random")
DIGITS = shlex.split("--source sample:digits --limit 24 --shard-size 8 --device cpu --threads 1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extract")
    main([*NANO, *DIGITS, "--out", str(folder / "one"), "--layers", "-1", "--pooling", "mean", "cls", "--bits"])
    return folder


def test_a_store_from_one_line(folder):
    store = FeatureStore(folder / "one")
    assert len(store) == 24
    assert store.names == ["block1_mean", "block1_cls", "bits"]
    manifest = store.manifest
    assert manifest["model"] == "bigr_nano depth=2 width=32 num_heads=2"
    assert manifest["weights"] == "random"
    assert len(manifest["weights_sha256"]) == 64
    assert (manifest["source"], manifest["split"], manifest["dtype"], manifest["condition"]) == ("sample:digits", "train", "fp32", "null")
    assert {"torch", "timm", "bigr-features"} <= manifest["versions"].keys()


def test_torchrun_gives_the_same_store(folder):
    args = [*NANO, *DIGITS, "--out", "two", "--layers", "-1", "--pooling", "mean", "cls", "--bits"]
    done = command(*args, processes=2, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "two: 24 items with block1_mean, block1_cls, bits; 0 skipped" in done.stdout
    one, two = FeatureStore(folder / "one"), FeatureStore(folder / "two")
    assert one.manifest == two.manifest


def test_ranks_by_hand(folder, capsys):
    args = [*NANO, *DIGITS, "--out", str(folder / "hand"), "--world-size", "2", "--rank"]
    main([*args, "1"])
    assert "rank 1 of 2 is done" in capsys.readouterr().out
    with pytest.raises(ValueError, match="unfinished"):
        FeatureStore(folder / "hand")
    main([*args, "0"])
    assert "24 items" in capsys.readouterr().out
    FeatureStore(folder / "hand").verify()


def test_the_same_line_again_does_nothing_and_another_is_refused(folder, capsys, caplog):
    args = [*NANO, *DIGITS, "--out", str(folder / "one"), "--pooling", "mean", "cls", "--bits"]
    before = {path.name: path.stat().st_mtime_ns for path in folder.joinpath("one").glob("*.npy")}
    with caplog.at_level("INFO"):
        main([*args, "--layers", "-1"])
    assert "3 of 3 shards are there already" in caplog.text
    assert "RANDOM weights" in caplog.text
    assert {path.name: path.stat().st_mtime_ns for path in folder.joinpath("one").glob("*.npy")} == before
    with pytest.raises(SystemExit) as ended:
        main([*args, "--mask-ratio", "0.5", "--seed", "1"])
    changes = "weights_sha256 was", "layers was [1] and is now [0, 1]", "mask_ratio was 0.0 and is now 0.5", "seed was None and is now 1"
    assert all(change in ended.value.code for change in changes)


def test_the_shipped_model_and_any_timm_model(tmp_path):
    main(["extract", "--model", "bigr_nano.fashion_mnist", *DIGITS, "--layers", "3", "--out", str(tmp_path / "nano")])
    vit = shlex.split("extract --model vit_tiny_patch16_224 --random --model-args img_size=32 patch_size=8 depth=2 embed_dim=48")
    main([*vit, *DIGITS, "--precision", "bf16", "--num-workers", "1", "--pooling", "concat", "--out", str(tmp_path / "vit")])
    nano, vit = FeatureStore(tmp_path / "nano"), FeatureStore(tmp_path / "vit")
    assert nano.manifest["weights"] == "pretrained"
    assert nano.features("block3_mean").shape == (24, 144)
    assert vit.features("block1_concat").shape == (24, 96)
    np.testing.assert_array_equal(nano.ids, vit.ids)  # an id belongs to the image, whatever the model
    with pytest.raises(ValueError, match="model is"):
        nano.check_compatible(vit)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--model bigr_nanno", "there is no timm model 'bigr_nanno'; similar: bigr_nano"),
        ("--model vit_tiny_patch16_224 --model-args img_size", "'img_size' is not of the form name=value"),
        ("--model bigr_nano --random --weights x", "give one of them"),
        ("--model bigr_nano --random --rank 1", "give --rank and --world-size together"),
        ("--model bigr_nano --random --rank 1 --world-size 2 --ray 2", "Ray spreads the work itself"),
        ("--model bigr_nano --random --layers 8", "layer 8 is out of range"),
        ("--model bigr_nano --random --source nowhere/at/all", "there is no file or folder"),
        ("--model test_vit3 --out x", "has no pretrained weights; there is test_vit3.r160_in1k, or give --weights PATH"),
        (
            "--model bigr_nano.fashion_mnst --out x",
            "no pretrained weights; there are bigr_nano.fashion_mnist, bigr_nano.fashion_mnist_uncond",
        ),
    ],
)
def test_wrong_input_is_one_line(args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = [] if "--source" in args else ["--source", "sample:digits"]
    monkeypatch.setattr("timm.is_model_pretrained", lambda name: name not in ("test_vit3", "bigr_nano.fashion_mnst"))
    with pytest.raises(SystemExit) as ended:
        main(["extract", "--out", "x", *source, *shlex.split(args)])
    assert message in ended.value.code
    assert "\n" not in ended.value.code
    assert not (tmp_path / "x").exists()


def test_model_arguments_are_literals_or_text():
    assert parse_arguments(("depth=2", "drop_rate=0.5", "global_pool=avg", "a=(1, 2)", "b=None", "c=x=y")) == {
        "depth": 2, "drop_rate": 0.5, "global_pool": "avg", "a": (1, 2), "b": None, "c": "x=y",
    }  # fmt: skip


def test_the_manifest_tells_no_path_of_its_maker(folder):
    assert str(folder) not in json.dumps(FeatureStore(folder / "one").manifest)
