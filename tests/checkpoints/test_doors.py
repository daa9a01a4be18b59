"""Promise: every door for a file of weights is the safe reader. Nothing in a file is executed, and what is no file of weights is named."""

from __future__ import annotations

import gzip
import pickle
import shlex
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

import bigr_features  # noqa: F401  (registers the models)
from bigr_features import checkpoints
from bigr_features.cli import main
from bigr_features.train.losses import PerceptualLoss

SMALL = {"depth": 1, "width": 32, "num_heads": 2}
EXTRACT = shlex.split("extract --source sample:digits --limit 2 --device cpu --threads 1")
RESNET = ("--model", "test_resnet.r160_in1k")
NANO = ("--model", "bigr_nano", "--model-args", "depth=1", "width=32", "num_heads=2")
SUFFIXES = (".pt", ".pth", ".th", ".bin", ".ckpt", ".safetensors", "")


class Attack:
    """Unpickling it would create a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def overlay(path):
    return timm.create_model("bigr_nano", pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **SMALL)


def gallery_of(path):
    """A gallery that names the file as the weights of its model, searched."""
    folder = path.parent / "gallery"
    model = overlay_free()
    safetensors.torch.save_file(model.state_dict(), folder.parent / "good.safetensors")
    named = path.with_name("named" + path.suffix)
    content = path.read_bytes()
    good = folder.parent / "good.safetensors"
    named.write_bytes(good.read_bytes())
    images = folder.parent / "images"
    images.mkdir()
    from PIL import Image

    for value in (0, 90, 200):
        Image.new("RGB", (32, 32), (value, 0, 0)).save(images / f"{value}.png")
    line = ["--source", str(images), "--out", str(folder), "--weights", str(named), "--layer", "0", "--device", "cpu"]
    main(["index", *NANO, *line])
    named.write_bytes(content)
    main(["search", str(folder), str(images / "0.png"), "--k", "1", "--device", "cpu"])


def overlay_free():
    return timm.create_model("bigr_nano", **SMALL)


DOORS = {
    "--weights of a timm model": lambda path: main([*EXTRACT, *RESNET, "--weights", str(path), "--out", str(path.parent / "s")]),
    "--weights of a bigr model": lambda path: main([*EXTRACT, *NANO, "--weights", str(path), "--out", str(path.parent / "s")]),
    "file= of a bigr model": overlay,
    "--weights": lambda path: main(["generate", "--weights", str(path), "--out", str(path.parent / "a.png"), "--device", "cpu"]),
    "--perceptual": lambda path: PerceptualLoss(path),
    "read_checkpoint": checkpoints.read_checkpoint,
}


def refusal(door, path) -> str:
    """What is said when a file is refused; a command ends with it, in one line."""
    with pytest.raises((ValueError, OSError, SystemExit)) as ended:
        DOORS[door](path)
    said = str(ended.value.code if isinstance(ended.value, SystemExit) else ended.value)
    assert "\n" not in said
    return said


def hostile(path: Path, marker: Path, zipped: bool) -> None:
    content = {"state_dict": {"head.weight": torch.zeros(1)}, "extra": Attack(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("suffix", "zipped"), [(".pt", True), (".bin", False), (".safetensors", True)])
def test_a_hostile_pickle_is_refused_at_every_door_and_executes_nothing(tmp_path, door, suffix, zipped):
    path, marker = tmp_path / f"evil{suffix}", tmp_path / "marker"
    hostile(path, marker, zipped)
    assert path.name in refusal(door, path)
    assert not marker.exists()


def test_a_hostile_pickle_that_a_gallery_names_is_refused(tmp_path):
    path, marker = tmp_path / "evil.pt", tmp_path / "marker"
    hostile(path, marker, True)
    with pytest.raises(SystemExit, match=r"named\.pt was refused and nothing in it was executed"):
        gallery_of(path)
    assert not marker.exists()


def test_a_hostile_pickle_in_a_folder_of_our_format_is_refused(tmp_path):
    checkpoints.save_model(overlay_free().tokenizer, tmp_path / "model")
    marker = tmp_path / "marker"
    (tmp_path / "model" / "model.safetensors").write_bytes(pickle.dumps(Attack(marker)))
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        checkpoints.load_model(tmp_path / "model")
    assert not marker.exists()


NO_WEIGHTS = {
    "empty": (b"", "is empty"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git-lfs pointer"),
    "page": (b"\n<!DOCTYPE html><html><title>Sign in</title></html>", "a web page"),
    "text": ("Zugriff verweigert – Anmeldung nötig\n".encode(), "a text file"),
    "index": (b'{"metadata": {}, "weight_map": {}}', "a text file"),
    "archive": (gzip.compress(b"weights"), "gzip archive"),
    "zeros": (bytes(4096), "damaged"),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_file_of_weights_is_named_whatever_its_suffix(tmp_path, kind, suffix):
    content, message = NO_WEIGHTS[kind]
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    said = refusal("read_checkpoint", path)
    assert str(path) in said
    assert message in said


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["empty", "pointer", "folder", "missing"])
def test_every_door_names_what_it_cannot_read(tmp_path, door, kind):
    path = tmp_path / "w.pt"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(NO_WEIGHTS[kind][0])
    assert str(path) in refusal(door, path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.99])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_cut_download_is_named(tmp_path, share, suffix):
    whole = safetensors.torch.save({"a": torch.zeros(500), "b": torch.zeros(500)})
    path = tmp_path / f"w{suffix}"
    path.write_bytes(whole[: max(1, int(len(whole) * share))])
    assert str(path) in refusal("read_checkpoint", path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_weights_are_told_by_their_content_not_by_their_suffix(tmp_path, suffix, form):
    state, path = {"a": torch.arange(3.0)}, tmp_path / f"w{suffix}"
    if form == "safetensors":
        path.write_bytes(safetensors.torch.save(state))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    assert torch.equal(checkpoints.read_checkpoint(path)["a"], state["a"])
