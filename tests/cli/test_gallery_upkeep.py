"""Promises of `bigr sync`, `reindex` and `duplicates`: a gallery that follows its folder and its model, and one line for wrong input."""

from __future__ import annotations

import shlex
import shutil

import pytest

from bigr_features import Gallery
from bigr_features.cli import main

from ..gallery.small import mixed_folder, picture

FAST = ["--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of images, and a gallery `g` of it."""
    place = tmp_path_factory.mktemp("place")
    mixed_folder(place / "images", 12)
    main(["index", "--source", str(place / "images"), "--out", str(place / "g"), "--model", "bigr_nano", "--random", *FAST])
    return place


@pytest.fixture
def run(made, tmp_path, monkeypatch, capsys):
    """Commands in a copy of the place, whose sources are still the first images."""
    shutil.copytree(made / "g", tmp_path / "g")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def command(line: str) -> str:
        main(shlex.split(line))
        return capsys.readouterr().out

    return command


def test_sync_says_what_it_would_do_and_then_does_it(run, tmp_path, capsys):
    mixed_folder(tmp_path / "own", 6)
    run("index --source own --out h --model bigr_nano --random --device cpu")
    assert "0 added, 0 changed, 0 gone, 7 as they were; nothing was written" in run("sync h own --dry-run")
    picture(40).save(tmp_path / "own" / "Bag" / "new.png")
    picture(41).save(tmp_path / "own" / "Trouser" / "00.png")
    (tmp_path / "own" / "Bag" / "01.png").unlink()
    before = Gallery(tmp_path / "h").ids.tolist()
    planned = run("sync h own --dry-run")
    for line in ("Bag/new.png", "changed:", "Trouser/00.png", "gone:", "Bag/01.png", "1 added, 1 changed, 1 gone, 5 as they were"):
        assert line in planned
    assert Gallery(tmp_path / "h").ids.tolist() == before
    assert "1 added, 1 changed, 1 gone, 5 as they were; h: 7 images" in run("sync h own --device cpu")
    assert "0 added, 0 changed, 0 gone, 7 as they were" in run("sync h own --dry-run")


def test_reindex_makes_another_index_or_other_vectors_under_the_same_ids(run, tmp_path):
    before = Gallery(tmp_path / "g")
    assert "index HNSW8" in run("reindex g --index HNSW8")
    assert Gallery(tmp_path / "g").embedding == before.embedding
    out = run("reindex g --model bigr_nano --random --seed 5 --layer 2 --metric hamming --binarize sign --index BHNSW8 --device cpu")
    assert "random, seed 5" in out
    assert "block2_mean" in out
    after = Gallery(tmp_path / "g")
    assert after.ids.tolist() == before.ids.tolist()
    assert after.settings.metric == "hamming"
    assert run(f"search g --ids {before.ids[0][:12]} --k 3").count("\n") == 4


def test_copies_near_copies_and_outliers_are_listed(run):
    out = run("duplicates g --threshold 1 --outliers 2")
    assert "copies: 2 images of the same pixels" in out
    assert out.count("outlier: ") == 2
    assert "1 groups of copies" in out


def test_a_gallery_whose_sources_are_gone_is_searched_but_not_read_again(run, tmp_path):
    mixed_folder(tmp_path / "own", 4)
    picture(1).save(tmp_path / "query.png")
    run("index --source own --out h --model bigr_nano --random --device cpu")
    before = run("search h query.png --k 3")
    shutil.rmtree(tmp_path / "own")
    assert run("search h query.png --k 3 --sheet sheet.html") == before + "wrote sheet.html\n"
    assert (tmp_path / "sheet.html").read_text().count("<img") == 4  # small pictures lie in the gallery
    for line, message in (
        ("sync h own", "there is no folder"),
        ("reindex h --model bigr_nano --random --layer 2", "none of the 5 images can be read from its source"),
        ("reindex h --model bigr_nano --random --layer 2 --drop-missing", "Searching goes on as before; bring the sources back"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(line)
        assert message in ended.value.code
    assert run("search h query.png --k 3") == before


@pytest.mark.parametrize(("line", "message"), [
    ("sync nowhere images", "nowhere is no gallery"),
    ("sync g nowhere", "there is no folder"),
    ("sync g empty --split test", "its only split is 'train', not 'test'"),
    ("reindex nowhere", "nowhere is no gallery"),
    ("reindex g --index HNSW0", "graphs of 0 links"),
    ("reindex g --index IVF2000000000,Flat", "has a number above"),
    ("reindex g --index IVF64,Flat", "has 64 lists, more than the 13 rows"),
    ("reindex g --metric hamming", "the gallery was given no bits"),
    ("reindex g --num-bits 8", "num_bits=8 can be chosen with binarize='itq' only"),
    ("reindex g --model no_such_model", "there is no timm model 'no_such_model'"),
    ("reindex g --model bigr_nano --random --layer 99", "layer 99 is out of range"),
    ("duplicates g --threshold 2", "expected a similarity in (0, 1]"),
    ("duplicates nowhere", "nowhere is no gallery"),
])  # fmt: skip
def test_wrong_input_is_one_line_and_changes_nothing(run, tmp_path, line, message):
    before = Gallery(tmp_path / "g").generation
    with pytest.raises(SystemExit) as ended:
        run(line)
    assert message in ended.value.code
    assert "\n" not in ended.value.code
    assert Gallery(tmp_path / "g").generation == before
