"""Promises of Ctrl-C: one line that says how to go on, status 130, no traceback; the same command then continues."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from bigr_features.features.store import FeatureStore

COMMAND = "extract --model bigr_nano --random --source sample:digits --limit 1000 --shard-size 16 --device cpu --threads 1 --batch-size 16"


@pytest.mark.slow
def test_an_interrupted_extraction_continues(tmp_path):
    line = [sys.executable, "-m", "bigr_features.cli", *shlex.split(COMMAND), "--out", str(tmp_path / "s")]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while len(list((tmp_path / "s").glob("shard_*.json"))) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "bigr extract: interrupted; the same command goes on where it stopped."
    again = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0
    assert "shards are there already" in again.stderr
    assert len(FeatureStore(tmp_path / "s")) == 1000


ENDLESS = """
import importlib, sys, time, types
from bigr_features.train.interruption import Interruption

def loop(settings):
    interruption = Interruption(alone=True)
    for _ in interruption.over(range(2)):
        print("in a step", flush=True)
        while not interruption.asked():
            time.sleep(0.01)
        print("finishing it", flush=True)
        time.sleep(600)

sys.modules["endless"] = types.SimpleNamespace(loop=loop)
commands = importlib.import_module("bigr_features.cli.main")
commands.COMMANDS["report"] = (".report:ReportConfig", "endless:loop")
commands.main(["report", "a.json"])
"""


def test_a_second_one_leaves_in_the_middle_of_a_step_of_a_training():
    process = subprocess.Popen([sys.executable, "-c", ENDLESS], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        for said in ("in a step", "finishing it"):
            assert process.stdout.readline().strip() == said
            os.kill(process.pid, signal.SIGINT)
        _, last = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert last.splitlines() == ["bigr report: interrupted; give the same command again."]
