"""Promises of `bigr plot`: pictures, scores and a page from feature stores, and refusals before any work."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import timm
from PIL import Image

import bigr_features  # noqa: F401  (registers the models)
from bigr_features.cli import main
from bigr_features.features.extraction import ExtractionSettings, extract_to_store
from bigr_features.features.store import FeatureStore


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two small stores of the same images: a trained model with bits, and a random one."""
    folder = tmp_path_factory.mktemp("stores")
    for name, model, settings in (
        ("trained", timm.create_model("bigr_nano.fashion_mnist", pretrained=True, num_classes=0), {"layers": (3, 5), "bits": True}),
        ("random", timm.create_model("bigr_nano", num_classes=0), {"layers": (3,)}),
    ):
        asked = ExtractionSettings(source="sample:digits", split="test", limit=150, **settings)
        extract_to_store(model.eval(), folder / name, asked)
    return folder


def run(monkeypatch, folder, *args) -> None:
    monkeypatch.chdir(folder)
    main(["plot", *map(str, args)])


def refusal(monkeypatch, folder, *args) -> str:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, folder, *args)
    return str(stopped.value)


def test_layers_become_small_multiples(stores, monkeypatch, tmp_path, capsys):
    run(monkeypatch, stores, "trained", "--perplexity", 10, "--out", tmp_path / "a.png", "--scores", tmp_path / "a.json")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height > 300
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["feature"] for row in rows] == ["block3_mean", "block5_mean", "bits"]
    assert all(row["settings"]["perplexity"] == 10 and row["settings"]["seed"] == 0 for row in rows)
    assert all(0.1 < row["scores"]["features"]["purity"] <= 1 for row in rows)
    store = FeatureStore(stores / "trained")
    assert rows[0]["store_fingerprint"] == store.fingerprint
    assert "block 3, mean: 10-NN purity" in capsys.readouterr().out


def test_models_stand_side_by_side(stores, monkeypatch, tmp_path, capsys):
    run(
        monkeypatch,
        stores,
        "trained",
        "random",
        "--names",
        "block3_mean",
        "--method",
        "pca",
        "--max-items",
        60,
        "--out",
        tmp_path / "a.svg",
    )
    out = capsys.readouterr().out
    assert "trained: 10-NN purity" in out
    assert "random: 10-NN purity" in out
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_a_page_shows_the_images_of_the_store(stores, monkeypatch, tmp_path):
    pytest.importorskip("bokeh")
    page, picture = tmp_path / "a.html", tmp_path / "a.png"
    run(monkeypatch, stores, "random", "--method", "pca", "--max-items", 50, "--highlight", 3, "7", "--html", page, "--out", picture)
    text = page.read_text()
    assert text.count("data:image/webp") == 50
    assert "digits[" in text
    assert "8 other classes" in text
    run(monkeypatch, stores, "random", "--method", "pca", "--html", page, "--no-thumbnails", "--out", picture)
    assert "data:image/webp" not in page.read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "give one feature store or more"),
        (["nowhere"], "nowhere is no feature store"),
        (["trained", "--names", "block9_mean"], "trained has no feature 'block9_mean'; it has block3_mean, block5_mean, bits"),
        (["trained", "--out", "a.gif"], "--out a.gif is no picture"),
        (["trained", "--html", "a.txt"], "end it in .html"),
        (["trained", "--html", "a.html"], "--html shows one feature, but 3 are asked for"),
        (["random", "random"], "two panels would have one title"),
        (["random", "--max-items", "20"], "perplexity=30 does not fit 20 items.*between 1 and 6"),
        (["random", "--highlight", "cat"], "no class 'cat'; choose one of"),
        (["random", "--max-items", "1"], "expected at least 3"),
    ],
)
def test_wrong_input_is_one_line(stores, monkeypatch, args, message):
    text = refusal(monkeypatch, stores, *args)
    assert text.startswith("bigr plot: ")
    assert re.search(message, text)
    assert "\n" not in text
    assert not (stores / "plot.png").exists()


def test_images_that_are_gone_are_named(stores, monkeypatch, tmp_path):
    pytest.importorskip("bokeh")
    args = ["random", "--method", "pca", "--html", tmp_path / "a.html", "--out", tmp_path / "a.png", "--images", tmp_path / "gone"]
    assert "Give --images with the place of the images, or --no-thumbnails" in refusal(monkeypatch, stores, *args)
    small = tmp_path / "other" / "test"
    small.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(small / "a.png")
    args[-1] = tmp_path / "other"
    assert "holds 1 images, but the store has one from place" in refusal(monkeypatch, stores, *args)
