"""A newcomer's first day: what is typed, in order, and what should come of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

import bigr_features
from bigr_features.backbones.weights import load_weights
from bigr_features.features.inputs import image_transform
from bigr_features.features.store import FeatureStore
from bigr_features.plots import class_styles
from bigr_features.plots.html import BOKEH_MARKERS

from .newcomer import CLASSES, MODEL, bigr, class_folders, photographs, weights_file

CPU = "--device cpu --threads 1"
W = f"--model {MODEL} --weights weights.safetensors {CPU}"
PIXELS = f"--model pixels --model-args img_size=16 {CPU}"
TRAIN = f"--batch-size 16 --validation 40 --log-every 10 --warmup-steps 1 --trackers {CPU}"
SMALL_TOKENIZER = "--model.image-size 16 --model.channels 32 --model.channel-multipliers 1 2 --model.embed-dim 32 --model.code-dim 8"
SMALL = "--model.depth 3 --model.width 32 --model.num-heads 2 --model.denoiser-depth 1 --model.denoiser-width 32 --model.code-dim 8"
PICTURES = "--num-samples 10 --sample-reveal-steps 2 --sample-denoise-steps 2"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the newcomer works, with what they bring."""
    place = tmp_path_factory.mktemp("day")
    photographs(place / "photos")
    class_folders(place / "cifar", 40, 6, side=16)
    weights_file(place / "weights.safetensors")
    return place


@pytest.fixture(autouse=True)
def _there(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def works(line: str):
    """A command that ends well."""
    said = bigr(line)
    assert said.status == 0, said.err
    return said


def fails(line: str, status: int = 1) -> str:
    """The last line on standard error of a command that does not."""
    said = bigr(line)
    assert said.status == status, said
    assert "Traceback" not in said.err
    return said.err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def gallery(place):
    """A gallery of the photographs."""
    os.chdir(place)
    return works(f"index --source photos --out g {W}")


def names_of(said) -> list[str]:
    """File names of the hits in a printed search, best first."""
    return [Path(found).name for found in re.findall(r"(\S*photos/.*?)\s*$", said.out, re.MULTILINE)]


def start(line: str, cwd: Path) -> subprocess.Popen:
    """A command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bigr_features.__file__).parents[1])}
    args = [sys.executable, "-m", "bigr_features.cli", *line.split()]
    return subprocess.Popen(args, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupted(line: str, cwd: Path, begun) -> str:
    """Ctrl-C once `begun()`; the last line of standard error, after status 130."""
    process, end = start(line, cwd), time.monotonic() + 150
    while not begun() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def test_01_bigr_alone():
    said, version = works(""), works("--version")
    assert said.out == works("--help").out
    assert "Search of images" in said.out
    assert max(map(len, said.out.splitlines())) <= 80
    assert version.out.split() == ["bigr", bigr_features.__version__]


def test_02_did_you_mean():
    assert "did you mean search" in fails("serch", 2)
    assert "--model" in fails("index --modell x", 2)


@pytest.mark.parametrize("command", ["index --source photos --out nothing", "extract --source photos --out nothing"])
def test_03_no_model_is_guessed_for_photographs(place, command):
    said = fails(command)
    assert said.count("--model ") >= 4
    assert "pixels" in said
    assert not (place / "nothing").exists()


def test_04_a_checkpoint_with_a_classifier(gallery):
    assert "15 added" in gallery.out
    assert "classifier" in gallery.err
    assert gallery.out.count("broken.jpg") == gallery.err.count("broken.jpg") == 1  # in the result, and when it was met


@pytest.mark.parametrize(("query", "first"), [("cat.png", 2), ("palace.png", 4), ("motorcycle.jpg", 2)])
def test_05_copies_and_near_copies_come_first(gallery, query, first):
    said = works(f"search g photos/{query} --k 6 {CPU}")
    word = query.partition(".")[0]
    found = names_of(said)
    assert all(name.startswith(word) for name in found[:first]), said.out


def test_06_from_another_directory(gallery, tmp_path, place, monkeypatch):
    here = names_of(works(f"search g photos/cat.png --k 3 {CPU}"))
    monkeypatch.chdir(tmp_path)
    assert names_of(works(f"search {place}/g {place}/photos/cat.png --k 3 {CPU}")) == here


def test_07_json(gallery):
    content = json.loads(works(f"search g photos/cat.png --k 3 --json {CPU}").out)
    hits = content["results"][0]["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert {"id", "score", "label", "source"} <= set(hits[0])


def test_08_add_and_remove_keep_ids(gallery, place):
    before = works(f"search g photos/palace.png --k 4 --json {CPU}").out
    shutil.copytree(place / "cifar" / "test" / "cat", place / "more")
    works(f"add g more {CPU}")
    found = json.loads(works(f"search g more/0000.png --k 1 --json {CPU}").out)
    one = re.search(r'"id": "([0-9a-f]+)', json.dumps(found))[1]
    works(f"remove g {one}")
    works("remove g --sources more")
    assert works(f"search g photos/palace.png --k 4 --json {CPU}").out == before


def test_09_sync_dry_run(place):
    shutil.copytree(place / "photos", place / "changing")
    works(f"index --source changing --out synced {W}")
    (place / "changing" / "tiny.png").unlink()
    Image.new("RGB", (50, 50), "red").save(place / "changing" / "grey.png")
    before = (place / "synced" / "gallery.sqlite3").read_bytes()
    said = works(f"sync synced changing --dry-run {CPU}")
    assert re.search(r"gone: .*tiny\.png", said.out)
    assert re.search(r"changed: .*grey\.png", said.out)
    assert (place / "synced" / "gallery.sqlite3").read_bytes() == before


@pytest.mark.slow
def test_10_an_interrupted_index_goes_on(place):
    line = f"index --source cifar/train --out long --batch-size 4 --commit-every 8 {W}"
    said = interrupted(line, place, lambda: any((place / "long").glob("*.sqlite3")))
    assert "goes on where it stopped" in said
    assert "400 images" in works(line).out.splitlines()[-1]


def test_11_plain_lines_without_a_terminal(place, monkeypatch):
    monkeypatch.setattr("bigr_features.functional.progress.EVERY", 0.0)
    said = works(f"extract --source cifar/test --out lines --batch-size 20 {PIXELS}")
    lines = [line for line in said.err.splitlines() if line.startswith("features: ")]
    assert re.fullmatch(r"features: 20 of 60 images, .* images/s, .* left", lines[0])
    assert "\r" not in said.err
    assert "features:" not in works(f"extract --source cifar/test --out still --quiet --batch-size 20 {PIXELS}").err


def test_12_a_limit_takes_all_classes(place):
    works(f"extract --source cifar/train --limit 300 --out three {PIXELS}")
    assert np.bincount(FeatureStore(place / "three").labels).tolist() == [30] * 10


@pytest.fixture(scope="module")
def pixels(place):
    """Stores of the pixels of both splits."""
    os.chdir(place)
    for split in ("train", "test"):
        works(f"extract --source cifar --split {split} --out pixels_{split} {PIXELS}")
    return "pixels_train", "pixels_test"


def test_13_pixels_and_their_probes(pixels, place):
    train, test = (FeatureStore(place / name) for name in pixels)
    by_hand = [np.asarray(Image.open(source).convert("RGB"), dtype=np.float32).ravel() / 255 for source in test.sources]
    rows = test.features("head")[:].reshape(len(test), 3, -1)  # channel by channel
    np.testing.assert_allclose(rows.transpose(0, 2, 1).reshape(len(test), -1), by_hand, atol=1e-6)
    found = json.loads(works("knn --train pixels_train --test pixels_test --k 1 --threads 1 --out knn.json --json").out)
    X, Y = train.features("head")[:], test.features("head")[:]
    expected = KNeighborsClassifier(1, metric="cosine").fit(X, train.labels).score(Y, test.labels)
    assert found["test"]["top1"] == pytest.approx(expected, abs=0.002)
    probed = json.loads(works("probe --train pixels_train --test pixels_test --Cs 0.01 1 --threads 1 --out probe.json --json").out)
    assert probed["test"]["top1"] > 0.5


@pytest.fixture(scope="module")
def head(place):
    """A store of the head of the newcomer's model."""
    os.chdir(place)
    return works(f"extract --source cifar/test --layers head --out head {W}")


def test_14_the_head_is_timms_pre_logits(head, place):
    store = FeatureStore(place / "head")
    model = load_weights(MODEL, place / "weights.safetensors")
    transform, mode = image_transform(model)
    images = torch.stack([transform(Image.open(source).convert(mode)) for source in store.sources[:4]])
    with torch.no_grad():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
    assert store.names == ["head"]
    np.testing.assert_allclose(store.features("head")[:4], expected.numpy(), rtol=1e-3, atol=1e-4)


def test_15_the_edge_of_a_grid_is_said(pixels):
    said = works("sweep --train pixels_train --probes exact --Cs 1e-9 1e-8 --threads 1 --out sweep")
    assert re.search(r"the best C, 1e-0\d, is the (smallest|largest) of those tried", said.err)


def test_16_two_models_whose_features_have_other_names(place, head):
    works(f"extract --source cifar/test --layers 4 --out blocks {W}")
    works("plot blocks:block4_mean head:head --method pca --out two.png --scores two.json")
    rows = json.loads((place / "two.json").read_text())["rows"]
    assert [row["feature"] for row in rows] == ["block4_mean", "head"]
    assert Image.open(place / "two.png").width > 500


def test_17_one_table(pixels):
    works("knn --train pixels_train --test pixels_test --k 5 --threads 1 --out a.json")
    works("probe --train pixels_train --test pixels_test --Cs 0.01 --threads 1 --out b.json")
    table = works("report a.json b.json --format markdown").out
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert "95 % interval" in lines[0]
    tested = [float(line.split("|")[7]) for line in lines[2:]]
    assert tested == sorted(tested, reverse=True)


def test_18_loose_photographs_beside_a_class_folder(place):
    shutil.copytree(place / "photos", place / "loose", ignore=shutil.ignore_patterns("broken*"))
    shutil.copytree(place / "cifar" / "test" / "dog", place / "loose" / "dog")
    assert "--no-labels" in fails(f"index --source loose --out nothing {W}")
    assert "21 added" in works(f"index --source loose --no-labels --out loose_g {W}").out
    works(f"extract --source loose --no-labels --out loose_s {PIXELS}")
    store = FeatureStore(place / "loose_s")
    assert len(store) == 21
    assert store.labels is None


def test_19_a_flat_folder_has_no_split(place):
    works(f"extract --source photos --out flat {PIXELS}")
    assert FeatureStore(place / "flat").manifest["split"] is None
    works(f"extract --source cifar --split test --out with_splits {PIXELS}")
    assert FeatureStore(place / "with_splits").manifest["split"] == "test"


@pytest.fixture(scope="module")
def tokenizer(place):
    """A trained tokenizer, small."""
    os.chdir(place)
    return works(f"train-tokenizer --source cifar/train --out t --steps 30 --validate-every 15 {TRAIN} {SMALL_TOKENIZER}")


def test_20_training_a_tokenizer(tokenizer, place, monkeypatch):
    picture = Image.open(place / "t" / "samples" / "step_00000030.png")
    assert picture.width >= 16 * 96
    monkeypatch.setattr("bigr_features.train.estimate.SECONDS", 0.0)
    said = works(f"train-tokenizer --source cifar/train --out estimated --steps 14 {TRAIN} {SMALL_TOKENIZER}")
    assert re.search(r"about \d+ s for 14 steps", said.err)


@pytest.fixture(scope="module")
def stopped(place, tokenizer):
    """A training of a tokenizer that Ctrl-C ended, and the command."""
    line = f"train-tokenizer --source cifar/train --out stopped --steps 40 --checkpoint-every 3 {TRAIN} {SMALL_TOKENIZER}"
    return interrupted(line, place, lambda: any(place.glob("stopped/checkpoints/*.pt"))), line


def test_22_an_interrupted_run_can_be_used(stopped):
    said = works("encode --tokenizer stopped --source cifar/train --limit 20 --out from_stopped --device cpu --threads 1")
    assert re.search(r"newest checkpoint, of step \d+", said.err)


def test_21_an_interrupted_training_goes_on(stopped, place):
    message, line = stopped
    assert "--resume goes on" in message
    step = int(re.search(r"after step (\d+)", message)[1])
    assert 3 <= step < 40
    works(f"{line} --resume")
    steps = [json.loads(text)["step"] for text in (place / "stopped" / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 40


@pytest.fixture(scope="module")
def run(place, tokenizer):
    """A trained generator, small."""
    os.chdir(place)
    works("encode --tokenizer t --source cifar/train --out codes --device cpu --threads 1")
    line = f"train --tokenizer t --codes codes --out run --steps 20 --validate-every 10 --sample-every 20 {PICTURES} {TRAIN} {SMALL}"
    return works(line)


def test_23_names_of_classes_and_neighbours_in_the_log(run, place):
    assert json.loads((place / "run" / "model" / "config.json").read_text())["class_names"] == list(CLASSES)
    lines = [json.loads(line) for line in (place / "run" / "log.jsonl").read_text().splitlines()]
    found = [line["knn_accuracy"] for line in lines if line["split"] == "validation"]
    assert len(found) == 2
    assert all(0 <= value <= 1 for value in found)
    assert "knn_accuracy" in run.err


def test_24_labels_by_name(run, place):
    draw = f"generate --model bigr_nano --weights run {ARGUMENTS} --num-reveal-steps 2 --num-denoise-steps 2 {CPU}"
    works(f"{draw} --labels horse Cat --out two_classes.png --num-per-label 1")
    works(f"{draw} --labels 7 3 --out numbers.png --num-per-label 1")
    assert Image.open(place / "two_classes.png").tobytes() == Image.open(place / "numbers.png").tobytes()
    assert "horse" in fails(f"{draw} --labels hors")


ARGUMENTS = (
    "--model-args img_size=16 channels=32 channel_multipliers=(1,2) embed_dim=32 code_dim=8 depth=3 width=32 num_heads=2 "
    "denoiser_depth=1 denoiser_width=32"
)


def test_25_the_trained_model_as_a_backbone(run, place):
    works("export --run run --out exported")
    for weights, out in (("run", "own_run"), ("exported", "own_export")):
        works(f"extract --source cifar/test --model bigr_nano --weights {weights} {ARGUMENTS} --layers 1 head --out {out} {CPU}")
    one, other = (FeatureStore(place / name).features("block1_mean")[:] for name in ("own_run", "own_export"))
    np.testing.assert_allclose(one, other, rtol=0.1, atol=0.02)  # the export has float16


def test_26_missing_weights_are_named():
    said = fails(f"extract --source cifar/test --out nothing --model {MODEL} --weights nope.pth {CPU}")
    assert "nope.pth" in said
    assert ".safetensors" in said


def test_27_weights_of_another_architecture():
    said = fails(f"extract --source cifar/test --out nothing --model resnet18 --weights weights.safetensors {CPU}")
    assert re.search(r"\[?\d+, \d+, \d+, \d+", said)


@pytest.mark.parametrize("command", ["inpaint", "outpaint", "enrich"])
def test_28_colours_that_a_grey_model_does_not_see(command):
    said = works(f"{command} photos/cat.png --out {command}.png --num-reveal-steps 2 --num-denoise-steps 2 {CPU}")
    assert "does not see colours" in said.err
    assert "does not see" not in works(f"{command} sample:fashion_mnist:1 --num-reveal-steps 2 --num-denoise-steps 2 {CPU}").err


def test_28_colours_in_a_gallery_of_a_grey_model():
    assert "does not see colours" in works(f"index --source photos --out grey_g --model bigr_nano.fashion_mnist {CPU}").err


def test_29_a_mask_of_another_size(place):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    mask.save(place / "mask.png")
    line = f"inpaint photos/cat.png --mask mask.png --num-reveal-steps 2 --num-denoise-steps 2 {CPU}"
    assert "--resize-mask" in fails(line)
    works(f"{line} --resize-mask")


def test_30_duplicates(gallery):
    said = works("duplicates g")
    assert re.search(r"copies: 2 images.*\n.*palace.*\n.*palace", said.out)


def test_31_offline_and_without_weights():
    said = bigr(f"extract --source cifar/test --model resnet18.a1_in1k --out nothing {CPU}")
    assert said.status == 1
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) <= 3, said.err


@pytest.mark.parametrize("command", ["extract --source ./nowhere --out nothing", "index --source ./nowhere --out nothing"])
def test_32_a_folder_that_does_not_exist(command):
    assert "./nowhere" in fails(f"{command} --model vit_huge_patch14_224 --random {CPU}")


def test_33_a_folder_with_another_gallery(gallery):
    said = fails(f"index --source photos --out g --index HNSW32 --shortlist 7 {W}")
    assert "shortlist is 1000 there and 7 here" in said
    assert "GallerySettings" not in said


def test_34_names_in_sheets(gallery, place):
    works(f'search g "photos/Übermut_größer.png" --k 9 --sheet names.html {CPU}')
    works(f'search g "photos/Übermut_größer.png" --k 9 --sheet names.png {CPU}')
    page = (place / "names.html").read_text(encoding="utf-8")
    assert "Übermut_größer.png" in page
    assert "★" in page


def test_35_a_sheet_needs_no_network(gallery, place):
    works(f"search g photos/cat.png --k 3 --sheet alone.html {CPU}")
    page = (place / "alone.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert page.count("data:image/") >= 4


def test_36_colours_of_page_and_picture(head, place):
    works("plot head --method pca --out clusters.png --html clusters.html")
    page = (place / "clusters.html").read_text(encoding="utf-8")
    styles = class_styles(FeatureStore(place / "head").labels, CLASSES)
    for label in range(len(CLASSES)):
        assert styles.color(label) in page
        assert f'"{BOKEH_MARKERS[styles.marker(label)]}"' in page


def test_37_a_gallery_in_python(place):
    model = load_weights(MODEL, place / "weights.safetensors")
    gallery = bigr_features.Gallery.from_folder("photos", model=model, progress=False)
    hits = gallery.search("photos/cat.png", k=3)
    assert len(hits.ids[0]) == 3
    assert hits.sheet() is not None


def test_38_features_of_pillow_images():
    images = [Image.open("photos/cat.png"), Image.open("photos/palace.png")]
    model = timm.create_model(MODEL, num_classes=0)
    features = bigr_features.extract_features(model, images, layers="head", progress=False)["head"]
    assert features.shape == (2, 512)
