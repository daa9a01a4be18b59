"""Promises of `bigr index`, `search`, `add` and `remove`: the same ids through every change, and one clear line for wrong input."""

from __future__ import annotations

import shlex

import pytest

from bigr_features import Gallery
from bigr_features.cli import main

from ..gallery.small import NASTY, mixed_folder, picture

FAST = ["--device", "cpu", "--threads", "1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of images, a query, more images, and a gallery `g` of the first."""
    place = tmp_path_factory.mktemp("place")
    mixed_folder(place / "images", 15)
    (place / "more").mkdir()
    for i in range(2):
        picture(40 + i).save(place / "more" / f"{i}.png")
    picture(33).save(place / "query.png")
    (place / "empty").mkdir()
    (place / "broken").mkdir()
    (place / "broken" / "x.png").write_bytes(b"no image")
    main(["index", "--model", "bigr_nano.fashion_mnist", "--source", str(place / "images"), "--out", str(place / "g"), *FAST])
    return place


@pytest.fixture
def run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    capsys.readouterr()

    def command(line: str) -> str:
        main(shlex.split(line))
        return capsys.readouterr().out

    return command


def test_index_search_add_remove_keep_ids(run, place):
    before = Gallery(place / "g").ids.tolist()
    out = run("search g query.png --sheet out.html --k 5 --device cpu")
    assert "wrote out.html" in out
    assert "Trouser" in out.splitlines()[1]
    assert (place / "out.html").stat().st_size > 5000
    assert "2 added, 0 there already" in run("add g more --device cpu")
    assert "0 added, 2 there already" in run("add g more --device cpu")
    after = Gallery(place / "g").ids.tolist()
    assert after[:-2] == before
    assert "40.png" not in run(f"search g --ids {after[-1][:12]} --k 16")
    out = run(f"remove g {after[-1][:12]} --sources more/0.png")
    assert out.startswith("removed 2;")
    assert Gallery(place / "g").ids.tolist() == before
    run("search g query.png query.png --combine --k 3 --sheet out.png --device cpu")
    assert (place / "out.png").stat().st_size > 2000


def test_index_says_what_it_found_and_goes_on(run, place):
    out = run("index --model bigr_nano.fashion_mnist --source images --out g --device cpu")
    assert "0 added, 16 there already, 0 copies, 1 unreadable" in out
    assert "broken.png (UnidentifiedImageError" in out
    bits = "--metric two_stage --binarize itq --num-bits 15 --shortlist 8 --index BHNSW4"
    out = run(f"index --model bigr_nano.fashion_mnist --source images --out fresh {bits} --device cpu")
    assert "16 added, 0 there already, 1 copies, 1 unreadable" in out
    assert NASTY in out
    assert "15 bits by itq, index BHNSW4" in out
    assert "Trouser" in run("search fresh query.png --k 3 --device cpu")


def test_by_class_and_label(run):
    out = run("search g --by-class Bag --k 4 --sheet class.html")
    assert out.count("Bag") >= 4
    assert run("search g query.png --k 3 --label Bag --device cpu").count("Bag") >= 3


def test_random_weights_are_remembered(run):
    run("index --source images --out r --model bigr_nano --random --seed 3 --metric hamming --device cpu")
    assert "random, seed 3" in run("add r more --device cpu")
    assert "Trouser" in run("search r query.png --k 9 --device cpu")


def test_the_folder_of_a_feature_store_is_a_source(run):
    run("extract --source images --model bigr_nano.fashion_mnist --layers 5 6 --out store --device cpu")
    out = run("index --store store --feature block5_mean --out s")
    assert "16 images, bigr_nano.fashion_mnist (pretrained weights), block5_mean" in out
    assert "Trouser" in run("search s query.png --k 2 --device cpu").splitlines()[1]


@pytest.mark.parametrize(("line", "message"), [
    ("index --source nowhere/at/all --out x", "there is no file or folder"),
    ("index --model bigr_nano.fashion_mnist --source empty --out x", "holds no image"),
    ("index --model bigr_nano.fashion_mnist --source broken --out x", "none of the 1 images"),
    ("index --out x", "give --source with images, or --store"),
    ("index --model bigr_nano.fashion_mnist --source images --out x --layer 12", "layer 12 is out of range"),
    ("index --source images --out x --model no_such_model", "there is no timm model 'no_such_model'"),
    ("index --model bigr_nano.fashion_mnist --source images --out x --index rubbish", "faiss makes no index 'rubbish'"),
    ("index --model bigr_nano.fashion_mnist --source images --out g --metric hamming", "holds a gallery of other settings"),
    ("index --model bigr_nano.fashion_mnist --source images --out g --layer 2", "feature is 'block6_mean' there and 'block2_mean' here"),
    ("index --model bigr_nano.fashion_mnist --source images --out images", "is there already, and not empty"),
    ("search nowhere query.png", "nowhere is no gallery (there is no such folder); make one with `bigr index`"),
    ("search g", "give one of image files, --ids, --by-class to search by; 0 were given"),
    ("search g query.png --ids abc", "2 were given"),
    ("search g nothing.png", "there is no image file nothing.png"),
    ("search g broken/x.png", "broken/x.png cannot be read as an image"),
    ("search g query.png --k 99", "k=99, but there are 16 items to find"),
    ("search g query.png --layer 3", "feature is 'block6_mean' there and 'block3_mean' here"),
    ("search g query.png --model bigr_nano --random", "weights_sha256"),
    ("search g query.png --label Sofa", "there is no class 'Sofa'; choose one of"),
    ("search g --by-class 9", "no item of the gallery has the label 9"),
    ("search g query.png --k 1 --sheet x.pdf", "neither .png nor .html"),
    ("add g empty", "holds no image"),
    ("remove g zzz", "there is no item 'zzz'"),
    ("remove g", "give the ids of the images to remove"),
    ("remove g --sources elsewhere", "no image of the gallery comes from"),
])  # fmt: skip
def test_wrong_input_is_one_line_and_changes_nothing(run, place, line, message):
    before = Gallery(place / "g").ids.tolist()
    with pytest.raises(SystemExit) as ended:
        run(line)
    assert message in ended.value.code
    assert "\n" not in ended.value.code
    assert Gallery(place / "g").ids.tolist() == before
    assert not (place / "x").exists() or not any((place / "x").iterdir())


@pytest.mark.parametrize("name", ["index", "search", "add", "remove"])
def test_help(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert not ended.value.code
    assert "gallery" in capsys.readouterr().out


def test_a_gallery_keeps_the_precision_it_was_begun_in(run, place):
    """auto measures, and says what it took and why; what is named is taken, recorded, and used for whatever comes later."""
    measured = Gallery(place / "g").embedding["precision"]
    assert measured["asked"] == "auto"
    assert measured["bf16_over_fp32_time"] > 0
    assert measured["precision"] == "fp32" or measured["cosine_to_fp32"] >= 0.999
    line = "index --model bigr_nano.fashion_mnist --source images --out halves --limit 6 --device cpu --threads 1"
    run(f"{line} --precision bf16")
    made = Gallery(place / "halves").embedding
    assert (made["dtype"], made["precision"]["asked"]) == ("bf16", "bf16")
    assert made["precision"]["cosine_to_fp32"] > 0.98
    assert "0 added" in run(line)  # auto goes on in bf16
    with pytest.raises(SystemExit):
        run(f"{line} --precision fp32")
    assert "2 added" in run("add halves more --device cpu")
    assert "more/0.png" in run("search halves more/0.png --k 1 --device cpu")


def test_bits_and_heads_are_made_in_fp32(run, place):
    run("index --model bigr_nano.fashion_mnist --source more --out codes --metric hamming --device cpu --threads 1")
    run("index --model test_vit --random --source more --out heads --device cpu --threads 1")
    for name, why in (("codes", "bits are exact in fp32"), ("heads", "the head equals timm's own in fp32")):
        made = Gallery(place / name).embedding
        assert (made["dtype"], made["precision"]["why"]) == ("fp32", why)


def test_a_precision_that_does_not_exist_is_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("index --model bigr_nano.fashion_mnist --source more --out other --precision fp8")
    assert "fp8" in capsys.readouterr().err
