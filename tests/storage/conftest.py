"""Every test of this room runs twice: as the system is, and as if folders could not be opened (Windows)."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, params=["folders open", "folders do not open", "folders do not flush"])
def _folders(request, monkeypatch):
    if request.param == "folders open":
        return
    opened, flushed = os.open, os.fsync

    def refuse(path, *args, **kwargs):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **kwargs)

    def refuse_flush(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(22, "Invalid argument")
        flushed(handle)

    if request.param == "folders do not open":
        monkeypatch.setattr(os, "open", refuse)
    else:
        monkeypatch.setattr(os, "fsync", refuse_flush)
