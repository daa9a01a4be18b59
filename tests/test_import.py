"""Promise: importing the package costs little more than importing timm, for it loads nothing heavy and nothing optional."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"accelerate", "datasets", "faiss", "matplotlib", "pandas", "ray", "scipy", "sklearn", "transformers", "umap"}
PROGRAM = """
import sys, warnings
import timm
before = set(sys.modules)
warnings.simplefilter("error")
import bigr_features
assert timm.is_model("bigr_nano")
print(*(set(sys.modules) - before))
"""


def test_importing_the_package_registers_its_models_loads_nothing_heavy_and_says_nothing():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    added = set(done.stdout.split())
    assert "bigr_features.backbones.bigr" in added
    assert {name.partition(".")[0] for name in added} & HEAVY == set()
