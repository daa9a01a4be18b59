"""Promises about what goes wrong around a command: full disks, caches, terminals and names are answered in one line."""

from __future__ import annotations

import errno
import io
import os
import re
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bigr_features.cli import main
from bigr_features.cli.errors import explained
from bigr_features.functional.printing import one_line
from bigr_features.storage import atomic

from ..gallery.small import picture


@dataclass
class Settings:
    out: Path = Path("somewhere/store")


FULL = {
    "device": OSError(errno.ENOSPC, "No space left on device"),
    "limit": OSError(errno.EFBIG, "File too large"),
    "quota": OSError(errno.EDQUOT, "Disk quota exceeded"),
    "sqlite": sqlite3.OperationalError("database or disk is full"),
    "torch": RuntimeError("[enforce fail at inline_container.cc:778] . PytorchStreamWriter failed writing file data/1"),
}


@pytest.mark.parametrize("kind", FULL)
@pytest.mark.parametrize(
    ("command", "then"), [("extract", "same command goes on"), ("train", "--resume"), ("plot", "give the same command again")]
)
def test_a_full_disk_names_the_place_and_how_to_go_on(kind, command, then):
    text = explained(FULL[kind], command, Settings())
    assert "no room on the disk" in text
    assert "somewhere/store" in text
    assert then in text


def test_a_full_disk_behind_another_error_names_its_file():
    error = RuntimeError("shard 3 failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "deep/file.npy")
    assert "while writing deep/file.npy" in explained(error, "extract", Settings())


def test_an_error_of_a_value_is_left_as_it_is():
    assert explained(ValueError("the file too large to guess"), "extract", Settings()) == "the file too large to guess"


def test_an_error_without_words_says_so():
    assert "no text; set BIGR_TRACEBACK=1" in explained(FileNotFoundError(), "extract")


def test_a_hub_cache_that_cannot_be_written_names_its_variable():
    error = PermissionError(errno.EACCES, "Permission denied", "/home/x/.cache/huggingface/hub/models--a")
    assert "set HF_HOME to a folder that can be written" in explained(error)
    assert "HF_HOME" not in explained(PermissionError(errno.EACCES, "Permission denied", "/data/images/a.png"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EIO])
def test_a_write_that_fails_names_its_file(tmp_path, monkeypatch, number):
    def fail(self, content):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "a.npy"))) as failed:
        atomic.write_atomically(tmp_path / "a.npy", b"x")
    assert failed.value.errno == number
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A gallery of a picture in a folder of Chinese characters, one with a byte that is no UTF-8, and one of a class with an accent."""
    place = tmp_path_factory.mktemp("names")
    for number, name in enumerate(["猫/a.png", "vélo/b.png", os.fsdecode(b"im\xfe/c.png")]):
        (place / "d" / name).parent.mkdir(parents=True)
        picture(number).save(place / "d" / name)
    args = ["--model", "bigr_nano.fashion_mnist", "--device", "cpu", "--threads", "1"]
    main(["index", "--source", str(place / "d"), "--out", str(place / "g"), *args])
    return place


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "latin-1"])
def test_names_that_a_terminal_cannot_show_are_escaped(gallery, monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    main(["search", str(gallery / "g"), str(gallery / "d" / "猫" / "a.png"), "--k", "3", "--device", "cpu"])
    sys.stdout.flush()
    text = raw.getvalue().decode(encoding)
    assert ("猫" if encoding == "utf-8" else r"\u732b") in text
    assert r"im\udcfe" in text
    assert text.count("\n") == 4


@pytest.mark.parametrize("ending", ["html", "png"])
def test_sheets_escape_names_that_are_not_utf8(gallery, tmp_path, ending):
    path = tmp_path / f"s.{ending}"
    query = gallery / "d" / "vélo" / "b.png"
    main(["search", str(gallery / "g"), str(query), "--k", "3", "--sheet", str(path), "--device", "cpu"])
    if ending == "png":
        with Image.open(path) as sheet:
            assert sheet.width > 100
        return
    text = path.read_text("utf-8")
    assert r"im\udcfe" in text
    assert "%FE/c.png" in text  # the link has the bytes of the name
    assert "猫" in text


def test_a_message_is_one_line_whatever_a_name_holds(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["extract", "--model", "no\nsuch", "--source", "sample:digits", "--out", str(tmp_path / "s")])
    assert one_line(ended.value.code) == ended.value.code


def test_queries_of_another_model_hear_what_made_the_gallery(gallery):
    for more in (["--model", "resnet18", "--random"], ["--layer", "99"], ["--model", "test_vit", "--random"], ["--layer", "2"]):
        with pytest.raises(SystemExit, match=r"was made with bigr_nano\.fashion_mnist \(pretrained weights\), block6_mean"):
            main(["search", str(gallery / "g"), str(gallery / "d" / "猫" / "a.png"), "--k", "1", "--device", "cpu", *more])


def test_many_queries_are_read_in_parts(gallery, monkeypatch, capsys):
    monkeypatch.setattr("bigr_features.features.embedder.QUERIES_AT_A_TIME", 2)
    queries = [str(path) for path in sorted((gallery / "d").rglob("*.png"))]
    main(["search", str(gallery / "g"), *queries, "--k", "1", "--device", "cpu"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("   1")]
    assert len(lines) == 3
    assert all(np.isclose(float(line.split()[1]), 1) for line in lines)
