"""What tests run in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
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
    if processes == 1:
        return program("bigr_features.cli", *args, folder=folder, environment=environment)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port), "-m"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    line = [*launcher, "bigr_features.cli", *map(str, args)]
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=folder, timeout=300, check=False)


def program(name: str | Path, *args, folder: Path | None = None, environment: dict | None = None) -> subprocess.CompletedProcess:
    """Run `python file args` or `python -m module args` as a user does, but in a process whose heavy imports are done already."""
    line = [str(name), *map(str, args)]
    with tempfile.TemporaryDirectory() as said:
        out, err = (Path(said) / name for name in ("out", "err"))
        surroundings = {**os.environ, **(environment or {})}
        process = start(_run_program, line, Path(folder or Path.cwd()), surroundings, out, err)
        process.join(900)
        if process.is_alive():
            process.kill()
            process.join()
        return subprocess.CompletedProcess(line, process.exitcode, out.read_text(), err.read_text())


def _run_program(line: list[str], folder: Path, environment: dict, out: Path, err: Path) -> None:
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = line
    try:
        if line[0].endswith(".py"):
            sys.path.insert(0, str(Path(line[0]).parent))
            runpy.run_path(line[0], run_name="__main__")
        else:
            runpy.run_module(line[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        sys.exit(1 if isinstance(end.code, str) else end.code)
