"""Promises of `bigr evaluate-generation` and `bigr reference`, on the weights that ship and a small network made here."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from bigr_features.cli import main
from bigr_features.features.metric_network import metric_network

JUDGE = ["--network", "test_resnet", "--checkpoint", "judge.safetensors", "--network-size", "32", "--device", "cpu"]
FAST = [*JUDGE, "--resamples", "10", "--few-samples", "--spatial-layer", "layer4"]
DRAWN = "--model bigr_nano.fashion_mnist --num-reveal-steps 3 --num-denoise-steps 2"
DATA = ["sample:fashion_mnist", "--limit", "150"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a small network of 10 classes, and a first run of 24 images."""
    folder = tmp_path_factory.mktemp("generation")
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), folder / "judge.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(f"{DRAWN} --images 24 --out first --adm-npz first/adm.npz")
    return folder


@pytest.fixture(autouse=True)
def _here(place, monkeypatch):
    monkeypatch.chdir(place)


def run(line: str, data=DATA, options=FAST) -> None:
    main(["evaluate-generation", *data, *options, *line.split()])


def report(name: str) -> dict:
    return json.loads(open(f"{name}/report.json").read())


def fails(line: str, capsys, **options) -> str:
    with pytest.raises(SystemExit) as error:
        run(line, **options)
    return str(error.value) + capsys.readouterr().err


def test_the_report_says_what_was_measured_and_how(place):
    found = report("first")
    assert {"frechet", "spatial_frechet", "kid", "inception_score", "precision", "recall", "density", "coverage"} <= set(found["metrics"])
    assert {"recognised", "memorisation"} <= set(found["metrics"])
    assert found["metrics"]["left_out"] == {}
    network = metric_network("test_resnet", "judge.safetensors", image_size=32, spatial_layer="layer4")
    assert found["network"] == network.identity
    assert (found["reference"]["images"], found["reference"]["split"], len(found["reference"]["sha256"])) == (150, "train", 64)
    assert found["samples"]["sampling"]["num_reveal_steps"] == 3
    assert len(found["samples"]["weights_sha256"]) == 64
    for part in ("floor", "ceiling"):
        assert found[part]["comparison"] == found["comparison"]
    assert found["ceiling"]["sha256"] != found["floor"]["sha256"]
    assert "memorisation" not in found["floor"]["metrics"]
    low, high = found["metrics"]["frechet"]["interval"]
    assert low <= found["metrics"]["frechet"]["value"] <= high
    with Image.open("first/samples.png") as picture:
        assert min(picture.size) > 200


def test_samples_are_a_labelled_set_and_adms_file(place):
    with np.load("first/adm.npz", allow_pickle=False) as arrays:
        assert (arrays["arr_0"].shape, arrays["arr_0"].dtype) == ((24, 32, 32, 3), np.uint8)
        assert arrays["arr_1"].tolist() == [i % 10 for i in range(24)]
        first = np.asarray(Image.open("first/samples/003/000013.png").convert("RGB"))
        np.testing.assert_array_equal(arrays["arr_0"][13], first)


def test_a_run_that_was_stopped_goes_on_and_gives_the_same(place):
    shutil.copytree("first", "again")
    for i in range(5, 20):
        (place / "again" / "samples" / f"{i % 10:03d}" / f"{i:06d}.png").unlink()
    run(f"{DRAWN} --images 24 --out again --batch-size 4")
    assert report("again")["samples"] == report("first")["samples"]  # the hash of the pixels among it
    assert report("again")["metrics"]["frechet"]["value"] == pytest.approx(report("first")["metrics"]["frechet"]["value"], rel=1e-4)


@pytest.mark.parametrize("samples", ["first/samples", "first/adm.npz"])
def test_a_folder_and_a_file_of_images_are_measured_like_their_model(samples, capsys):
    out = samples.replace("/", "_")
    run(f"--samples {samples} --out {out} --compare first")
    text = capsys.readouterr().out
    assert text.splitlines()[0].split()[0] == samples.rsplit("/", 1)[1]
    assert "first" in text.splitlines()[0]
    found = report(out)
    for name in ("frechet", "kid", "coverage"):
        assert found["metrics"][name]["value"] == pytest.approx(report("first")["metrics"][name]["value"], rel=1e-3, abs=1e-6)
    assert found["ceiling"] is None
    assert ("recognised" in found["metrics"]) == ("npz" not in samples)


def test_a_reference_that_was_written_gives_the_same_distances_and_nothing_of_the_data(capsys):
    main(["reference", *DATA, *JUDGE, "--spatial-layer", "layer4", "--image-size", "32", "--out", "ref.npz", "--num-images", "150"])
    assert "150 images kept" in capsys.readouterr().out
    run("--samples first/samples --out by_reference --reference ref.npz", data=[])
    found, first = report("by_reference"), report("first")
    for name in ("frechet", "spatial_frechet", "kid", "precision", "coverage"):
        assert found["metrics"][name]["value"] == pytest.approx(first["metrics"][name]["value"], rel=1e-3, abs=1e-6)
    assert found["comparison"] == first["comparison"]
    assert found["floor"] is None
    assert "memorisation" in found["metrics"]["left_out"]


def test_statistics_of_another_network_are_refused(capsys):
    main(["reference", *DATA, *JUDGE, "--spatial-layer", "layer4", "--image-size", "32", "--out", "other.npz", "--num-images", "0"])
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet", num_classes=10).state_dict(), "other.safetensors")
    options = [part if part != "judge.safetensors" else "other.safetensors" for part in FAST]
    text = fails("--samples first/samples --out x --reference other.npz", capsys, data=[], options=options)
    assert "the reference was made with test_resnet" in text
    assert "differ in sha256" in text
    text = fails("--samples first/samples --out x --reference other.npz --network-size 64", capsys, data=[])
    assert "differ in transform" in text
    assert "no samples" not in text


def test_a_reference_that_names_no_network_is_refused_unless_asked_for(capsys):
    with np.load("first/adm.npz") as arrays:
        images = arrays["arr_0"]
    np.savez("adm_reference.npz", mu=np.zeros(2048), sigma=np.eye(2048), arr_0=images)
    text = fails("--samples first/samples --out x --reference adm_reference.npz", capsys, data=[])
    assert "does not say which network" in text
    assert "--adm-npz" in text
    text = fails("--samples first/samples --out x --reference adm_reference.npz --foreign-reference", capsys, data=[])
    assert "the reference's statistics 2048" in text


def test_reports_that_cannot_be_compared_are_refused(capsys):
    text = fails("--samples first/samples --images 20 --out fewer --compare first", capsys)
    assert "differ in images (20 and 24)" in text


def test_too_few_images_are_refused_before_any_is_drawn(place, capsys):
    options = [part for part in FAST if part != "--few-samples"]
    text = fails(f"{DRAWN} --images 30 --out few", capsys, options=options)
    assert "too few for the Frechet distance of" in text
    assert "would be bias" in text
    assert not list((place / "few" / "samples").glob("**/*.png"))


def test_samples_of_other_settings_are_not_mixed(capsys):
    text = fails(f"{DRAWN} --images 24 --out first --seed 1", capsys)
    assert "holds samples of other seed (0 there, 1 now)" in text


def test_folders_without_splits_or_labels_or_of_mixed_sizes(place, capsys):
    flat = place / "flat"
    flat.mkdir()
    for path in sorted((place / "first" / "samples").rglob("*.png")):
        shutil.copy(path, flat / path.name)
    run("--samples first/samples --out no_floor", data=["flat"])
    assert report("no_floor")["floor"] is None
    run("--samples flat --out unlabelled")
    assert "no labels" in report("unlabelled")["metrics"]["left_out"]["recognised"]
    Image.new("RGB", (40, 40)).save(flat / "zzz.png")
    text = fails("--samples flat --out mixed", capsys)
    assert "zzz.png is 40 x 40 but the first picture is 32 x 32" in text
    run("--samples flat --out resized --image-size 32")
    assert report("resized")["samples"]["images"] == 25


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--out x", "give one of them"),
        ("--model bigr_nano.fashion_mnist --samples first/samples --out x", "give one of them"),
        ("--samples first/samples --weights y --out x", "--weights y has no effect without --model"),
        ("--samples first/samples --num-reveal-steps 3 --out x", "--num-reveal-steps 3 has no effect without --model"),
        ("--samples first/samples --reference r.npz --limit 7 --out x", "--limit 7 has no effect without a reference made of the data"),
        ("--samples first/samples --foreign-reference --out x", "--foreign-reference has no effect without --reference"),
        ("--samples first/samples --images 1 --out x", "--images 1"),
        ("--samples first/samples --out x --adm-npz y.zip", "does not end in .npz"),
        ("--samples first/samples --out x --compare nothing.json", "there is no report nothing.json"),
        ("--samples first/samples --out x --compare judge.safetensors", "is no report of"),
        ("--samples nothing_here/at/all --out x", "there is no file or folder nothing_here/at/all"),
        ("--samples first/samples --out x --test-split nope", "nope"),
        ("--model test_resnet --out x", "is no generator"),
    ],
)
def test_wrong_input_is_named(line, message, capsys):
    assert message in fails(line, capsys)


def test_a_missing_reference_is_named(capsys):
    assert "there is no file none.npz" in fails("--samples first/samples --out x --reference none.npz", capsys, data=[])


@pytest.mark.parametrize(
    ("line", "message"),
    [("--out ref.json", "does not end in .npz"), ("--out r.npz --num-images -1", "--num-images -1"), ("--out r.npz --split x", "x")],
)
def test_a_wrong_reference_command_is_named(line, message, capsys):
    with pytest.raises(SystemExit) as error:
        main(["reference", *DATA, *JUDGE, *line.split()])
    assert message in str(error.value)
