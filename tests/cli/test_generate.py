"""Promises of the commands that draw: pictures with their settings inside, and one clear line for wrong input."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import timm
from PIL import Image

from bigr_features.cli import main
from bigr_features.plots.pictures import read_settings
from bigr_features.sampling.presets import PRESETS

UNCOND = "--model bigr_nano.fashion_mnist_uncond"
SAMPLE, OTHER = "sample:fashion_mnist:0", "sample:fashion_mnist:5"
FAST = ["--num-denoise-steps", "2", "--num-reveal-steps", "3", "--device", "cpu"]


CREATE = timm.create_model


@cache
def shipped(name: str):
    return CREATE(name, pretrained=True)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Commands run in an empty folder, and load the shipped model once for all tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timm, "create_model", lambda name, **_: shipped(name))


def command(line: str) -> None:
    main([*line.split(), *FAST])


def test_a_preset_is_in_the_file_as_its_settings():
    one = ["--labels", "3", "--num-per-label", "1", "--device", "cpu"]
    main(["generate", "--preset", "fastest", "--temperature", "1.1", "--out", "fast.png", *one])
    settings = read_settings("fast.png")
    written = {name: list(value) if isinstance(value, tuple) else value for name, value in PRESETS["fastest"].items()}
    assert settings.items() >= {**written, "temperature": 1.1}.items()
    main(
        [
            "generate",
            "--preset",
            "fast",
            "--order",
            "entropy",
            "--num-reveal-steps",
            "20",
            "--num-denoise-steps",
            "2",
            "--out",
            "own.png",
            *one,
        ]
    )
    named = read_settings("own.png")  # also where what is named is the default of the option
    assert (named["order"], named["num_reveal_steps"], named["num_denoise_steps"], named["guidance_scale"]) == ("entropy", 20, 2, 2.0)
    assert named["final_denoise_steps"] <= 2
    with pytest.raises(SystemExit, match="preset='exact' and order='halton' contradict each other"):
        main(["generate", "--preset", "exact", "--order", "halton", "--out", "never.png", *one])


def test_generate_draws_all_classes_and_says_how_in_the_file(tmp_path, capsys):
    command("generate --seed 1 --num-per-label 1 --out grid.png --results each --strip strip.png --gif steps.gif")
    assert "wrote grid.png, 10 images in each, strip.png, steps.gif" in capsys.readouterr().out
    settings = read_settings("grid.png")
    assert settings["labels"] == list(range(10))
    assert settings["seeds"] == list(range(1, 11))
    assert (settings["num_reveal_steps"], settings["model"], len(settings["weights_sha256"])) == (3, "bigr_nano.fashion_mnist", 64)
    assert len(list((tmp_path / "each").iterdir())) == 10
    one = read_settings("each/0004.png")
    assert (one["labels"], one["seed"]) == (4, 5)
    with Image.open("steps.gif") as gif:
        assert gif.n_frames == 3

    command("generate --labels 4 --num-per-label 1 --seed 5 --results alone")
    assert np.array_equal(np.asarray(Image.open("alone/0000.png")), np.asarray(Image.open("each/0004.png")))
    command("generate --labels 4 --num-per-label 1 --seed 6 --results other")
    assert not np.array_equal(np.asarray(Image.open("other/0000.png")), np.asarray(Image.open("each/0004.png")))


def test_generate_without_a_class_in_small_batches():
    command("generate --unconditional 3 --batch-size 2 --order halton --out free.png")
    assert read_settings("free.png")["labels"] == [10, 10, 10]


def test_a_model_trained_without_labels_draws_without_classes():
    command(f"generate {UNCOND} --out free.png")
    assert read_settings("free.png")["labels"] == [10] * 16
    command(f"inpaint {SAMPLE} {UNCOND}")
    assert read_settings("inpainted.png")["labels"] == [10]


def test_interpolate():
    command("interpolate --labels 1 3 8 --num-images 5 --num-rows 1 --out way.png")
    settings = read_settings("way.png")
    assert settings["classes"] == [1, 3, 8]
    assert settings["weights"][1] == [0.5, 0.5, 0.0]
    assert settings["seeds"] == [0] * 5


@pytest.mark.parametrize("name", ["inpaint", "outpaint", "edit", "enrich"])
def test_editing_commands_need_only_a_picture(name, capsys):
    command(f"{name} {SAMPLE} {OTHER} --results each --strip strip.png")
    out = {"inpaint": "inpainted", "outpaint": "outpainted", "edit": "edited", "enrich": "enriched"}[name]
    settings = read_settings(f"{out}.png")
    assert settings["command"] == name
    count = 20 if name == "edit" else 2
    assert len(settings["labels"]) == len(settings["seeds"]) == count
    assert f"{count} images in each" in capsys.readouterr().out


def test_a_word_that_is_no_region_is_answered_with_those_that_are():
    with pytest.raises(SystemExit, match="--mask middle is no region and no file; give one of center, left, right, top, bottom, box:TOP"):
        main(["inpaint", "sample:fashion_mnist:0", "--mask", "middle"])


def test_a_mask_file_says_where_and_the_rest_stays(tmp_path):
    random = np.random.default_rng(0)
    given = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[3:17, 9:30] = 255
    Image.fromarray(given).save("photo.png")
    Image.fromarray(mask).save("mask.png")
    command("inpaint photo.png --mask mask.png --labels 3 --results each --out a.png")
    result = np.asarray(Image.open("each/photo.png"))
    assert np.array_equal(result[mask == 0], given[mask == 0])
    assert (result[mask > 0] != given[mask > 0]).any()
    assert read_settings("each/photo.png")["mask"] == "mask.png"

    clear = np.dstack([given, 255 - mask])
    Image.fromarray(clear, "RGBA").save("clear.png")
    command("inpaint clear.png --mask alpha --labels 3 --results each --out b.png")
    assert np.array_equal(np.asarray(Image.open("each/clear.png")), result)


def test_the_central_region_of_an_outpainted_picture_stays():
    command(f"outpaint {SAMPLE} --keep 0.5 --results each")
    from bigr_features.data.single import open_picture

    given = np.asarray(open_picture(SAMPLE, sample_size=32))
    result = np.asarray(Image.open("each/sample_fashion_mnist_0.png"))
    assert np.array_equal(result[8:24, 8:24], given[8:24, 8:24])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("generate --labels 10", "ValueError: label 10 is the null class"),
        ("generate --labels 3 11", "ValueError: label 11 is out of range; bigr_nano.fashion_mnist has the classes 0..9"),
        (f"generate {UNCOND} --labels 3", "label 3 was given, but the model was trained without labels"),
        (f"edit {SAMPLE} {UNCOND}", "was trained without labels, and an edit needs classes"),
        (f"interpolate {UNCOND}", "was trained without labels, and there is nothing to interpolate between"),
        ("generate --labels 1 --unconditional 2", "--unconditional and --labels were both given"),
        ("generate --num-per-label 0", "--num-per-label 0 was given"),
        ("generate --out grid.jpg", "--out grid.jpg does not end in .png"),
        ("generate --gif a.png", "--gif a.png does not end in .gif"),
        ("generate --seed -1", "seed -1 is out of range"),
        ("generate --batch-size 0", "--batch-size 0"),
        ("generate --model resnet18", "resnet18 is no generator; choose one of bigr_l"),
        ("interpolate --labels 4", "1 classes were given; interpolation needs 2"),
        ("interpolate --labels 4 10", "label 10 is the null class"),
        ("interpolate --labels 1 2 --mixture 0.5", "weights have shape (1, 1)"),
        ("inpaint missing.png", "FileNotFoundError: there is no file missing.png"),
        ("inpaint text.png", "text.png is not an image that can be read"),
        ("inpaint moving.gif", "moving.gif is an animation of 2 frames"),
        ("inpaint small.png", "small.png is 20 x 20, smaller than the model's 32 x 32; enlarge it first"),
        ("inpaint clear.png", "clear.png has an alpha channel"),
        ("inpaint photo.png --mask alpha", "photo.png has no transparent pixel"),
        ("inpaint photo.png --mask mask.png", "mask mask.png is 30 x 40 but photo.png is 40 x 40"),
        ("inpaint photo.png --mask black.png", "mask of image 0 is empty"),
        ("inpaint photo.png --mask white.png", "touches every one of its 8 x 8 tokens, so no token is known"),
        ("inpaint photo.png --mask box:0,0,40,40", "does not lie in an image of 32 x 32"),
        ("inpaint photo.png --mask box:1,2", "a box is box:TOP,LEFT,HEIGHT,WIDTH"),
        ("inpaint photo.png --mask box:0,0,4,8", "num_reveal_steps=3, but at most 2 tokens of an image are drawn"),
        ("inpaint photo.png --labels 1 2", "2 labels were given for 1 pictures"),
        ("edit photo.png --labels 10", "label 10 is the null class"),
        ("outpaint photo.png --keep 1.0", "--keep 1.0 was given"),
        ("outpaint photo.png --keep 0.01", "must leave some to keep"),
        ("enrich photo.png --num-passes 1", "num_passes=1"),
        ("enrich photo.png --shrink-to 64", "--shrink-to 64"),
    ],
)
def test_wrong_input_is_one_line(tmp_path, line, message):
    (tmp_path / "text.png").write_text("no image")
    frames = [Image.new("RGB", (40, 40), (value, 0, 0)) for value in (0, 250)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    for name, size, mode, color in (
        ("photo", (40, 40), "RGB", (9, 99, 199)),
        ("small", (20, 20), "RGB", 0),
        ("clear", (40, 40), "RGBA", (0, 0, 0, 0)),
        ("mask", (30, 40), "L", 255),
        ("black", (40, 40), "L", 0),
        ("white", (40, 40), "L", 255),
    ):
        Image.new(mode, size, color).save(f"{name}.png")
    before = set(tmp_path.iterdir())
    with pytest.raises(SystemExit) as ended:
        command(line)
    assert message in ended.value.code
    assert "\n" not in ended.value.code
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("line", ["generate --guidance-scale 0.5", "inpaint photo.png --num-denoise-steps 0", "inpaint"])
def test_settings_out_of_range_and_a_missing_picture_stop_at_the_command_line(line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    said = f"{ended.value.code} {capsys.readouterr().err}"
    assert any(text in said for text in ("guidance_scale=0.5", "num_denoise_steps=0", "no picture was given", "required"))


@pytest.mark.parametrize("name", ["generate", "interpolate", "inpaint", "outpaint", "edit", "enrich"])
def test_help_names_every_option(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert not ended.value.code
    text = capsys.readouterr().out
    for option in ("--seed", "--num-reveal-steps", "--guidance-scale", "--order", "--bits", "--out"):
        assert option in text


def test_a_picture_says_which_precision_it_was_drawn_in(tmp_path, capsys):
    made = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / f"{precision}.png"
        main(["generate", "--labels", "3", "--out", str(out), "--preset", "fastest", "--precision", precision, "--device", "cpu"])
        with Image.open(out) as picture:
            assert read_settings(out)["precision"] == precision
            made[precision] = np.asarray(picture.convert("L"), dtype=float)
    assert 0 < np.abs(made["fp32"] - made["bf16"]).mean() < 40
    with pytest.raises(SystemExit):
        main(["generate", "--precision", "fp16"])
    assert "fp16" in capsys.readouterr().err
