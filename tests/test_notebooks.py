"""Promises of the notebooks: each runs from a clean kernel, and is stored with outputs, at least one picture, and no path of a machine."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
# what stands for the notebook's own numbers, so that its cells run as they are on less
SMALLER = {
    "features": {"[:1500]": "[:300]", "[:1000]": "[:200]", "[:800]": "[:120]"},
    "generation": {"num_reveal_steps=12, num_denoise_steps=16": "num_reveal_steps=3, num_denoise_steps=2"}
    | {"num_denoise_steps=16,": "num_reveal_steps=3, num_denoise_steps=2,", "num_passes=4": "num_passes=2"},
    "my_photos": {"range(24)": "range(8)"},
    "retrieval": {"== label)[:60]": "== label)[:20]", "[:300]": "[:60]"},
    "text_to_image": {"num_reveal_steps=12, num_denoise_steps=16": "num_reveal_steps=3, num_denoise_steps=2"}
    | {"num_denoise_steps=16,": "num_reveal_steps=3, num_denoise_steps=2,"},
}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
SECONDS_A_CELL = 900
MACHINE_PATH = re.compile(r"(?<![\w.~:/<])/(?:home|root|tmp|usr|var|opt|mnt|work|Users)/\w")


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_it_is_stored_with_outputs_and_pictures_and_without_errors_or_machine_paths(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run all cells, in order, from a clean kernel"
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for output in outputs:
        text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        assert not MACHINE_PATH.search(text), text


@each_notebook
def test_it_runs_from_a_clean_kernel(path, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # beside other tests, threads that wait for each other take many times as long
    notebook = nbformat.read(path, as_version=4)
    for own, less in SMALLER[path.stem].items():
        held = [cell for cell in notebook.cells if cell.cell_type == "code" and own in " ".join(cell.source.split())]
        assert held, f"no cell has {own!r}; name what makes the notebook long now"
        for cell in held:
            cell.source = re.sub(r"\s+".join(map(re.escape, own.split())), less, cell.source)
    client.NotebookClient(
        notebook, timeout=SECONDS_A_CELL, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    errors = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert not errors
