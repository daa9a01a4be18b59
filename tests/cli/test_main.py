"""Promises of the command `bigr`: from images to a generator, and one clear line for wrong input."""

from __future__ import annotations

import json
import shlex

import pytest
from PIL import Image

from bigr_features.checkpoints import load_model
from bigr_features.cli import main

from ..processes import command
from ..train.small import logged

TINY = shlex.split("--batch-size 8 --steps 2 --validation 10 --validate-every 2 --log-every 1 --device cpu --threads 1")
TINY_MODEL = shlex.split("--model.depth 1 --model.width 32 --model.num-heads 2 --model.denoiser-depth 1 --model.denoiser-width 32")
PICTURES = shlex.split("--num-samples 10 --sample-every 2 --sample-reveal-steps 2 --sample-denoise-steps 2")

pytestmark = pytest.mark.slow  # whole trainings in processes of their own


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The whole way by commands, with the default size of the tokenizer."""
    folder = tmp_path_factory.mktemp("commands")
    for args in (
        ["train-tokenizer", "--source", "sample:digits", "--out", "tokenizer", *TINY],
        ["encode", "--tokenizer", "tokenizer/model", "--source", "sample:digits", "--limit", "100", "--out", "codes", "--device", "cpu"],
        ["train", "--tokenizer", "tokenizer/model", "--codes", "codes", "--out", "generator", *TINY, *TINY_MODEL, *PICTURES],
    ):
        done = command(*args, folder=folder)
        assert done.returncode == 0, done.stderr
    return folder


def test_from_images_to_a_generator(runs):
    assert load_model(runs / "tokenizer" / "model").config.code_dim == 16
    assert load_model(runs / "generator" / "model").config.width == 32
    assert (runs / "generator" / "samples" / "step_00000002.png").is_file()
    assert len(logged(runs / "generator")) == 2
    assert json.loads((runs / "generator" / "environment.json").read_text())["command"].endswith(" ".join(PICTURES))


def test_a_config_is_given_back_and_changed(runs):
    done = command("train", "--config", "generator", "--out", "again", "--steps", 3, folder=runs)
    assert done.returncode == 0, done.stderr
    settings = [json.loads((runs / name / "config.json").read_text())["settings"] for name in ("generator", "again")]
    differing = {key for key in settings[0] if settings[0][key] != settings[1][key]}
    assert differing == {"out", "steps", "config"}
    assert [line["loss"] for line in logged(runs / "again")][:2] == [line["loss"] for line in logged(runs / "generator")]


def test_resuming(runs):
    args = ("train", "--config", "generator/config.json", "--out", "resumed", "--schedule", "constant")
    assert command(*args, folder=runs).returncode == 0
    refused = command(*args, folder=runs)
    assert refused.returncode == 1
    assert refused.stderr.strip().splitlines()[-1].startswith("bigr train: FileExistsError: resumed holds a run already; give --resume")
    refused = command(*args, "--resume", "--seed", 3, folder=runs)
    assert "seed was 0 and is now 3" in refused.stderr
    assert command(*args, "--resume", "--steps", 4, folder=runs).returncode == 0
    assert [line["step"] for line in logged(runs / "resumed")] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["", "train-tokenizer", "encode", "train"])
def test_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert not ended.value.code
    assert ("--config" in capsys.readouterr().out) == bool(name)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("train-tokenizer --source empty --out x", "holds no image"),
        ("train-tokenizer --source corrupt --out x", "none of the 2 images"),
        ("train-tokenizer --source missing/a/folder --out x", "there is no file or folder"),
        ("train-tokenizer --source sample:digits --out x --preset bigr_m", "there is no preset 'bigr_m'"),
        ("train-tokenizer --config generator --out x", "the settings of another command"),
        ("encode --tokenizer nowhere --source sample:digits --out x", "has no config.json"),
        ("train --tokenizer tokenizer/model --codes nowhere --out x", "make one with `bigr encode`"),
        ("train --tokenizer tokenizer/model --codes codes --out x --model.code-dim 8", "give --model.grid-size 8 --model.code-dim 16"),
        ("train --tokenizer tokenizer/model --source flat --out x --validation 0", "train without them (--unconditional)"),
    ],
)
def test_wrong_input_is_one_line(runs, monkeypatch, args, message):
    monkeypatch.chdir(runs)
    for name in ("empty", "corrupt", "flat"):
        (runs / name).mkdir(exist_ok=True)
    for i in range(2):
        (runs / "corrupt" / f"{i}.png").write_bytes(b"broken")
        Image.new("RGB", (32, 32)).save(runs / "flat" / f"{i}.png")
    with pytest.raises(SystemExit) as ended:
        main([*args.split(), "--device", "cpu"])
    assert message in ended.value.code
    assert "\n" not in ended.value.code
    assert not (runs / "x" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("preset", "has", "lacks"), [("bigr_nano", "code-dim", "codebook-size"), ("llamagen_nano", "codebook-size", "code-dim")]
)
def test_the_preset_says_which_kind_of_tokenizer_is_trained(capsys, preset, has, lacks):
    with pytest.raises(SystemExit):
        main(["train-tokenizer", "--preset", preset, "--help"])
    shown = capsys.readouterr().out
    assert f"--model.{has}" in shown
    assert f"--model.{lacks} " not in shown
    with pytest.raises(SystemExit) as ended:
        main(["train-tokenizer", "--preset", preset, "--source", "s", "--out", "x", f"--model.{lacks}", "8"])
    assert ended.value.code == 2


def test_a_missing_option_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--out", "x"])
    assert ended.value.code == 2
    assert "--tokenizer" in capsys.readouterr().err


def test_an_impossible_size_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["train", "--tokenizer", "t", "--out", "x", "--model.width", "30"])
    assert ended.value.code == 2
    assert "num_heads=4" in capsys.readouterr().err
