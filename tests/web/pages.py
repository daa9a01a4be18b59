"""A page of a small gallery, and a client that knows its token."""

from __future__ import annotations

import io
import time
from pathlib import Path

import timm
from PIL import Image
from starlette.testclient import TestClient

from bigr_features.cli.drawing import load_generator, names_of_classes
from bigr_features.features.embedder import Embedder
from bigr_features.gallery import Gallery, GallerySettings
from bigr_features.gallery.images import add_images
from bigr_features.web.app import Page

MODEL, TOKEN, HOME = "bigr_nano.fashion_mnist", "t" * 32, "http://127.0.0.1"


def embedder_of(settings: GallerySettings) -> Embedder:
    """The model that ships, to read pictures."""
    model = timm.create_model(MODEL, pretrained=True, num_classes=0).eval()
    return Embedder(model, settings, layer=6, name=MODEL)


def make_gallery(folder: Path, count: int = 40, source: str = "sample:fashion_mnist", **settings) -> Path:
    """A gallery of images of the sample."""
    fields = GallerySettings().replaced(**settings)
    embedder = embedder_of(fields)
    with Gallery.create(folder, fields, embedding=embedder.description) as gallery:
        add_images(gallery, embedder, source, limit=count, progress=False)
    return folder


def make_page(*folders: Path, model: str | None = MODEL, **options) -> Page:
    """A page with the model that ships."""
    options.setdefault("load", (lambda: (load_generator(model, None, "cpu"), names_of_classes(model, None))) if model else None)
    return Page(folders, TOKEN, model=model, **options)


def client_of(page: Page) -> TestClient:
    """A program that knows the token; errors come back as answers, as over the network."""
    return TestClient(page.app, base_url=HOME, headers={"X-Bigr-Token": TOKEN}, raise_server_exceptions=False)


def png(image: Image.Image, **how) -> bytes:
    """An image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **how)
    return buffer.getvalue()


def ended(client: TestClient, job: str, seconds: float = 120) -> dict:
    """Wait for the end of a job; its last event."""
    import json

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states = {one["id"]: one["state"] for one in client.get("/api/jobs").json()}
        if states[job] in ("done", "failed", "cancelled"):
            text = client.get(f"/api/jobs/{job}/events").text
            return json.loads(text.rpartition("data: ")[2])
        time.sleep(0.02)
    raise AssertionError(f"job {job} did not end")


def events_of(client: TestClient, job: str, after: int | None = None) -> list[dict]:
    """All that a job that has ended said, or what it said after an event."""
    import json

    headers = {} if after is None else {"Last-Event-ID": str(after)}
    text = client.get(f"/api/jobs/{job}/events", headers=headers).text
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
