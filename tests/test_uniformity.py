"""The table of five systems: made from the rows that are there, with honest intervals and verdicts; one row of it as a user makes it."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bigr_features.checkpoints import fingerprint, load_model
from bigr_features.models.presets import preset_configs
from bigr_features.models.tokenizer_config import TokenizerConfig
from bigr_features.train.settings import TrainTokenizerConfig
from bigr_features.train.tokenizer import train_tokenizer

from .row_files import a_row, markdown, write
from .test_benchmarks import ROOT, run

SYSTEMS = ["LlamaGen", "S0", "S1", "S2", "S3"]


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import uniformity_report

    yield uniformity_report
    sys.modules.pop("uniformity_report")


def table(report, folder, seeds: int = 3) -> str:
    """The table of the rows in a folder."""
    return report.write_report(folder, sorted((folder / "rows").glob("*.json")), SYSTEMS, seeds)


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
    assert "no rows yet; missing: LlamaGen, S0" in table(report, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_table_is_made_of_what_is_there_and_says_what_is_missing(report, tmp_path):
    write(tmp_path, [a_row("S3", 0, 0.6, 3.0), a_row("S3", 1, 0.7, 4.0), a_row("S1", 2, 0.5, 5.0)])
    text = table(report, tmp_path)
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
    text = table(report, tmp_path)
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
        table(report, tmp_path)


def test_rows_on_different_tokenizers_are_refused_and_the_begun_one_gives_way(report, tmp_path):
    write(tmp_path, [a_row("S3", 0, 0.6, 3.0), a_row("S1", 0, 0.6, 3.0, tokenizer="ee")])
    with pytest.raises(ValueError, match="S1 and S3 stand on different tokenizers 'binary'"):
        table(report, tmp_path)
    import row_options

    args = argparse.Namespace(begun=tmp_path / "begun", out=tmp_path)
    args.begun.mkdir()
    for name in ("S3_seed0", "S2_seed0"):
        (args.begun / f"{name}.json").write_text("{}")
    assert [path.relative_to(tmp_path).as_posix() for path in row_options.row_files(args)] == [
        "rows/S1_seed0.json",
        "begun/S2_seed0.json",
        "rows/S3_seed0.json",
    ]


def test_the_section_has_the_papers_numbers_beside_ours(report, tmp_path):
    import system_tables

    write(tmp_path, [row for row in paper_like(2) if row["system"] != "S2"])
    table(report, tmp_path)
    result = json.loads((tmp_path / "uniformity.json").read_text())
    text = system_tables.uniformity_section(lambda name: result, markdown, lambda *names: "made by", ["uniformity/d/uniformity"])
    assert "Missing: LlamaGen (seeds 2), S0 (seeds 2), S1 (seeds 2), S2 (seeds 0, 1, 2), S3 (seeds 2)." in text
    assert "| *ACC1* | *40.5* | *23.8* | *61.1* | *45.2* | *64.3* |" in text
    assert "| FD | 3.8" in text
    assert "| S3 has the best ACC1 | rows are missing | S3 - LlamaGen: 2" in text
    assert "S3 - S2: missing" in text
    assert "ACC1 1.00" in text
    assert system_tables.measured("uniformity", tmp_path) == []


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


@pytest.mark.parametrize(
    ("folders", "message"),
    [(["train/a", "test/a"], "one class only"), (["train", "test"], "has no labels; a judge needs a folder for each")],
)
def test_a_judge_and_rows_need_classes(tmp_path, monkeypatch, folders, message):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import judge
    import uniformity

    for folder in folders:
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (32, 32), (i, 0, 0)).save(tmp_path / "data" / folder / f"{i}.png")
    with pytest.raises(ValueError, match=message):
        judge.train_judge(str(tmp_path / "data"), tmp_path / "out", epochs=1)
    monkeypatch.setattr(
        sys, "argv", ["uniformity.py", "--dataset", str(tmp_path / "data"), "--work", str(tmp_path / "out"), "--images", "9"]
    )
    with pytest.raises(ValueError, match=message.split(";")[0]):
        uniformity.main()
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_is_kept_in_half_precision_and_refused_with_other_settings(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import kept

    model = TokenizerConfig(
        image_size=16, channels=32, channel_multipliers=(1, 1), num_res_blocks=1, attention_resolutions=(), embed_dim=32, code_dim=4
    )
    config = TrainTokenizerConfig(
        source="sample:digits", out=tmp_path / "run", model=model, steps=2, batch_size=4, validation=4,
        validate_every=1, limit=20, trackers=(), device="cpu", precision="fp32",
    )  # fmt: skip
    with pytest.raises(FileNotFoundError, match="holds no finished tokenizer"):
        kept.keep(tmp_path / "run", tmp_path / "kept", 1.0)
    train_tokenizer(config)
    kept.keep(tmp_path / "run", tmp_path / "kept", 12.5)
    whole, half = load_model(tmp_path / "run" / "model"), load_model(tmp_path / "kept")
    for name, x in whole.state_dict().items():
        torch.testing.assert_close(half.state_dict()[name], x.half().float(), rtol=0, atol=0)
    about = kept.about(tmp_path / "kept", replace(config, out=tmp_path / "elsewhere", validate_every=2, threads=2))
    assert (about["core_seconds"], about["validation"]["step"]) == (12.5, 2)
    assert about["weights_sha256"] == fingerprint(half)
    assert str(tmp_path) not in (tmp_path / "kept" / "about.json").read_text()
    for change, said in (({"steps": 3}, "steps 2 there, 3 now"), ({"limit": None}, "limit 20 there, None now")):
        with pytest.raises(ValueError, match=said):
            kept.about(tmp_path / "kept", replace(config, **change))


def test_the_committed_tokenizers_are_what_a_run_with_default_settings_takes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import uniformity
    from row_shared import Shared
    from systems import SYSTEMS

    folders = sorted((ROOT / "benchmarks" / "results" / "uniformity").glob("*/tokenizer_*"))
    assert folders
    by_kind = {system.tokenizer: system for system in SYSTEMS.values()}
    for folder in folders:
        system = by_kind.get(folder.name.removeprefix("tokenizer_"))
        if system is None:
            continue  # of another code dimension
        monkeypatch.setattr(sys, "argv", ["uniformity.py", "--dataset", f"not/read/{folder.parent.name}", "--work", str(tmp_path)])
        taken, about = Shared(uniformity.parse_arguments()).tokenizer(system)
        model = load_model(taken)
        assert taken == folder
        assert about["weights_sha256"] == fingerprint(model)
        assert model.config == preset_configs(system.preset, **system.changes)[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_row_is_made_part_by_part_and_not_made_again(tmp_path):
    small = "--dataset sample:fashion_mnist --steps 8 --images 40 --choice-images 4 --limit 300 --judge-epochs 1 --only S3 --resamples 5"
    command = [*shlex.split(small), "--threads", "1", "--work", str(tmp_path)]
    done = run("uniformity.py", *command, "--parts", "training", "generation")
    assert done.returncode == 0, done.stderr
    begun = tmp_path / "begun" / "uniformity" / "S3_seed0.json"
    row = json.loads(begun.read_text())
    assert list(row["parts"]) == ["training", "generation"]
    assert "missing: LlamaGen (seeds 0), S0 (seeds 0), S1 (seeds 0), S2 (seeds 0), S3 (seeds 0)" in done.stdout
    done = run("uniformity.py", *command)
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "trial" / "uniformity" / "fashion_mnist"
    again = json.loads((kept / "rows" / "S3_seed0.json").read_text())
    assert not begun.exists()
    steps = [json.loads(line)["step"] for line in (kept / "rows" / "S3_seed0.jsonl").read_text().splitlines()]
    assert steps[-1] == 8
    assert list(again["parts"]) == ["training", "generation", "chosen", "speed", "probes", "attentive"]
    assert again["parts"]["generation"] == row["parts"]["generation"]
    assert again["parts"]["training"]["core_seconds"] > 0
    assert len(again["parts"]["chosen"]["tried"]) == 6
    assert "S2 (seeds 0)" in done.stdout
    assert "S3 (seeds 0)" not in done.stdout
    shutil.rmtree(tmp_path / "S3_seed0")  # as on another machine: a finished row needs nothing of the run that made it
    done = run("uniformity.py", *command)
    assert "S3, seed 0: all there" in done.stderr
    done = run("uniformity.py", *command, "--steps", "9")
    assert "was made with" in done.stderr
