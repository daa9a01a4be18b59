"""Promise: `bigr serve` prints an address that works, says what it does with ports and hosts, and ends its jobs with Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from bigr_features.cli import main
from bigr_features.web.server import address_of, bound, hosts_of, new_token


def test_a_taken_port_gives_the_next_free_one():
    first, port = bound("127.0.0.1", 0)
    second, other = bound("127.0.0.1", port)
    assert port < other <= port + 50
    for listener in (first, second):
        listener.close()
    with pytest.raises(OSError, match="no address of this machine"):
        bound("192.0.2.1", 0)


def test_addresses_and_hosts():
    assert address_of("127.0.0.1", 80, "x") == "http://127.0.0.1:80/?token=x"
    assert address_of("::1", 80, "x") == "http://[::1]:80/?token=x"
    assert address_of("0.0.0.0", 80, "x") == f"http://{socket.gethostname()}:80/?token=x"
    assert hosts_of("127.0.0.1") == ("127.0.0.1", "localhost", "::1")
    assert hosts_of("0.0.0.0") == ("*",)
    assert "10.0.0.7" in hosts_of("10.0.0.7")
    assert len({new_token() for _ in range(9)}) == 9


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nothing_here"], "no gallery"),
        (["--port", "70000"], "0..65535"),
        (["--model", "none"], "nothing to show"),
        (["--model", "resnet18"], "is no generator"),
        (["--model", "bigr_nano_bin_ar"], "no weights of its own"),
        (["--weights", "not_here.safetensors"], "not_here.safetensors is not there"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(args, words, capsys):
    with pytest.raises(SystemExit) as end:
        main(["serve", *args])
    assert words in str(end.value)
    assert "\n" not in str(end.value)


def test_without_the_extra_its_install_command(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("bigr_features.web")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr("bigr_features.web", None, raising=False)
    with pytest.raises(SystemExit, match=re.escape('pip install "bigr-features[web]"')):
        main(["serve"])


def test_a_server_from_its_start_to_ctrl_c(gallery_folder):
    command = [sys.executable, "-m", "bigr_features.cli", "serve", str(gallery_folder), "--threads", "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    ) as server:
        try:
            address = server.stdout.readline().strip()
            home, token = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", address).groups()
            headers = {"X-Bigr-Token": token}
            with urllib.request.urlopen(urllib.request.Request(f"{home}/api/about", headers=headers)) as answer:
                assert json.load(answer)["galleries"][0]["name"] == "clothes"
            drawing = json.dumps({"kind": "draw", "label": 1, "count": 4, "steps": 64}).encode()
            with urllib.request.urlopen(urllib.request.Request(f"{home}/api/jobs", drawing, headers)) as answer:
                job = json.load(answer)["id"]
            stream = urllib.request.urlopen(urllib.request.Request(f"{home}/api/jobs/{job}/events", headers=headers))
            while b'"step"' not in stream.readline():
                pass
            server.send_signal(signal.SIGINT)
            _, said = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 130
    assert "the server has ended, 1 job was ended with it" in said
    assert "Traceback" not in said
