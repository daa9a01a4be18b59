"""The same numbers on a processor with AVX2 only: a process that is kept from wider instructions runs what users run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bigr_features import KNNClassifier, LinearProbe, extract_features
from bigr_features.data import load_sample
from bigr_features.functional.precision import choose_precision, instruction_sets
from bigr_features.train.draws import draw
from bigr_features.train.generator import GeneratorLoss
from bigr_features.train.optimizer import build_optimizer

NARROW = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


def numbers() -> dict:
    """Features, losses of training and accuracies, by name."""
    import timm

    sample = load_sample("fashion_mnist")
    images = torch.from_numpy(sample.train_images[::40]).float()[:, None] / 255
    images = torch.nn.functional.pad(images, (2, 2, 2, 2))
    model = timm.create_model("bigr_nano.fashion_mnist", pretrained=True, num_classes=0).eval()
    images = images.expand(-1, model.tokenizer.in_chans, -1, -1).contiguous()
    found = {}
    found["features, bf16"] = extract_features(model, images[:8], layers=5, dtype="bf16", progress=False)[5].tolist()
    features = extract_features(model, images, layers=5, progress=False)[5]
    found["features, fp32"] = features[:8].tolist()
    labels = sample.train_labels[::40]
    found["probe"] = LinearProbe(Cs=(1.0,)).fit(features[::2], labels[::2]).score(features[1::2], labels[1::2])
    found["k-NN"] = float(KNNClassifier(n_neighbors=5).fit(features[::2], labels[::2]).score(features[1::2], labels[1::2]))

    generator = model.generator.train()
    module = GeneratorLoss(generator, "fp32")
    optimizer = build_optimizer(generator, 1e-3, 0.02)
    codes = model.encode(images[:4]).detach().float()
    generator.trunk.eval()  # no dropout
    for step in range(2):
        terms = module(codes, torch.arange(4), draw(generator, 4, torch.Generator().manual_seed(step), 1))
        terms[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        found[f"loss {step}"] = terms[0].item()
    found["precision"] = choose_precision("auto", "cpu", generator).name
    return found


@pytest.mark.skipif("avx512f" not in instruction_sets(), reason="the processor has nothing wider than AVX2")
def test_a_processor_with_avx2_only_gives_the_same_numbers():
    here = numbers()
    environment = {
        **os.environ,
        **NARROW,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-c", "import json, tests.test_instruction_sets as t; print(json.dumps(t.numbers()))"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=True)
    there = json.loads(done.stdout.splitlines()[-1])
    assert there["precision"] == "fp32"  # without instructions for bfloat16, auto does not take it
    for name in ("features, fp32", "loss 0", "loss 1"):
        np.testing.assert_allclose(there[name], here[name], rtol=1e-3, atol=2e-4, err_msg=name)
    a, b = (np.asarray(run["features, bf16"]) for run in (here, there))
    assert ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min() > 0.999
    for name in ("probe", "k-NN"):
        assert abs(there[name] - here[name]) <= 0.04
