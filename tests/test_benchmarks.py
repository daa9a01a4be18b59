"""Benchmark commands run as a user runs them."""

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigr_features.data import load_sample

from .processes import program

ROOT = Path(__file__).parent.parent


def run(script: str, *args: str) -> subprocess.CompletedProcess:
    return program(ROOT / "benchmarks" / script, *args)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Real digits as a folder of folders, one a class, with train and test splits."""
    folder = tmp_path_factory.mktemp("few")
    digits = load_sample("digits")
    for split, images, labels in (("train", digits.train_images, digits.train_labels), ("test", digits.test_images, digits.test_labels)):
        for label in (3, 5, 8):
            (folder / split / f"digit {label}").mkdir(parents=True)
            for i in np.flatnonzero(labels == label)[:60]:
                Image.fromarray(images[i]).save(folder / split / f"digit {label}" / f"{i}.png")
    return folder


def check_rows(result: dict) -> None:
    """What holds for every result of a probe: the best held-out candidate was tested, and the interval holds its accuracy."""
    for row in result["rows"]:
        low, high = row["test"]["top1_interval"]
        assert low <= row["test"]["top1"] <= high
        assert row["chosen"]["holdout_accuracy"] == max(entry["holdout_accuracy"] for entry in row["held_out"].values())
        assert sum(row["test"]["per_class"].values()) / len(row["test"]["per_class"]) == pytest.approx(row["test"]["top1"], abs=0.1)


def test_linear_probe_writes_table_json_and_picture(tmp_path):
    done = run("linear_probe.py", "--dataset", "digits", "--limit", "360", "--layers", "0", "-1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "RANDOM weights" in done.stderr
    result = json.loads((tmp_path / "linear_probe_digits.json").read_text())
    names = [row["features"] for row in result["rows"]]
    assert names[:4] == ["raw pixels", "PCA of pixels", "B-AE bits", "bigr_nano.fashion_mnist"]
    assert names[4:] == ["bigr_nano.fashion_mnist, quarters", "B-AE bits, random", "bigr_nano, random", "bigr_nano, random, quarters"]
    assert all(name in done.stdout for name in names)
    trained = result["rows"][3]
    assert [entry["layer"] for entry in trained["held_out"].values()] == [0, 7]
    assert len(trained["weights_sha256"]) == 64
    assert trained["test"]["top1"] > result["rows"][6]["test"]["top1"] + 0.1
    assert result["rows"][4]["chosen"]["features"] == 4 * trained["chosen"]["features"]
    check_rows(result)
    assert (tmp_path / "linear_probe_digits.png").stat().st_size > 10_000


def test_linear_probe_by_the_protocol_of_mae_on_a_folder_with_another_model(tmp_path, few):
    settings = ["--protocol", "mae", "--probe-batch-size", "32", "--pooling", "mean", "max", "--layers", "7"]
    done = run("linear_probe.py", "--data-dir", str(few), "--model", "vit_nano_patch4_32=random", *settings, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / f"linear_probe_mae_{few.name}.json").read_text())
    assert "LARS" in result["protocol"]["probe"]
    assert [row["features"] for row in result["rows"]] == [
        "raw pixels",
        "PCA of pixels",
        "vit_nano_patch4_32, random",
        "vit_nano_patch4_32, random, max",
    ]
    assert [list(row["held_out"]) for row in result["rows"][2:]] == [["block7_mean"], ["block7_max"]]
    assert set(result["rows"][0]["test"]["per_class"]) == {"digit 3", "digit 5", "digit 8"}
    assert result["rows"][0]["test"]["top5"] is None
    check_rows(result)


def test_a_masked_autoencoder_trains_and_is_compared(tmp_path, few):
    small = ["--steps", "3", "--batch-size", "8", "--validation", "10"]
    done = run("train_peer.py", "mae", "--data", str(few), *small, "--out", str(tmp_path / "mae"))
    assert done.returncode == 0, done.stderr
    weights = f"vit_nano_patch4_32={tmp_path / 'mae' / 'model.safetensors'}"
    models = [weights, "vit_nano_patch4_32=random"]
    done = run("knn.py", "--data-dir", str(few), "--model", *models, "--neighbors", "3", "5", "--layers", "7", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / f"knn_{few.name}.json").read_text())
    trained, random = result["rows"][-4::2]
    assert trained["features"] == "vit_nano_patch4_32, mae"
    assert trained["weights_sha256"] != random["weights_sha256"]
    assert trained["chosen"]["n_neighbors"] in (3, 5)
    check_rows(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "digits", "--layers", "12"], "layer 12 is out of range"),
        (["--dataset", "imagenet"], "there is no sample or folder imagenet"),
        (["--dataset", "digits", "--model", "bigr_nano=nothing.safetensors"], "there are no weights nothing.safetensors"),
    ],
    ids=["layer", "data set", "weights"],
)
def test_linear_probe_names_what_it_cannot_use(tmp_path, options, message):
    done = run("linear_probe.py", *options, "--limit", "400", "--out", str(tmp_path))
    assert done.returncode != 0
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_retrieval_writes_tables_json_and_picture(tmp_path):
    small = shlex.split("--images 300 --queries 40 --scale 2000 --threads 1 --seconds 0.05")
    done = run("retrieval.py", *small, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "two stages, share of exact mAP" in done.stdout
    result = json.loads((tmp_path / "retrieval_fashion_mnist_sample.json").read_text())
    rows = {row["method"]: row for row in result["rows"]}
    assert len(rows) == 10
    assert rows["features, flat"]["bytes"] > 20 * rows["features, ITQ, 144 bits"]["bytes"]
    assert all(0 <= row["recall_at_1"] <= row["recall_at_10"] <= 1 for row in rows.values())
    curve = result["two_stage_curve"]
    assert curve[0]["map"] == pytest.approx(rows["features, ITQ, 144 bits"]["map"])
    assert [point["shortlist"] for point in curve] == sorted(point["shortlist"] for point in curve)
    assert (tmp_path / "retrieval_fashion_mnist_sample.png").stat().st_size > 10_000
    scale = json.loads((tmp_path / "retrieval_scale.json").read_text())["rows"]
    recalls = {}
    for row in scale:
        recalls.setdefault(row["method"], []).append(row["index_recall_at_10"])
    assert len(recalls) == 3
    assert all(found == sorted(found) for found in recalls.values()), "more effort found less"


def test_the_tables_of_results_are_what_the_results_give():
    done = run("tables.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
