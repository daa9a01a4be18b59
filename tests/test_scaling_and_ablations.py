"""Figure 4 and the ablations: their systems can be built, their tables say what is missing, and one row of each as a user makes it."""

from __future__ import annotations

import importlib
import json
import shlex

import pytest
import timm
import torch

from bigr_features.models.generator import BiGR
from bigr_features.models.presets import preset_configs
from bigr_features.sampling.settings import SamplingSettings

from .row_files import a_row, markdown, write
from .test_benchmarks import ROOT, run


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


def test_points_are_three_sizes_on_codes_of_their_dimension(benchmark):
    scaling = benchmark("scaling")
    for name, (size, code_dim) in scaling.POINTS.items():
        system = scaling.point(size, code_dim)
        tokenizer, generator = preset_configs(system.preset, **system.changes)
        assert tokenizer.code_dim == generator.code_dim == code_dim
        assert name == f"{size}_k{code_dim}"
    found = [preset_configs("bigr_nano", **scaling.point(*point).changes)[1] for point in (("S", 24), ("M", 8), ("M", 24), ("L", 8))]
    counts = [sum(p.numel() for p in BiGR(config, device="meta").parameters()) for config in found]
    assert counts == sorted(counts)
    assert scaling.point("M", 12).tokenizer == "binary"  # the one of the five systems


def test_lines_of_ablations_can_be_built_and_draw(benchmark):
    ablations = benchmark("ablations")
    for name, system in ablations.SYSTEMS_HERE.items():
        SamplingSettings(**system.sampling)
        options = {**system.sampling, **({"num_reveal_steps": 2, "num_denoise_steps": 1} if name != "S2" else {"num_denoise_steps": 1})}
        model = timm.create_model(system.preset, num_classes=0, img_size=8, depth=1, width=16, **system.changes).eval()
        classes = torch.tensor([model.generator.null_class if model.generator.config.unconditional else 1])
        assert model.generate(classes, seeds=[0], **options).shape == (1, 3, 8, 8)
    asked = {name for table in ablations.TABLES for name in table.lines}
    assert asked == set(ablations.SYSTEMS_HERE)
    assert ablations.SYSTEMS_HERE["raster"].sampling["num_reveal_steps"] == 64


def test_the_direct_head_learns_from_the_condition_alone(benchmark):
    """At its one noise level the bits it sees are fair coins: what codes were does not show."""
    changes = benchmark("ablations").SYSTEMS_HERE["direct"].changes
    generator = timm.create_model("bigr_nano", num_classes=0, depth=1, width=16, **changes).generator
    transcoder = generator.transcoder
    torch.manual_seed(0)
    codes = torch.ones(4000, 12)
    noisy = transcoder.corrupt(codes, torch.ones(4000, dtype=torch.int64))
    assert abs(float(noisy.mean()) - 0.5) < 0.01
    with torch.no_grad():
        logits = torch.randn(4000, 12)
        bce, _ = transcoder.loss_per_bit(logits, codes, torch.ones(4000, dtype=torch.int64), noisy)
    torch.testing.assert_close(bce, torch.nn.functional.binary_cross_entropy_with_logits(logits, codes, reduction="none"))


def test_the_figure_is_made_of_what_is_there(benchmark, tmp_path):
    scaling, tables = benchmark("scaling"), benchmark("system_tables")
    assert "no points yet; missing: S_k8" in scaling.write_report(tmp_path, [])
    files = write(tmp_path, [a_row("M_k8", 0, 0.3, 4.0), a_row("M_k12", 0, 0.4, 3.0), a_row("S_k12", 0, 0.35, 3.5)])
    text = scaling.write_report(tmp_path, files)
    assert "missing: S_k8, L_k8, L_k12, S_k16" in text
    result = json.loads((tmp_path / "scaling.json").read_text())
    point = result["points"][1]
    assert (point["name"], point["FD"], point["FD_interval"], point["tokenizer_FD"]) == ("S_k12", 3.5, [3.0, 4.0], 1.75)
    assert (point["ACC1"], point["ACC1_interval"]) == (pytest.approx(35), pytest.approx([34, 36]))
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    section = tables.scaling_section(lambda name: result, markdown, lambda *names: "made by", ["scaling/d/scaling"])
    assert "| S | 12 | 2.50 | 3.500 (3.000 to 4.000) | 1.750 | 35.0 (34.0 to 36.0) |" in section
    assert "Missing: S_k8" in section


def test_tables_of_ablations_stand_beside_the_papers(benchmark, tmp_path):
    ablations, tables = benchmark("ablations"), benchmark("system_tables")
    assert "no lines yet; missing: S3, direct" in ablations.write_report(tmp_path, [])
    files = write(tmp_path, [a_row("S3", 0, 0.4, 3.0), a_row("direct", 0, 0.3, 4.0)])
    assert "missing: predict_clean, S2, raster" in ablations.write_report(tmp_path, files)
    result = json.loads((tmp_path / "ablations.json").read_text())
    assert [entry["number"] for entry in result["tables"]] == [2, 3, 4, 8]
    section = tables.ablations_section(lambda name: result, markdown, lambda *names: "made by", ["ablations/d/ablations"])
    assert "| bits at once, plain BCE | 4.000 (3.500 to 4.500) *5.84* | - *212* | - *9.89* | 30.0 (29.0 to 31.0) *63.3* |" in section
    assert "| masked, random | - *7.12* | - *0.69* |" in section


@pytest.mark.slow
def test_one_point_and_lines_as_a_user_makes_them(tmp_path):
    small = "--dataset sample:fashion_mnist --steps 4 --images 4 --limit 200 --judge-epochs 1 --resamples 5 --threads 1"
    command = [*shlex.split(small), "--work", str(tmp_path)]
    done = run("scaling.py", *command, "--only", "S_k12")
    assert done.returncode == 0, done.stderr
    assert "S_k12" in done.stdout
    done = run("ablations.py", *command, "--only", "halton", "unconditional")
    assert done.returncode == 0, done.stderr
    assert "missing: S3, direct, predict_clean, S2, raster, random, threshold" in done.stdout
    rows = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "trial/ablations/fashion_mnist/rows").glob("*.json")}
    assert rows["halton_seed0"]["parts"].keys() == {"generation", "speed"}
    assert "recognised" not in rows["unconditional_seed0"]["parts"]["generation"]["metrics"]
    assert (tmp_path / "S3_seed0" / "images_halton").is_dir()  # drawn from the weights of S3, which were trained for it
    assert not (tmp_path / "halton_seed0").exists()
