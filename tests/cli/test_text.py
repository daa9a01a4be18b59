"""Promises of prompts on the command line: pictures that know their prompts, and one clear line for what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
from PIL import Image

from bigr_features.checkpoints import load_model, save_model
from bigr_features.cli import main
from bigr_features.plots.pictures import read_settings

from ..helpers import randomized
from ..text import captioned_images, save_encoder
from ..train.small import TOKENIZER

FAST = ["--num-denoise-steps", "2", "--num-reveal-steps", "2", "--device", "cpu"]
SAMPLE = "sample:fashion_mnist:0"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    model = randomized(timm.create_model("bigr_nano_t2i", depth=2))
    save_model(model.generator, folder / "model")
    save_model(model.tokenizer, folder / "tokenizer")
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(weights):
    def run(*words: str) -> None:
        main([*words, "--weights", str(weights), "--model-args", "depth=2", *FAST])

    return run


def refused(capsys, run, *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    return str(stopped.value) if isinstance(stopped.value.code, str) else capsys.readouterr().err


def test_generate_draws_a_column_a_prompt_and_knows_it(command, capsys):
    command("generate", "--text", "a dark ankle boot", "--text", "a light wide bag", "--num-per-label", "2", "--out", "boots.png",
            "--results", "each")  # fmt: skip
    settings = read_settings("boots.png")
    assert settings["text"] == ["a dark ankle boot", "a light wide bag"] * 2
    assert settings["model"].startswith("bigr_nano_t2i.fashion_mnist")
    assert settings["seeds"] == [0, 1, 2, 3]
    assert read_settings("each/0001.png")["text"] == "a light wide bag"
    command("generate", "--text", "a light wide bag", "--num-per-label", "1", "--seed", "1", "--results", "alone")
    assert np.array_equal(np.asarray(Image.open("alone/0000.png")), np.asarray(Image.open("each/0001.png")))
    command(
        "generate", "--text", "a light wide bag", "--negative-text", "a boot", "--num-per-label", "1", "--seed", "1", "--results", "away"
    )
    assert not np.array_equal(np.asarray(Image.open("away/0000.png")), np.asarray(Image.open("each/0001.png")))
    assert read_settings("away/0000.png")["negative_text"] == "a boot"


def test_images_without_a_prompt_are_asked_for(command, capsys):
    command("generate", "--model", "bigr_nano_t2i", "--unconditional", "3", "--out", "free.png")
    assert read_settings("free.png")["text"] == ["", "", ""]
    assert "give --text, or --unconditional N" in refused(capsys, command, "generate", "--model", "bigr_nano_t2i")


def test_prompts_are_interpolated_and_ends_are_the_prompts(command):
    command("interpolate", "--text", "a bag", "--text", "a boot", "--num-images", "3", "--num-rows", "1", "--results", "way")
    assert read_settings("interpolated.png")["prompts"] == ["a bag", "a boot"]
    ends = []
    for prompt in ("a bag", "a boot"):
        command("generate", "--text", prompt, "--num-per-label", "1", "--results", "end")
        ends.append(np.asarray(Image.open("end/0000.png"), int))
    for i, name in enumerate(("0000", "0002")):
        # in another batch products are rounded otherwise, which may turn a bit over; but it stays the picture of its own prompt
        own, other = (np.abs(np.asarray(Image.open(f"way/{name}.png"), int) - end).mean() for end in (ends[i], ends[1 - i]))
        assert own < 0.2 * other


@pytest.mark.parametrize("name", ["inpaint", "outpaint", "enrich"])
def test_pictures_are_drawn_anew_as_a_prompt_says(command, name):
    command(name, SAMPLE, "sample:fashion_mnist:5", "--text", "a light shirt", "--out", "changed.png")
    assert read_settings("changed.png")["text"] == ["a light shirt"] * 2
    command(name, SAMPLE, "sample:fashion_mnist:5", "--text", "a light shirt", "--text", "a bag", "--out", "each.png")
    assert read_settings("each.png")["text"] == ["a light shirt", "a bag"]


def test_a_picture_is_edited_once_for_each_prompt(command):
    command("edit", SAMPLE, "--text", "a shirt", "--text", "a bag", "--out", "edited.png", "--results", "each")
    assert read_settings("edited.png")["text"] == ["a shirt", "a bag"]
    assert sorted(path.name for path in __import__("pathlib").Path("each").iterdir()) == [
        "sample_fashion_mnist_0_text_0.png",
        "sample_fashion_mnist_0_text_1.png",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "--model", "bigr_nano_t2i", "--labels", "3"], "--labels were given, but bigr_nano_t2i is conditioned on captions"),
        (["generate", "--text", "zebra"], "has no word that the model knows"),
        (["generate", "--text", "a \x1b[31mbag"], "prompt 0 holds the control character"),
        (["generate", "--text", "bag", "--unconditional", "2"], "--unconditional and --text were both given"),
        (["generate", "--text", "bag", "--negative-text", "boot", "--guidance-scale", "1"], "--negative-text boot has no effect without"),
        (["generate", "--text", "bag", "--text-encoder", "some"], "reads no features of an encoder"),
        (["interpolate", "--text", "bag"], "1 prompts were given, and an interpolation needs 2 or more"),
        (["inpaint", SAMPLE, "--text", "bag", "--text", "boot"], "2 prompts were given for 1 pictures; give one for all, or one each"),
        (["edit", SAMPLE, "--model", "bigr_nano_t2i"], "an edit needs a prompt, but none was given"),
        (["edit", SAMPLE, "--text", " "], "an empty prompt was given, or none, but edit needs one"),
    ],
)
def test_what_does_not_fit_is_answered_in_a_line(command, capsys, words, message):
    answer = refused(capsys, command, *words)
    assert message in answer
    assert "\n" not in answer.strip()


def test_text_on_a_model_of_classes_is_refused(capsys):
    answer = refused(capsys, main, ["generate", "--model", "bigr_nano.fashion_mnist", "--text", "a bag"])
    assert "--text was given, but bigr_nano.fashion_mnist is conditioned on classes" in answer


def test_very_long_and_empty_prompts_are_drawn(command, caplog):
    command("generate", "--text", "a dark bag " * 10_000, "--text", "", "--num-per-label", "1", "--out", "long.png")
    assert "the model takes 12: cut after" in caplog.text
    assert "prompt 1 is empty: the null caption stands for it" in caplog.text


def test_evaluate_generation_says_what_to_do_with_prompts(weights, capsys):
    words = ["evaluate-generation", "sample:fashion_mnist", "--model", "bigr_nano_t2i", "--weights", str(weights), "--images", "10"]
    words += ["--network", "test_resnet", "--out", "measured", "--model-args", "depth=2"]
    assert "draws what prompts describe and has no classes" in refused(capsys, main, words)


@pytest.mark.parametrize("kind", ["words", "t5"])
def test_train_on_a_listing_and_draw_with_what_it_wrote(tmp_path, kind):
    if kind == "t5":
        pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    from bigr_features import BinaryAutoencoder

    torch.manual_seed(0)
    save_model(BinaryAutoencoder(TOKENIZER), tmp_path / "tokenizer")
    listing = captioned_images(tmp_path / "images", 30)
    text = "words" if kind == "words" else str(save_encoder(tmp_path / "t5"))
    sizes = "--model.depth 2 --model.width 32 --model.num-heads 2 --model.grid-size 4 --model.code-dim 8 --model.num-timesteps 8"
    main(["train", "--text", text, "--source", str(listing), "--caption-column", "caption", "--tokenizer", str(tmp_path / "tokenizer"),
          "--out", str(tmp_path / "run"), "--steps", "2", "--batch-size", "8", "--validation", "4", "--validate-every", "2", "--trackers",
          "--sample-every", "2", "--num-samples", "2", "--sample-reveal-steps", "2", "--sample-denoise-steps", "2", "--sample-prompts",
          "a dark bag", "--device", "cpu", "--model.num-denoise-steps", "2", *sizes.split()])  # fmt: skip
    model = load_model(tmp_path / "run" / "model")
    assert model.config.text.encoder == kind
    assert (tmp_path / "run" / "samples" / "step_00000002.png").is_file()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["sample_prompts"] == ["a dark bag"]
    args = "depth=2 width=32 num_heads=2 code_dim=8 num_timesteps=8 num_denoise_steps=2 channel_multipliers=(1,1,1) embed_dim=32"
    args += " img_size=16 denoiser_width=144"
    main(["generate", "--model", "bigr_nano_t2i", "--weights", str(tmp_path / "run"), "--text", "a dark bag", "--out", "drawn.png",
          *(["--text-encoder", text] if kind == "t5" else []), "--model-args", *args.split(), *FAST])  # fmt: skip
    assert read_settings("drawn.png")["text"] == ["a dark bag"] * 2
