"""What tests run in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.train.preload"])


def start(function: Callable, config) -> multiprocessing.Process:
    """A process that runs a training command; its imports are done already."""
    process = _SERVER.Process(target=_run, args=(function, config))
    process.start()
    return process


def _run(function: Callable, config) -> None:
    function(config)


def kill_when(process: multiprocessing.Process, ready: Callable[[], bool], limit: float = 120) -> bool:
    """SIGKILL a process as soon as `ready` says so; False if it ended before."""
    end = time.monotonic() + limit
    while process.is_alive() and time.monotonic() < end:
        if ready():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            return process.exitcode == -signal.SIGKILL
        time.sleep(0.001)
    process.join(1)
    assert process.exitcode == 0, f"ended with {process.exitcode}"
    return False


def command(*args, processes: int = 1, folder: Path | None = None, environment: dict | None = None) -> subprocess.CompletedProcess:
    """Run `bigr` with arguments as a user does, in one process or several."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        launcher += ["torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port), "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    line = [*launcher, "bigr_features.cli", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=folder, timeout=300, check=False)
