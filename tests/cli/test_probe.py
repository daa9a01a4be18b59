"""Promises of `bigr probe`, `bigr knn` and `bigr sweep`: one valid JSON, choices on training images, refusals in one line."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import pytest

from bigr_features import KNNClassifier, LinearProbe
from bigr_features.cli import main
from bigr_features.features.store import FeatureStore

NANO = shlex.split("extract --model bigr_nano --model-args depth=2 width=32 num_heads=2 --random --device cpu --threads 1 --limit 240")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    for split in ("train", "test"):
        main([*NANO, "--source", "sample:digits", "--split", split, "--out", str(folder / split), "--bits"])
    main([*NANO, "--source", "sample:digits", "--split", "test", "--mask-ratio", "0.5", "--out", str(folder / "masked")])
    return folder


def run(folder, command: str) -> dict:
    """Run a command in which {} stands for the folder, and read what it wrote."""
    args = shlex.split(command.format(folder))
    main(args)
    out = args[args.index("--out") + 1]
    return json.loads(open(f"{out}/sweep.json" if args[0] == "sweep" else out).read())


def test_probe_chooses_on_training_images_and_reports_all(folder, capsys):
    result = run(folder, "probe --train {0}/train --test {0}/test --Cs 0.01 0.1 --seeds 2 --out {0}/probe.json")
    held_out = {name: row["holdout_accuracy"] for name, row in result["held_out"].items()}
    assert set(held_out) == {"block0_mean", "block1_mean", "bits"}
    assert result["chosen"] == max(held_out, key=held_out.get)
    test, protocol = result["test"], result["protocol"]
    assert test["top1_interval"][0] <= test["top1"] <= test["top1_interval"][1]
    assert test["top1"] <= test["top5"] <= 1
    assert len(test["per_class"]) == 10
    assert len(test["seeds"]["top1"]) == 2
    assert test["seeds"]["top1"][0] == pytest.approx(test["top1"])
    assert protocol["feature"] == result["chosen"]
    assert len(protocol["weights_sha256"]) == len(protocol["train"]["sha256"]) == 64
    assert protocol["preprocessing"]["input_size"] == [3, 32, 32]
    assert "<- chosen" in capsys.readouterr().out
    stores = [FeatureStore(folder / split) for split in ("train", "test")]
    train, other = (np.asarray(store.features(result["chosen"])) for store in stores)
    plain = LinearProbe(Cs=(0.01, 0.1)).fit(train, stores[0].labels)
    assert plain.score(other, stores[1].labels) == pytest.approx(test["top1"])


def test_maes_protocol_says_what_it_did(folder):
    settings = "--protocol mae --base-lrs 10 100 --batch-size 64 --epochs 6 --warmup-epochs 2"
    result = run(folder, f"probe --train {{0}}/train --test {{0}}/test {settings} --names block1_mean --out {{0}}/mae.json")
    assert list(result["held_out"]) == ["block1_mean"]
    assert result["protocol"]["probe"]["augmentation"].startswith("none")
    assert result["protocol"]["probe"]["batch_size"] == 64
    assert result["protocol"]["settings"]["base_lr"] in (10, 100)


def test_knn_reports_leave_one_out(folder, capsys):
    result = run(folder, "knn --train {0}/train --test {0}/test --k 1 5 --leave-one-out --out {0}/knn.json")
    store = FeatureStore(folder / "train")
    alone = KNNClassifier(n_neighbors=(1, 5)).fit(np.asarray(store.features(result["chosen"]), np.float32), store.labels)
    assert result["leave_one_out"] == {str(k): accuracy for k, accuracy in alone.leave_one_out_accuracy().items()}
    assert "leaving one out: k=1" in capsys.readouterr().out


def test_sweep_draws_depth_and_without_a_test_store_gives_held_out_numbers_only(folder, capsys):
    result = run(folder, "sweep --train {0}/train --probes exact knn --k 1 5 --Cs 0.01 0.1 --out {0}/sweep")
    assert set(result["probes"]) == {"exact", "knn"}
    for probe in result["probes"].values():
        assert len(probe["held_out"]) == 3
        assert probe["test"] is None
    assert (folder / "sweep" / "sweep.png").stat().st_size > 10_000
    assert "held out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("probe --train {0}/train --test {0}/masked --out {0}/x.json", "mask_ratio"),
        ("probe --train {0}/train --names block9_mean --out {0}/x.json", "no feature 'block9_mean'"),
        ("probe --train {0}/nothing --out {0}/x.json", "nothing"),
        ("probe --train {0}/train --protocol mae --batch-size 4096 --out {0}/x.json", "--batch-size 4096 was given, but 192"),
        ("knn --train {0}/train --k 500 --out {0}/x.json", "--k 500 was given, but 192 training images"),
        ("sweep --train {0}/train --probes --out {0}/x", "probes is empty"),
        ("sweep --train {0}/train --k 500 --out {0}/x", "--k 500 was given"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(folder, command, message):
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(command.format(folder)))
    assert message in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert not (folder / "x.json").exists()


def test_defaults_fit_few_images_and_say_what_was_left_out(folder, caplog):
    main([*NANO[:-2], "--limit", "60", "--source", "sample:digits", "--layers", "1", "--out", str(folder / "few")])
    result = run(folder, "sweep --train {0}/few --probes knn mae --epochs 2 --warmup-epochs 1 --out {0}/few_sweep")
    assert result["probes"]["knn"]["protocol"]["settings"]["n_neighbors"] in (10, 20)
    assert result["probes"]["mae"]["protocol"]["probe"]["batch_size"] == 48
    assert "k-NN with --k 10 20: only 48 training images are not held out" in caplog.text
    assert "mae probe with --batch-size 48" in caplog.text


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    for split in ("train", "test"):
        extract = [*NANO, "--source", "sample:digits", "--split", split, "--out", str(folder / split), "--bits"]
        main([*extract, "--layers", "0", "1.ffn", "1", "--pooling", "mean", "tokens"])
    return folder


class TestTokensTapsAndTogether:
    """Attentive probes of stored tokens, features side by side, and retrieval as a score."""

    @pytest.mark.parametrize("protocol", ["attentive --heads 2 4", "efficient --queries 2 4"])
    def test_an_attentive_probe_chooses_among_layers_by_their_tokens(self, stores, protocol, capsys):
        result = run(
            stores,
            "probe --train {0}/train --test {0}/test --protocol " + protocol + " --token-epochs 30 --token-lrs 0.01 --out {0}/t.json",
        )
        assert set(result["held_out"]) == {"block0_tokens", "block1.ffn_tokens", "block1_tokens"}
        assert result["protocol"]["settings"]["num_heads" if "heads" in protocol else "num_queries"] in (2, 4)
        assert result["test"]["top1"] > 0.15
        assert "<- chosen" in capsys.readouterr().out

    def test_features_side_by_side_are_added_while_they_help(self, stores):
        result = run(stores, "probe --train {0}/train --test {0}/test --Cs 0.01 0.1 --together 2 --out {0}/together.json")
        singles = [row["holdout_accuracy"] for name, row in result["held_out"].items() if " + " not in name]
        pairs = {name: row for name, row in result["held_out"].items() if " + " in name}
        assert len(singles) == 4
        assert len(pairs) == 3
        best = result["held_out"][result["chosen"]]
        assert best["holdout_accuracy"] == max(row["holdout_accuracy"] for row in result["held_out"].values()) >= max(singles)
        for name, row in pairs.items():
            widths = [result["held_out"][part]["features"] for part in name.split(" + ")]
            assert row["features"] == sum(widths)

    def test_sweep_scores_by_retrieval(self, stores, capsys):
        result = run(
            stores,
            "sweep --train {0}/train --test {0}/test --probes exact retrieval efficient --score recall@1 --Cs 0.1 --token-epochs 1 "
            "--token-lrs 0.001 --queries 2 --out {0}/sweep",
        )
        found = result["probes"]["retrieval"]
        assert found["chosen"] == max(found["held_out"], key=lambda name: found["held_out"][name]["recall@1"])
        assert all(0 < row["map"] < 1 and 0 < row["recall@1"] <= 1 for row in found["held_out"].values())
        low, high = found["test"]["map_interval"]
        assert low < found["test"]["map"] < high
        assert "retrieval" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("probe --protocol efficient --names block0_mean", "looks at the tokens of a layer.*--pooling tokens"),
            ("probe --protocol exact --names block0_tokens", "takes one vector an image"),
            ("probe --protocol efficient --queries 100", "num_queries=100, but there are 64 tokens"),
            ("probe --protocol efficient --heads 2", "--heads 2 has no effect without --protocol attentive"),
            ("probe --protocol exact --base-lrs 1.0", "--base-lrs 1.0 has no effect without --protocol mae"),
            ("probe --protocol attentive --together 2", "--together 2 has no effect"),
            ("probe --max-memory 0", "--max-memory 0 was given"),
            ("probe --device gpu", "device='gpu' cannot be used"),
            ("sweep --probes knn --Cs 1.0", "--Cs 1.0 has no effect without exact among --probes"),
            ("sweep --probes exact --score recall@1", "--score recall@1 has no effect without retrieval among --probes"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, stores, options, message):
        command, *rest = options.split()
        with pytest.raises(SystemExit) as error:
            main([command, "--train", str(stores / "train"), "--out", str(stores / "x"), *rest])
        assert re.search(message, str(error.value))

    def test_reading_in_every_pass_is_said(self, stores, caplog):
        with caplog.at_level("INFO"):
            run(stores, "probe --train {0}/train --Cs 0.1 --names block0_mean --max-memory 1e-6 --out {0}/slow.json")
        assert "read from disk again in every pass" in caplog.text
        caplog.clear()
        with caplog.at_level("INFO"):
            run(stores, "probe --train {0}/train --Cs 0.1 --names block0_mean --out {0}/fast.json")
        assert "every pass" not in caplog.text
