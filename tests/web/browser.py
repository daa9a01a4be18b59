"""Chromium on a page that is served from this process, and what it complained about."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
import uvicorn

from bigr_features.web.app import Page
from bigr_features.web.server import bound

from .pages import TOKEN

NAMES = ("chromium", "chromium-browser", "google-chrome")
WATCH = "document.addEventListener('securitypolicyviolation', (e) => console.error('CSP ' + e.violatedDirective + ' ' + e.blockedURI));"


def chromium() -> str:
    """Path of the system's Chromium; skips where there is none, unless BIGR_BROWSER_REQUIRED is set."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        assert not os.environ.get("BIGR_BROWSER_REQUIRED"), (
            "BIGR_BROWSER_REQUIRED is set, but there is no Chromium (apt-get install chromium)"
        )
        pytest.skip(f"no {', '.join(NAMES)} on this machine (apt-get install chromium)")
    return found


class Served:
    """A page on a port of this machine, until `close`."""

    def __init__(self, page: Page):
        listener, port = bound("127.0.0.1", 0)
        self.page, self.home = page, f"http://127.0.0.1:{port}"
        self.address = f"{self.home}/?token={TOKEN}"
        self._server = uvicorn.Server(uvicorn.Config(page.app, log_level="error", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server and its jobs."""
        self.page.worker.close()
        self._server.should_exit = True
        self._thread.join(20)


class Browser:
    """A window; `complaints` are errors of the console, reports of the policy, requests to other hosts, and failed ones."""

    def __init__(self, playwright, served: Served, **context):
        self.browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        self.served, self.complaints = served, []
        context = {"viewport": {"width": 1200, "height": 900}, **context}
        self.context = self.browser.new_context(**context)
        self.context.set_default_timeout(60_000)
        self.window = self.context.new_page()
        self.window.add_init_script(WATCH)
        self.window.on("console", lambda line: line.type in ("error", "warning") and self.complaints.append(line.text))
        self.window.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.window.on("request", self._asked)

    def _asked(self, request) -> None:
        if not request.url.startswith((self.served.home, "data:", "blob:")):
            self.complaints.append(f"a request to {request.url}")

    def open(self, part: str = "") -> object:
        """The page, at a part of its address."""
        self.window.goto(self.served.address + part)
        return self.window

    def close(self) -> None:
        """Close the window."""
        self.browser.close()


def file_of(folder: Path, content: bytes) -> Path:
    """A picture on the disk."""
    path = folder / "dropped.png"
    path.write_bytes(content)
    return path
