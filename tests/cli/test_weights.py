"""Promises of --weights: one option of every command that takes a model, and one function in Python, take weights of every kind."""

from __future__ import annotations

import json
import shutil

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import bigr_features
from bigr_features import checkpoints
from bigr_features.cli import main
from bigr_features.features.store import FeatureStore

from ..helpers import assert_same_weights

SMALL = {"depth": 1, "width": 32, "num_heads": 2, "denoiser_depth": 1, "denoiser_width": 32}
ARGS = [f"{name}={value}" for name, value in SMALL.items()]
TAKES_A_MODEL = ("extract", "index", "add", "search", "generate", "interpolate", "inpaint", "outpaint", "edit", "enrich")


def small(**changes):
    torch.manual_seed(0)
    return timm.create_model("bigr_nano", **{**SMALL, **changes})


def finished(folder, model):
    """A run of `bigr train` that ended."""
    checkpoints.save_model(model.generator, folder / "model")
    return unfinished(folder, model, steps=())


def unfinished(folder, model, steps=(5, 12)):
    """A run that was interrupted: checkpoints only, the newest with the weights of `model`, or none."""
    checkpoints.save_model(model.tokenizer, folder / "tokenizer")
    settings = {"kind": "TrainConfig", "settings": {"model": model.generator.config.to_dict()}, "identity": {}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "checkpoints").mkdir()
    for step in steps:
        state = {key: value + (step != steps[-1]) for key, value in model.generator.state_dict().items()}
        torch.save({"format": 1, "step": step, "ema": state, "model": {}}, folder / "checkpoints" / f"step_{step:08d}.pt")
    return folder


def exported(folder, model):
    checkpoints.save_model(model.generator, folder / "bigr")
    checkpoints.save_model(model.tokenizer, folder / "tokenizer")
    return folder


def single(folder, model):
    folder.mkdir()
    save_file(model.state_dict(), folder / "all.safetensors")
    return folder / "all.safetensors"


def pickled(folder, model):
    folder.mkdir()
    torch.save({"state_dict": model.state_dict()}, folder / "all.pth")
    return folder / "all.pth"


KINDS = {
    "a run": finished,
    "an interrupted run": unfinished,
    "the model of a run": lambda folder, model: finished(folder, model) / "model",
    "an export": exported,
    "the generator of an export": lambda folder, model: exported(folder, model) / "bigr",
    "a safetensors file": single,
    "a pickle": pickled,
    "a folder with one file": lambda folder, model: single(folder, model).parent,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_model(tmp_path, kind, caplog):
    model = small()
    path = KINDS[kind](tmp_path / "w", model)
    assert_same_weights(bigr_features.load_weights("bigr_nano", path, **SMALL), model)
    assert_same_weights(bigr_features.load_weights(timm.create_model("bigr_nano", **SMALL), path), model)
    assert ("did not end: taking its newest checkpoint, of step 12" in caplog.text) == (kind == "an interrupted run")


@pytest.mark.parametrize("name", TAKES_A_MODEL)
def test_every_command_that_takes_a_model_takes_weights(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert not ended.value.code
    shown = capsys.readouterr().out
    assert "--weights" in shown
    assert "--checkpoint" not in shown


def test_a_run_is_a_backbone_and_draws(tmp_path):
    run = unfinished(tmp_path / "run", small())
    more = ["--weights", str(run), "--model-args", *ARGS, "--device", "cpu", "--threads", "1"]
    main(["extract", "--model", "bigr_nano", "--source", "sample:digits", "--limit", "3", "--out", str(tmp_path / "s"), *more])
    store = FeatureStore(tmp_path / "s")
    assert store.manifest["weights"] == str(run)
    assert store.manifest["weights_sha256"] == checkpoints.fingerprint(small(num_classes=0))
    picture = tmp_path / "a.png"
    few = ["--labels", "1", "--num-per-label", "1", "--num-reveal-steps", "2", "--num-denoise-steps", "2"]
    main(["generate", "--model", "bigr_nano", "--out", str(picture), *few, *more])
    assert picture.is_file()


def test_a_gallery_finds_its_weights_from_another_directory(tmp_path, monkeypatch, capsys):
    exported(tmp_path / "w", small())
    (tmp_path / "d").mkdir()
    for value in (0, 90, 200):
        Image.new("RGB", (32, 32), (value, 90, 0)).save(tmp_path / "d" / f"{value}.png")
    monkeypatch.chdir(tmp_path)
    made = ["--model", "bigr_nano", "--model-args", *ARGS, "--weights", "w", "--device", "cpu"]
    main(["index", "--source", "d", "--out", "g", *made])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(["search", "../g", "../d/0.png", "--k", "1", "--device", "cpu"])
    assert "0.png" in capsys.readouterr().out.splitlines()[-1]


def test_the_classifier_of_an_ordinary_file_is_left_out_and_said(tmp_path, caplog):
    model = timm.create_model("test_resnet", num_classes=7).eval()
    for kind in (single, pickled):
        path = kind(tmp_path / kind.__name__, model)
        loaded = bigr_features.load_weights("test_resnet", path)
        x = torch.rand(1, 3, 64, 64)
        torch.testing.assert_close(loaded(x), model.forward_head(model.forward_features(x), pre_logits=True))
        assert f"left out the classifier of {path}" in caplog.text
        caplog.clear()


@pytest.mark.parametrize("model", ["bigr_nano", "test_resnet"])
def test_a_missing_path_is_named_with_what_would_be_accepted(tmp_path, model):
    said = r"there is no file or folder .*nope\.pth.* of weights; give a file of weights \(\.safetensors.*`bigr train`.*`bigr export`"
    command = ["extract", "--source", "sample:digits", "--out", str(tmp_path / "s"), "--device", "cpu"]
    with pytest.raises(SystemExit, match=said):
        main([*command, "--model", model, "--weights", str(tmp_path / "nope.pth")])
    with pytest.raises(FileNotFoundError, match=said):
        bigr_features.load_weights(model, tmp_path / "nope.pth")
    with pytest.raises(FileNotFoundError, match=r"no file or folder ''"):
        checkpoints.checked_weights("")


@pytest.mark.parametrize(("wanted", "given"), [("test_resnet", "test_vit"), ("test_vit", "test_resnet")])
def test_weights_of_another_architecture_name_the_first_differing_entries(tmp_path, wanted, given):
    path = single(tmp_path / "w", timm.create_model(given, num_classes=0))
    with pytest.raises(ValueError, match=r"does not fit this model.*it lacks .*it has .* that this model lacks"):
        bigr_features.load_weights(wanted, path)


def test_weights_of_another_size_show_both_shapes_and_the_arguments_that_fit(tmp_path):
    run = finished(tmp_path / "run", small())
    with pytest.raises(ValueError, match=r"is \[32\] there and \[\d+\] here|trained with") as refused:
        bigr_features.load_weights("bigr_nano", run)
    assert "--model-args" in str(refused.value)
    hint = str(refused.value).partition("(--model-args ")[2].rstrip(").").split()
    assert {"depth=1", "width=32", "num_heads=2"} <= set(hint)
    bigr_features.load_weights("bigr_nano", run, **{name: int(value) for name, _, value in (pair.partition("=") for pair in hint)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: shutil.rmtree(run / "checkpoints"), "did not end, and has no checkpoint yet"),
        (lambda run: shutil.rmtree(run / "tokenizer"), "has no tokenizer beside its generator"),
        (lambda run: (run / "config.json").write_text("{"), "config.json is damaged"),
        (lambda run: [path.unlink() for path in run.rglob("*") if path.is_file()], "holds no weights"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, spoil, message):
    run = unfinished(tmp_path / "run", small())
    spoil(run)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        bigr_features.load_weights("bigr_nano", run, **SMALL)


def test_a_folder_of_several_files_asks_for_one(tmp_path):
    path = single(tmp_path / "w", small())
    shutil.copy(path, path.with_name("other.safetensors"))
    with pytest.raises(ValueError, match=r"several files of weights \(all\.safetensors, other\.safetensors\); name one"):
        bigr_features.load_weights("bigr_nano", path.parent, **SMALL)


def test_a_bigr_run_is_no_weights_of_another_model(tmp_path):
    run = finished(tmp_path / "run", small())
    with pytest.raises(ValueError, match=r"holds a BiGR model, not weights of \w+; name a bigr model"):
        bigr_features.load_weights("test_resnet", run)


def test_an_interrupted_tokenizer_gives_its_newest_checkpoint(tmp_path, caplog):
    model = small().tokenizer
    settings = {"kind": "TrainTokenizerConfig", "settings": {"model": model.config.to_dict()}, "identity": {}}
    run = tmp_path / "t"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(settings))
    torch.save({"format": 1, "step": 30, "ema": model.state_dict()}, run / "checkpoints" / "step_00000030.pt")
    main(["encode", "--tokenizer", str(run), "--source", "sample:digits", "--limit", "4", "--out", str(tmp_path / "c"), "--device", "cpu"])
    assert "newest checkpoint, of step 30" in caplog.text
    assert_same_weights(checkpoints.load_trained(run), model)


def test_the_former_name_of_the_option_is_taken_and_said(tmp_path, capsys):
    path = single(tmp_path / "w", small())
    few = ["--source", "sample:digits", "--limit", "2", "--device", "cpu", "--threads", "1"]
    main(["extract", "--model", "bigr_nano", "--model-args", *ARGS, "--checkpoint", str(path), "--out", str(tmp_path / "s"), *few])
    assert "--checkpoint is called --weights now" in capsys.readouterr().err


@pytest.mark.parametrize(("former", "now"), [("--usage-weight", "--entropy-weight"), ("--indecision-weight", "--commitment-weight")])
@pytest.mark.parametrize("joined", [False, True])
def test_the_former_names_of_the_tokenizer_losses_are_taken_and_said(former, now, joined, capsys):
    from bigr_features.cli.main import _parsed

    option = [f"{former}=0.1"] if joined else [former, "0.1"]
    settings = _parsed("train-tokenizer", ["--source", "sample:digits", "--out", "r", *option])
    assert f"{former} is called {now} now" in capsys.readouterr().err
    assert getattr(settings, now.strip("-").replace("-", "_")) == 0.1
