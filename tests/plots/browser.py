"""A page in headless Chromium, driven by its DevTools protocol: which requests it makes, and what it shows where the mouse rests."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")) if path), None)
# images and texts of a document and of all shadow roots in it, which is where bokeh draws
SHOWN = """(() => {
  const images = [], texts = [];
  const walk = (root) => {
    for (const element of root.querySelectorAll('*')) {
      if (element.tagName === 'IMG' && element.naturalWidth > 0 && element.getClientRects().length) images.push(element.src);
      if (element.classList.contains('bk-Tooltip') || element.tagName === 'P' || element.tagName === 'H2') texts.push(
        (element.shadowRoot || element).textContent);
      if (element.shadowRoot) walk(element.shadowRoot);
    }
  };
  walk(document);
  return JSON.stringify({images, texts, attacked: window.attacked === true});
})()"""
CENTER = """(() => {
  const view = Object.values(Bokeh.index)[0] || [...Bokeh.index][0];
  let found = null;
  const walk = (one) => { if (one.model && one.model.type === 'Figure') found = one; (one.child_views || []).forEach(walk); };
  walk(view);
  const frame = found.frame, box = found.canvas_view.el.getBoundingClientRect();
  return JSON.stringify({x: box.x + frame.x_scale.compute(%f), y: box.y + frame.y_scale.compute(%f)});
})()"""


def visit(page: Path, folder: Path, x: float, y: float) -> dict:
    """Open a page, rest the mouse on a data point, and report {"requests", "images", "texts", "attacked"}; a screenshot goes to folder."""
    return asyncio.run(_visit(page, folder, x, y))


async def _visit(page: Path, folder: Path, x: float, y: float) -> dict:
    from tornado.websocket import websocket_connect

    profile = folder / "profile"
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--window-size=1200,900"]
    options += ["--disable-background-networking", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    process = subprocess.Popen([CHROMIUM, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = _wait(lambda: (profile / "DevToolsActivePort").read_text().splitlines()[0])
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            target = next(entry for entry in json.load(answer) if entry["type"] == "page")
        browser = _Session(await websocket_connect(target["webSocketDebuggerUrl"], max_message_size=1 << 28))
        await browser.call("Network.enable")
        await browser.call("Page.enable")
        await browser.call("Page.navigate", url=page.resolve().as_uri())
        place = await browser.until(CENTER % (x, y), lambda found: found is not None)
        for offset in (40, 0):
            await browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=place["x"] + offset, y=place["y"] + offset)
        shown = await browser.until(SHOWN, lambda found: found and found["images"])
        shot = await browser.call("Page.captureScreenshot", format="png")
        import base64

        (folder / "page.png").write_bytes(base64.b64decode(shot["result"]["data"]))
        return {"requests": browser.requests, **(shown or {"images": [], "texts": [], "attacked": None})}
    finally:
        process.terminate()
        process.wait(timeout=30)


class _Session:
    """Commands over one connection, with the addresses the page asked for."""

    def __init__(self, connection):
        self.connection, self.number, self.requests = connection, 0, []

    async def call(self, method: str, **params) -> dict:
        self.number += 1
        await self.connection.write_message(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            message = json.loads(await asyncio.wait_for(self.connection.read_message(), 60))
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("id") == self.number:
                return message

    async def until(self, expression: str, holds, seconds: float = 40):
        """The value of an expression once it holds, or the last one."""
        value, deadline = None, time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = await self.call("Runtime.evaluate", expression=expression)
            result = answer["result"].get("result", {})
            value = json.loads(result["value"]) if result.get("type") == "string" else None
            if holds(value):
                break
            await asyncio.sleep(0.2)
        return value


def _wait(read, seconds: float = 40):
    deadline = time.monotonic() + seconds
    while True:
        try:
            return read()
        except (OSError, IndexError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
