"""Promises of `bigr report`, of --json, and of what is said about the best value of a grid."""

from __future__ import annotations

import csv
import io
import json
import logging
import shlex

import numpy as np
import pytest
from PIL import Image

from bigr_features.cli import main
from bigr_features.evaluate.comparison import COLUMNS, comparison, result_rows

NANO = shlex.split("--model bigr_nano --model-args depth=2 width=32 num_heads=2 --random --device cpu --threads 1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Stores of digits, and results of all commands on them."""
    folder = tmp_path_factory.mktemp("report")
    for split in ("train", "test"):
        main(["extract", *NANO, "--limit", "200", "--source", "sample:digits", "--split", split, "--out", str(folder / split)])
    stores = ["--train", str(folder / "train"), "--test", str(folder / "test")]
    main(["probe", *stores, "--Cs", "0.01", "0.1", "--out", str(folder / "probe.json")])
    main(["knn", *stores, "--k", "1", "3", "--out", str(folder / "knn.json")])
    main(["sweep", *stores[:2], "--probes", "exact", "knn", "retrieval", "--k", "3", "--Cs", "0.1", "--out", str(folder / "sweep")])
    return folder


def table(folder, capsys, *more) -> str:
    capsys.readouterr()
    main(["report", *(str(folder / name) for name in ("knn.json", "probe.json")), *more])
    return capsys.readouterr().out


def test_the_best_comes_first_with_its_interval(folder, capsys):
    rows = list(csv.DictReader(io.StringIO(table(folder, capsys, "--format", "csv"))))
    results = [json.loads((folder / f"{row['probe'].replace('exact', 'probe')}.json").read_text()) for row in rows]
    assert {row["probe"] for row in rows} == {"exact", "knn"}
    assert float(rows[0]["test %"]) >= float(rows[1]["test %"])
    for row, result in zip(rows, results, strict=True):
        assert row["feature"] == result["chosen"]
        assert float(row["test %"]) == pytest.approx(100 * result["test"]["top1"], abs=0.006)
        low, high = map(float, row["95 % interval"].split(" - "))
        assert [low, high] == pytest.approx([100 * value for value in result["test"]["top1_interval"]], abs=0.006)
        assert row["n test"] == str(result["test"]["test_samples"])


def test_formats_hold_the_same_cells(folder, capsys, tmp_path):
    lines = {kind: table(folder, capsys, "--format", kind).splitlines() for kind in ("text", "markdown", "latex", "csv")}
    assert lines["markdown"][0] == f"| {' | '.join(COLUMNS)} |"
    assert lines["markdown"][1].count("---:") == 4
    assert lines["latex"][0] == r"\begin{tabular}{lllllrrrr}"
    assert lines["latex"][-1] == r"\end{tabular}"
    assert r"\%" in lines["latex"][2]
    assert r"bigr\_nano" in lines["latex"][4]
    assert lines["text"][1].startswith("---")
    for row in csv.DictReader(lines["csv"]):
        for kind in ("text", "markdown"):
            assert sum(row["test %"] in line and f"{row['probe']} " in line for line in lines[kind]) == 1
    main(["report", str(folder / "knn.json"), "--out", str(tmp_path / "a" / "t.txt")])
    assert (tmp_path / "a" / "t.txt").read_text().startswith("data")


def test_a_sweep_gives_a_row_for_each_probe(folder, capsys):
    capsys.readouterr()
    main(["report", str(folder / "sweep"), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["probe"] for row in rows if row["probe"] != "retrieval, map"] != []
    assert {row["probe"] for row in rows} == {"exact", "knn", "retrieval, map"}
    assert {row["test %"] for row in rows} == {""}


def test_several_data_sets_stand_apart_and_what_is_untested_comes_last():
    def row(data, test, held_out):
        base = dict.fromkeys(("model", "weights", "feature", "probe"), "x")
        return {**base, "data": data, "data_sha256": data, "test": test, "held_out": held_out, "interval": None, "items": None}

    rows = [row("b", 0.5, 0.9), row("a", 0.4, 0.1), row("b", None, 0.99), row("b", 0.7, 0.2), row("a", 0.6, 0.1)]
    shown = [(line.split(",")[0], line.split(",")[6]) for line in comparison(rows, "csv").splitlines()[1:]]
    assert shown == [("b", "70.00"), ("b", "50.00"), ("b", ""), ("a", "60.00"), ("a", "40.00")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "without a command of ours"),
        ('{"command": "plot"}', "of 'plot'"),
        ('{"command": "probe"}', "damaged or of another version"),
        ("{", "is no JSON"),
    ],
)
def test_other_files_are_named(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SystemExit, match=said) as ended:
        main(["report", str(tmp_path / "x.json")])
    assert "x.json" in ended.value.code


def test_no_rows_and_unknown_formats_are_refused():
    with pytest.raises(ValueError, match="no result"):
        comparison([])
    with pytest.raises(ValueError, match="choose one of text"):
        comparison([{}], "word")
    assert result_rows({"command": "sweep", "probes": {}}, "x") == []


@pytest.mark.parametrize("command", ["probe --Cs 0.01 0.1", "knn --k 1 3 --leave-one-out"])
def test_json_of_a_probe_is_what_is_written_and_nothing_else(folder, tmp_path, capsys, command):
    capsys.readouterr()
    out = tmp_path / "r.json"
    main([*command.split(), "--train", str(folder / "train"), "--test", str(folder / "test"), "--out", str(out), "--json"])
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())


def test_json_of_a_search(tmp_path, capsys):
    for number, name in enumerate(("cat", "dog", "cat", "dog")):
        (tmp_path / "d" / name).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "d" / name / f"{number}.png")
    gallery, query = str(tmp_path / "g"), str(tmp_path / "d" / "cat" / "0.png")
    main(["index", *NANO, "--source", str(tmp_path / "d"), "--out", gallery])
    capsys.readouterr()
    main(["search", gallery, query, "--k", "2", "--device", "cpu", "--json", "--sheet", str(tmp_path / "s.png")])
    found = json.loads(capsys.readouterr().out)
    (result,) = found["results"]
    assert result["query"] == "0.png"
    assert [hit["rank"] for hit in result["hits"]] == [1, 2]
    first = result["hits"][0]
    assert (first["class_name"], first["source"], first["label"]) == ("cat", query, 0)
    assert first["score"] == pytest.approx(1, abs=1e-4)
    main(["search", gallery, "--ids", first["id"], "--k", "1", "--label", "DOG", "--json"])
    assert json.loads(capsys.readouterr().out)["results"][0]["hits"][0]["class_name"] == "dog"
    with pytest.raises(SystemExit, match="no class 'cta'; did you mean cat"):
        main(["search", gallery, "--by-class", "cta", "--k", "1"])


def test_the_best_value_at_the_edge_of_its_grid_is_said(folder, tmp_path, caplog):
    stores = ["--train", str(folder / "train"), "--out", str(tmp_path / "o.json")]
    for grid in (("1e-6", "1e-5"), ("0.01", "0.1", "1", "1e5")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            main(["probe", *stores, "--Cs", *grid])
        chosen = json.loads((tmp_path / "o.json").read_text())
        best = chosen["held_out"][chosen["chosen"]]["C"]
        at_edge = best in (float(grid[0]), float(grid[-1]))
        assert ("of those tried; try" in caplog.text and "(--Cs)" in caplog.text) == at_edge
    caplog.clear()
    main(["probe", *stores, "--Cs", "0.1"])  # of one value there is no edge
    assert "of those tried" not in caplog.text
    main(["sweep", *stores[:2], "--out", str(tmp_path / "s"), "--probes", "exact", "--Cs", "1e-7", "1e-6"])
    assert "of those tried; try" in caplog.text
