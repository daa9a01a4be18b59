"""Benchmarks of text-to-image run as a user runs them, and count what they say."""

from __future__ import annotations

import json
import shlex

import pytest
import timm

from bigr_features.checkpoints import save_model

from .test_benchmarks import run


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("t2i")
    model = timm.create_model("bigr_nano_t2i", depth=2)
    save_model(model.generator, folder / "model")
    save_model(model.tokenizer, folder / "tokenizer")
    return folder


def test_every_word_has_a_share_a_ceiling_and_a_floor(tmp_path, weights):
    done = run(
        "text_to_image.py",
        *shlex.split("--data sample:fashion_mnist --images 80 --guidance-images 10 --reveal-steps 1 --denoise-steps 1 --epochs 1"),
        *shlex.split(f"--limit 300 --threads 1 --model-args depth=2 --weights {weights} --out {tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    assert "of it), floor" in done.stdout
    result = json.loads((tmp_path / "text_to_image.json").read_text())
    assert {"class", "dark", "light", "narrow", "wide", "short", "long", "plain", "patterned"} == set(result["words"]["words"])
    for part in ("words", "ceiling", "floor"):
        for row in result[part]["words"].values():
            if row["images"]:
                assert 0 <= row["interval"][0] <= row["share"] <= row["interval"][1] <= 1
    assert result["words"]["kinds"]["held_out"]["images"] == 40  # two words of each of 20 prompts
    assert set(result["words"]["both_words"]) == {"class", "one", "seen", "held_out"}
    assert [row["scale"] for row in result["guidance"]] == [1.0, 1.5, 2.5, 4.0, 6.0]


def test_word_order_is_measured_with_both_rotations(tmp_path):
    done = run(
        "word_order.py",
        *shlex.split("--data sample:fashion_mnist --limit 200 --steps 3 --batch 8 --depth 1 --width 32 --pictures 20 --images 10"),
        *shlex.split(f"--epochs 1 --threads 1 --out {tmp_path}"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "word_order.json").read_text())
    assert set(result["rotations"]) == {"identity", "zero"}
    for row in (result["decoded_real_pictures"], *result["rotations"].values()):
        assert row["both_right"]["share"] + row["exchanged"]["share"] <= 1
        assert row["halves_right"]["share"] >= row["both_right"]["share"]
