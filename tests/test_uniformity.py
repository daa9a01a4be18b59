"""The table of five systems: made from the rows that are there, with honest intervals and verdicts; one row of it as a user makes it."""

from __future__ import annotations

import json
import shlex
import sys

import numpy as np
import pytest

from .test_benchmarks import ROOT, run

SYSTEMS = ["LlamaGen", "S0", "S1", "S2", "S3"]


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import uniformity_report

    yield uniformity_report
    sys.modules.pop("uniformity_report")


def a_row(system: str, seed: int, accuracy: float, distance: float, seconds: float = 0.1, sha: str = "ab", steps: int = 100) -> dict:
    """What the table reads of a row."""
    compared = {"network": {"sha256": sha}, "reference": {"sha256": "cd"}, "images": 50, "settings": {}}
    generation = {"comparison": compared, "metrics": {"frechet": {"value": distance}}, "floor": None, "ceiling": None}
    probes = {"linear_middle": {"top1": accuracy, "top5": 0.9}}
    parts = {"generation": generation, "probes": probes, "speed": {"seconds_per_image": seconds}}
    return {"system": system, "seed": seed, "settings": {"name": "d", "steps": steps, "images": 50, "limit": None}, "parts": parts}


def write(folder, rows) -> None:
    (folder / "rows").mkdir(exist_ok=True)
    for row in rows:
        (folder / "rows" / f"{row['system']}_seed{row['seed']}.json").write_text(json.dumps(row))


def paper_like(seeds: int, spread: float = 0.001) -> list[dict]:
    """Rows in which every ordering of the paper holds."""
    values = {"LlamaGen": (0.4, 3.8, 0.1), "S0": (0.24, 3.2, 0.1), "S1": (0.61, 3.9, 0.1), "S2": (0.45, 7.5, 1.0), "S3": (0.64, 3.1, 0.7)}
    rng = np.random.default_rng(0)
    return [
        a_row(name, seed, accuracy + rng.normal(0, spread), distance + rng.normal(0, spread), seconds + rng.normal(0, spread))
        for name, (accuracy, distance, seconds) in values.items()
        for seed in range(seeds)
    ]


def test_without_rows_everything_is_missing(report, tmp_path):
    assert "no rows yet; missing: LlamaGen, S0" in report.write_report(tmp_path, SYSTEMS, 3)
    assert not list(tmp_path.iterdir())


def test_the_table_is_made_of_what_is_there_and_says_what_is_missing(report, tmp_path):
    write(tmp_path, [a_row("S3", 0, 0.6, 3.0), a_row("S3", 1, 0.7, 4.0), a_row("S1", 2, 0.5, 5.0)])
    text = report.write_report(tmp_path, SYSTEMS, 3)
    result = json.loads((tmp_path / "uniformity.json").read_text())
    assert result["missing"] == ["LlamaGen (seeds 0, 1, 2)", "S0 (seeds 0, 1, 2)", "S1 (seeds 0, 1)", "S2 (seeds 0, 1, 2)", "S3 (seeds 2)"]
    assert "missing: LlamaGen" in text
    cell = result["systems"]["S3"]["ACC1"]
    half = 12.7062 * 5  # t of one degree of freedom times the standard error of 60 and 70
    assert (cell["mean"], cell["seeds"]) == (pytest.approx(65), 2)
    assert cell["interval"] == pytest.approx([65 - half, 65 + half], rel=1e-4)
    assert result["systems"]["S1"]["FD"] == {"mean": 5.0, "interval": None, "seeds": 1}
    assert result["systems"]["S0"]["ACC1"] is None
    assert {entry["verdict"] for entry in result["orderings"]} == {"rows are missing"}
    assert (tmp_path / "uniformity.png").stat().st_size > 5_000


def test_orderings_hold_where_every_interval_says_so(report, tmp_path):
    write(tmp_path, paper_like(3))
    text = report.write_report(tmp_path, SYSTEMS, 3)
    result = json.loads((tmp_path / "uniformity.json").read_text())
    assert [entry["verdict"] for entry in result["orderings"]] == ["holds"] * 5
    assert result["kendall_tau"]["ACC1"] == {"tau": pytest.approx(1), "systems": 5}
    assert "missing: nothing" in text


@pytest.mark.parametrize(
    ("change", "seeds", "verdict"),
    [
        (("S3", 0.3), 3, "does not hold"),
        (("S3", 0.64), 1, "undecided: one seed, points that way"),
        (("S3", 0.3), 1, "undecided: one seed, does not point that way"),
        (("S3", 0.6105), 3, "undecided: an interval holds 0"),
    ],
)
def test_orderings_that_do_not_hold_or_cannot_be_told(report, change, seeds, verdict):
    rows = paper_like(seeds, 0.003)
    for row in rows:
        if row["system"] == change[0]:
            row["parts"]["probes"]["linear_middle"]["top1"] = change[1] + 0.001 * row["seed"]
    assert report.orderings(rows)[0]["verdict"] == verdict


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (a_row("S1", 0, 0.5, 3, sha="ef"), "differ in network"),
        (a_row("S1", 0, 0.5, 3, steps=200), "different settings"),
    ],
)
def test_rows_that_cannot_be_compared_are_refused(report, tmp_path, other, message):
    write(tmp_path, [a_row("S3", 0, 0.6, 3.0), other])
    with pytest.raises(ValueError, match=message):
        report.write_report(tmp_path, SYSTEMS, 3)


def test_a_judge_is_trained_goes_on_and_measures(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import judge

    settings = {"epochs": 3, "width": 8, "limit": 300}
    whole = judge.train_judge("sample:digits", tmp_path / "whole", **settings)
    original = judge._augmented
    calls = []

    def killed(*args):
        calls.append(1)
        if len(calls) > 3:  # in the second epoch of two batches
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(judge, "_augmented", killed)
    with pytest.raises(KeyboardInterrupt):
        judge.train_judge("sample:digits", tmp_path / "begun", **settings)
    monkeypatch.setattr(judge, "_augmented", original)
    again = judge.train_judge("sample:digits", tmp_path / "begun", **settings)
    assert again["weights_sha256"] == whole["weights_sha256"]
    assert judge.train_judge("sample:digits", tmp_path / "whole", **settings) == json.loads((tmp_path / "whole" / "judge.json").read_text())
    with pytest.raises(ValueError, match="holds a judge of other settings"):
        judge.train_judge("sample:digits", tmp_path / "whole", **{**settings, "epochs": 4})

    from bigr_features.features.metric_network import metric_network

    network = metric_network("judge_cnn", tmp_path / "whole" / "judge.safetensors", {"width": 8})
    found = network(np.zeros((2, 32, 32, 3), np.uint8))
    assert (found.pooled.shape, found.spatial.shape, found.logits.shape) == ((2, 64), (2, 8 * 8 * 7), (2, 10))
    assert network.sha256 == whole["weights_sha256"]


@pytest.mark.slow
def test_a_row_is_made_part_by_part_and_not_made_again(tmp_path):
    small = "--dataset sample:fashion_mnist --steps 8 --images 40 --choice-images 4 --limit 300 --judge-epochs 1 --only S3 --resamples 5"
    command = [*shlex.split(small), "--seed", "0", "--threads", "1", "--work", str(tmp_path)]
    done = run("uniformity.py", *command, "--parts", "training", "generation")
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "rows" / "S3_seed0.json").read_text())
    assert list(row["parts"]) == ["training", "generation"]
    done = run("uniformity.py", *command)
    assert done.returncode == 0, done.stderr
    again = json.loads((tmp_path / "rows" / "S3_seed0.json").read_text())
    assert list(again["parts"]) == ["training", "generation", "chosen", "speed", "probes"]
    assert again["parts"]["generation"] == row["parts"]["generation"]
    assert again["parts"]["training"]["core_seconds"] > 0
    assert len(again["parts"]["chosen"]["tried"]) == 6
    assert "missing: LlamaGen" in done.stdout
    done = run("uniformity.py", *command, "--steps", "9")
    assert "was made with" in done.stderr
