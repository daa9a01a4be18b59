"""Promise of the README: everything that stands in it runs as it stands there, one block after the other, on weights and images made here.

A large model becomes a small one of the same kind, and trainings and searches of settings are cut short: the options that do so are SHORT.
The two blocks that install are run by .ci/run.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

import bigr_features

from .cli.newcomer import MODEL, bigr, class_folders, shape, weights_file

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.M | re.S)
INSTALLS = "-m venv"
LARGE = "vit_small_patch16_224"
STEPS = "--num-reveal-steps 2 --num-denoise-steps 2"
TRAIN = "--steps 3 --batch-size 8 --trackers --threads 1"
SHORT = {
    "extract": "--limit 60 --threads 1",
    "sweep": "--Cs 0.1 --k 3 --threads 1",
    "probe": "--Cs 0.1 --threads 1",
    "knn": "--k 3 --threads 1",
    "plot": "--method pca",
    "generate": f"{STEPS} --num-per-label 1",
    "inpaint": STEPS,
    "outpaint": STEPS,
    "interpolate": STEPS,
    "train-tokenizer": TRAIN,
    "encode": "--threads 1",
    "train": f"{TRAIN} --sample-every 0",
}


def lines_of(block: str) -> list[str]:
    """Commands of a block, their comments left out."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line.partition("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the README speaks of: photographs in folders of classes, two more, and a file of weights."""
    class_folders(tmp_path / "made", 6, 1)
    (tmp_path / "made" / "train").rename(tmp_path / "photos")
    shape(3, 0, 48).save(tmp_path / "query.png")
    shape(8, 1, 48).save(tmp_path / "other.png")
    weights_file(tmp_path / "my_weights.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_runs_in_order(desk):
    place: dict = {}
    ran = 0
    for language, block in BLOCKS:
        if language == "python":
            code = block.replace(LARGE, MODEL)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                exec(compile(code, "README.md", "exec"), place)
            ran += 1
            continue
        for line in lines_of(block):
            if INSTALLS in line:
                continue
            assert line.startswith("bigr "), line
            name = line.split()[1]
            said = bigr(f"{line.removeprefix('bigr ').replace(LARGE, MODEL)} {SHORT.get(name, '')}")
            assert said.status == 0, f"{line}\n{said.err}"
            ran += 1
    assert ran >= 20
    assert place["features"][1].shape[0] == len(place["images"]) or place["images"].ndim == 4
    for made in ("runs/sweep", "runs/probe.json", "results.html", "sheet.png", "one.html", "grid.png", "between.png", "runs/mine"):
        assert (desk / made).exists(), made
    model = bigr_features.load_weights("bigr_nano", desk / "runs" / "generator")
    assert model.num_classes == 0


def test_the_blocks_that_install_are_run_by_the_checks_of_the_repository():
    installs = [line for _, block in BLOCKS for line in lines_of(block) if INSTALLS in line]
    checks = "".join((ROOT / ".ci" / name).read_text() for name in ("run", "wheel"))
    assert len(installs) == 2
    assert installs[1] in checks
    assert "benchmarks/linear_probe.py" in installs[0]
    assert "linear_probe.py" in checks


def test_it_is_short_and_its_pictures_and_pages_are_there():
    assert len(README.splitlines()) <= 150
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert any("search_photos.png" in link for link in links)
    assert [link for link in links if not (ROOT / link).exists()] == []
