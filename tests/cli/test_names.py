"""Promises of printed names: one line a hit, a message in one line, and no name steers the terminal."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from bigr_features.cli.loudness import _Lines
from bigr_features.cli.main import main
from bigr_features.cli.search import _print_hits

NAME = "a\n   1   1.0000  fake\x1b[31m\u202e\t\r.png"
ESCAPED = r"a\n   1   1.0000  fake\x1b[31m\u202e\t\r.png"


def test_each_hit_is_one_line(capsys):
    gallery = SimpleNamespace(item=lambda item: {"id": item, "class_name": "cat\n2", "label": 0, "source": f"/d/{NAME}"})
    _print_hits(gallery, SimpleNamespace(ids=[["0" * 32, "1" * 32]], scores=[[1.0, 0.5]]), [NAME])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0] == ESCAPED
    assert lines[1].endswith(f"/d/{ESCAPED}")
    assert r"cat\n2" in lines[1]


def test_an_error_is_one_line_whatever_the_name(tmp_path):
    with pytest.raises(SystemExit) as end:
        main(["extract", "--model", "bigr_nano", "--random", "--source", str(tmp_path / NAME), "--out", str(tmp_path / "out")])
    text = str(end.value)
    assert "there is no file or folder" in text
    assert "\n" not in text
    assert "\x1b" not in text


def test_log_messages_keep_their_lines_and_lose_what_steers_a_terminal():
    record = logging.LogRecord("x", logging.INFO, "", 0, "first %s\nsecond", ("\x1b[31m",), None)
    assert _Lines("%(message)s").format(record) == "first \\x1b[31m\nsecond"
