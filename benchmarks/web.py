"""How fast is the page of `bigr serve`, and does its server stay small? A gallery of many small pictures, over HTTP and in Chromium.

Pictures are those of the sample, again and again; their features are those of bigr_nano with noise, so that no two are alike. The server is
the command itself, in a process of its own.   n pictures
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import psutil
import timm
from PIL import Image
from retrieval_scale import noisy

import bigr_features
from bigr_features import Gallery
from bigr_features.data import load_sample
from bigr_features.data.pixels import thumbnail_of
from bigr_features.evaluate.reports import environment, write_json
from bigr_features.features.embedder import Embedder
from bigr_features.nearest.settings import GallerySettings

MODEL = "bigr_nano.fashion_mnist"
PACKAGES = ("bigr-features", "torch", "timm", "numpy", "starlette", "uvicorn", "playwright")
PART = 10_000
QUERIES = 60
PAN_SECONDS = 4
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000, help="pictures in the gallery")
    parser.add_argument("--images", type=int, default=1000, help="images of the sample that they are made of")
    parser.add_argument("--requests", type=int, default=2000, help="requests over which memory is watched")
    parser.add_argument("--browser", action=argparse.BooleanOptionalAction, default=True, help="measure in Chromium too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gallery = Path(folder) / "pictures"
        make(gallery, args)
        result = {"pictures": args.count, "model": MODEL, "seed": args.seed, "page_bytes": page_bytes()}
        result["load_average_before"] = round(os.getloadavg()[0], 1)  # of other programs on this machine
        command = [sys.executable, "-m", "bigr_features.cli", "serve", str(gallery), "--threads", str(args.threads)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            result |= measured(Client(server.stdout.readline().strip()), server.pid, gallery, args)
        finally:
            server.terminate()
            server.wait(30)
    for name, value in result.items():
        print(f"{name:>28}  {value}")
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "web.json", {**result, "environment": environment(PACKAGES)})
    print(f"wrote {args.out / 'web.json'}")


def make(folder: Path, args) -> None:
    """A gallery of `count` pictures that says which model made it."""
    rng = np.random.default_rng(args.seed)
    sample = load_sample("fashion_mnist")
    images = [Image.fromarray(pixels) for pixels in sample.train_images[: args.images]]
    embedder = Embedder(timm.create_model(MODEL, pretrained=True, num_classes=0).eval(), GallerySettings(), layer=6, name=MODEL)
    base = np.concatenate([embedder.embed_images(images[i : i + 64])["features"] for i in range(0, len(images), 64)])
    thumbnails = [thumbnail_of(image, 128) for image in images]
    with Gallery.create(folder, index="flat", embedding=embedder.description, class_names=sample.class_names) as gallery:
        for start in range(0, args.count, PART):
            chosen = rng.integers(len(images), size=min(PART, args.count - start))
            gallery.add(
                noisy(base, chosen, 0.3 * base.std(0), rng),
                ids=[f"{start + i:08d}" for i in range(len(chosen))],
                labels=sample.train_labels[chosen],
                sources=[f"picture_{start + i:08d}.png" for i in range(len(chosen))],
                thumbnails=[thumbnails[i] for i in chosen],
            )


class Client:
    """One connection that knows the token."""

    def __init__(self, address: str):
        self.address = address
        host, token = re.fullmatch(r"http://([^/]+)/\?token=(\S+)", address).groups()
        self.connection, self.headers = http.client.HTTPConnection(host), {"X-Bigr-Token": token}

    def ask(self, path: str, body: bytes | None = None, **query) -> bytes:
        """The answer; RuntimeError for an error."""
        method = "GET" if body is None else "POST"
        self.connection.request(method, f"{path}?{urlencode(query)}", body, self.headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{path}: {content.decode()}")
        return content


def measured(client: Client, process: int, gallery: Path, args) -> dict:
    """Seconds of queries and of the plot of clusters, and memory, by HTTP; then in a browser."""
    rng = np.random.default_rng(args.seed + 1)

    def seconds(work) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def query() -> None:
        client.ask("/api/search", gallery="pictures", like=f"{rng.integers(args.count):08d}", k=60)

    first = seconds(query)  # reads the vectors into memory
    before = psutil.Process(process).cpu_times()
    by_id = [seconds(query) for _ in range(QUERIES)]
    after = psutil.Process(process).cpu_times()
    own = (after.user + after.system - before.user - before.system) / QUERIES
    with Gallery(gallery) as opened:
        sent = json.loads(client.ask("/api/pictures", opened.thumbnail("00000000")))["id"]
    loading = seconds(lambda: client.ask("/api/search", gallery="pictures", sent=sent, k=60))
    by_picture = [seconds(lambda: client.ask("/api/search", gallery="pictures", sent=sent, k=60)) for _ in range(QUERIES)]
    memory = watch_memory(client, process, args, rng)  # before the projection, whose peak would hide what grows
    asked = {"gallery": "pictures", "method": "pca", "items": 10_000_000}
    job = json.loads(client.ask("/api/jobs", json.dumps({"kind": "clusters", **asked}).encode()))["id"]
    projection = seconds(lambda: client.ask(f"/api/jobs/{job}/events"))
    points = [seconds(lambda: client.ask("/api/clusters/points", **asked)) for _ in range(5)]
    result = {
        "first_query_seconds": round(first, 4),
        "query_by_id_seconds": spread(by_id),
        "query_by_id_cpu_seconds": round(own, 4),
        "first_query_by_picture_seconds": round(loading, 4),
        "query_by_picture_seconds": spread(by_picture),
        "projection_pca_seconds": round(projection, 2),
        "points_seconds": spread(points),
        "memory_mb_by_requests": memory,
    }
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None) if args.browser else None
    return result | ({"browser": in_browser(chromium, client.address)} if chromium else {})


def watch_memory(client: Client, process: int, args, rng) -> dict[str, float]:
    """Resident memory of the server in MB after numbers of requests: searches, thumbnails, sent pictures and lists in turn."""
    seen, server = {}, psutil.Process(process)
    marks = {round(share * args.requests) for share in (0.05, 0.25, 0.5, 0.75, 1)}
    for number in range(1, args.requests + 1):
        item = f"{rng.integers(args.count):08d}"
        kind = number % 4
        if kind == 0:
            client.ask("/api/search", gallery="pictures", like=item, k=60)
        elif kind == 1:
            client.ask("/api/thumbnail", gallery="pictures", id=item)
        elif kind == 2:
            client.ask("/api/pictures", thumbnail_of(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), 64))
        else:
            client.ask("/api/search", gallery="pictures", **{"class": int(rng.integers(10))})
        if number in marks:
            seen[str(number)] = round(server.memory_info().rss / 1e6, 1)
    return seen


def in_browser(chromium: str, address: str) -> dict:
    """What somebody at the window waits for, and frames a second while the plot is dragged; headless, without a graphics card."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.set_default_timeout(120_000)
        window.goto(address)
        window.locator("#hits li").nth(59).wait_for()
        waited = [window.evaluate(CLICK) for _ in range(10)]
        scatter = [window.evaluate(SCATTER) for _ in range(3)]
        before = cpu_of_browser()
        frames = window.evaluate(PAN, PAN_SECONDS * 1000)
        own = (cpu_of_browser() - before) / max(1, frames["frames"])
        version = browser.version
        browser.close()
    return {
        "version": version,
        "click_to_results_seconds": spread([value / 1000 for value in waited]),
        "scatter_first_drawn_seconds": spread([value / 1000 for value in scatter]),
        "panning_frames_per_second": round(1000 * frames["frames"] / frames["milliseconds"], 1),
        "panning_cpu_seconds_per_frame": round(own, 4),
    }


def cpu_of_browser() -> float:
    """CPU seconds of all processes that this one has begun, the server left out: what other programs take does not count."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = child.cpu_times()
            total += (times.user + times.system) * ("serve" not in child.cmdline())
    return total


# milliseconds from a click on a hit until the hits of the new query stand there, and a frame shows them
CLICK = """() => new Promise((done) => {
  const list = document.getElementById("hits"), start = performance.now();
  const faces = [...list.querySelectorAll(".face")];
  new MutationObserver((_, watching) => {
    watching.disconnect();
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
  }).observe(list, { childList: true });
  faces[Math.floor(Math.random() * 50)].click();
})"""
# milliseconds from asking for the view until its points are drawn for the first time
SCATTER = """() => new Promise((done) => {
  const box = document.getElementById("plots");
  location.hash = "#search";
  setTimeout(() => {
    const start = performance.now();
    new MutationObserver((_, watching) => {
      const canvas = box.querySelector("canvas");
      if (!canvas) return;
      watching.disconnect();
      requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
    }).observe(box, { childList: true });
    location.hash = "#clusters?gallery=pictures&method=pca&items=10000000";
  }, 500);
})"""
# frames a second while the plot is dragged to and fro
PAN = """(length) => new Promise((done) => {
  const canvas = document.querySelector("#plots canvas"), frame = canvas.getBoundingClientRect();
  canvas.setPointerCapture = () => {};
  const place = (x) => ({ clientX: frame.left + x, clientY: frame.top + 300, pointerId: 1 });
  const send = (kind, x) => canvas.dispatchEvent(new PointerEvent(kind, place(x)));
  send("pointerdown", 400);
  const start = performance.now();
  let frames = 0;
  const next = (now) => {
    if (now - start > length) { send("pointerup", 400); done({ frames, milliseconds: now - start }); return; }
    frames += 1;
    send("pointermove", 400 + 150 * Math.sin(now / 300));
    requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})"""


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    values = np.array(seconds)
    return {
        "median": round(float(np.median(values)), 4),
        "p95": round(float(np.percentile(values, 95)), 4),
        "max": round(float(values.max()), 4),
    }


def page_bytes() -> int:
    """Bytes of all files of the page."""
    return sum(path.stat().st_size for path in (Path(bigr_features.__file__).parent / "web" / "page").iterdir())


if __name__ == "__main__":
    main()
