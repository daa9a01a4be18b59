"""Promises of the first words typed: an overview that fits a terminal, a version, near words for mistyped commands and options."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from bigr_features.cli import main
from bigr_features.cli.classes import class_number
from bigr_features.cli.help import GROUPS, WIDTH, near, options_of
from bigr_features.cli.main import COMMANDS, _named


def ended(args, capsys) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(args)
    shown = capsys.readouterr()
    return stop.value.code or 0, shown.out, shown.err


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command_once_and_fits_80_columns(args, capsys):
    code, shown, _ = ended(args, capsys)
    assert code == 0
    assert max(map(len, shown.splitlines())) <= WIDTH
    named = [name for group in GROUPS.values() for name in group]
    assert sorted(named) == sorted(COMMANDS)
    for name in COMMANDS:
        assert sum(line.split()[:1] == [name] for line in shown.splitlines()) == 1


def test_version(capsys):
    assert ended(["--version"], capsys)[:2] == (0, f"bigr {version('bigr-features')}\n")


@pytest.mark.parametrize(
    ("typed", "meant"), [("serch", "search"), ("Extract", "extract"), ("train_tokenizer", "train-tokenizer"), ("gen", "generate")]
)
def test_a_mistyped_command_proposes_a_near_one(typed, meant, capsys):
    code, out, said = ended([typed, "--k", "3"], capsys)
    assert (code, out) == (2, "")
    assert said.count("\n") == 1
    assert f"there is no command {typed!r}; did you mean {meant}" in said


def test_a_command_like_none_lists_where_they_are(capsys):
    code, _, said = ended(["zzzz"], capsys)
    assert code == 2
    assert "did you mean" not in said
    assert "bigr --help" in said


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("index --modell x --out g", "index: there is no option --modell; did you mean --model"),
        ("generate --lables 3", "did you mean --labels"),
        ("extract --no-bit", "did you mean --no-bits"),
        ("search g a.png --sheets=x.png", "did you mean --sheet"),
        ("probe --tran s --out o", "did you mean --train"),
        ("train --stepz 4", "did you mean --steps"),
        ("search g a.png -k 5", "search: -k has one dash, and options have two; did you mean --k"),
    ],
)
def test_a_mistyped_option_proposes_one_of_its_command(line, meant, capsys):
    code, _, said = ended(line.split(), capsys)
    assert code == 2
    assert said.count("\n") == 1
    assert meant in said


def test_an_option_is_still_known_by_its_former_name(capsys):
    code, _, said = ended(["index", "--dataset", "nowhere", "--out", "x"], capsys)
    assert said.strip() == "--dataset is called --source now"
    assert "nowhere" in str(code)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_known_as_it_is_and_with_its_last_letter_doubled_proposed(name, capsys):
    for option in options_of(_named(COMMANDS[name][0])):
        assert option in near(option + option[-1], options_of(_named(COMMANDS[name][0])))


def test_an_option_may_be_written_with_underscores_and_values_may_look_like_anything(capsys):
    code, _, said = ended(["report", "nowhere.json", "--out=--odd"], capsys)
    assert "there is no result file nowhere.json" in str(code)
    code, _, said = ended(["plot", "nowhere", "--max_items", "30"], capsys)
    assert "no option" not in said


def test_no_command_imports_torch_to_say_what_was_mistyped():
    program = "import sys; sys.argv = ['bigr']; import bigr_features.cli.main; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"


CLASSES = ["T-shirt", "horse", "Cat", "7"]


@pytest.mark.parametrize(("typed", "number"), [("horse", 1), ("HORSE", 1), ("cat", 2), ("t-SHIRT", 0), ("7", 3), ("0", 0)])
def test_classes_are_found_by_name_in_any_case_or_by_number(typed, number):
    assert class_number(typed, CLASSES) == number


@pytest.mark.parametrize(
    ("typed", "names", "said"),
    [
        ("hors", CLASSES, "no class 'hors'; did you mean horse?"),
        ("zebra", CLASSES, "choose one of T-shirt, horse, Cat, 7"),
        ("cat", None, "no names here"),
        ("A", ["a", "a ", "á"], None),
        ("sTRASSE", ["Strasse", "strasse"], "may be Strasse or strasse"),
    ],
)
def test_an_unknown_class_proposes_near_ones(typed, names, said):
    if said is None:
        assert class_number(typed, names) == 0
        return
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        class_number(typed, names)


@pytest.mark.parametrize(
    ("line", "choices"),
    [
        ("index --source photos --out g --metric euclid", ("cosine", "hamming", "two_stage")),
        ("generate --order spiral", ("entropy", "random", "raster", "halton")),
        ("plot runs --method mds", ("tsne", "umap", "pca")),
        ("probe --train t --out o --protocol svm", ("exact", "mae", "attentive", "efficient")),
        ("sweep --train t --out o --probes exact svm", ("exact", "knn", "retrieval")),
        ("sweep --train t --out o --probes retrieval --score ndcg", ("map", "recall@1")),
        ("train --tokenizer t --codes c --out o --precision fp16", ("auto", "fp32", "bf16")),
    ],
)
def test_a_value_that_is_no_choice_lists_the_choices(line, choices, capsys):
    code, out, said = ended(line.split(), capsys)
    assert code == 2
    assert all(choice in out + said for choice in choices)
