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
from multiprocessing import forkserver
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")


def start(function: Callable, *args) -> multiprocessing.Process:
    """A process that runs a function of a test module or a training command; its imports are done already.

    The server starts in the repository's root, also for a test that changed the working directory: another package in the environment may
    have modules called `tests`, which would be the ones it knows.
    """
    here = os.getcwd()
    os.chdir(Path(__file__).parents[1])
    try:
        forkserver.set_forkserver_preload(["tests.preload"])
        forkserver.ensure_running()
    finally:
        os.chdir(here)
    process = _CONTEXT.Process(target=function, args=args)
    process.start()
    return process


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
