"""The HTML page: one file that asks nothing of the network, shows an image on hover, and runs no text that it is given."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from bigr_features.plots import write_html
from bigr_features.plots.html import data_uri, thumbnails_of

from .browser import CHROMIUM, visit

pytest.importorskip("bokeh")

HOSTILE = "</script><script>window.attacked=true</script><img src=x onerror='window.attacked=true'>"
POINTS = np.random.default_rng(0).normal(size=(60, 2))
LABELS = np.arange(60) % 12
NAMES = ["zero", HOSTILE, *map(str, range(2, 12))]
IMAGES = np.random.default_rng(1).integers(0, 255, size=(60, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    texts = {"title": HOSTILE, "caption": HOSTILE, "item_names": [HOSTILE] * 60}
    return write_html(tmp_path_factory.mktemp("page") / "plot.html", POINTS, LABELS, class_names=NAMES, images=IMAGES, **texts)


def test_the_page_is_one_file_without_addresses(page):
    text = page.read_text()
    assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert "cdn.bokeh.org" not in text.split("<body>")[1]
    assert "<script>window.attacked" not in text
    assert len(set(re.findall(r"data:image/webp;base64,[\w+/=]+", text))) == 60
    assert [path.name for path in page.parent.iterdir()] == ["plot.html"]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_a_thumbnail_on_hover_and_asks_nothing_of_the_network(page, tmp_path):
    item = int(np.argmax(POINTS[:, 0] * (LABELS == 1)))  # far to the right, of the class with the hostile name
    seen = visit(page, tmp_path, *POINTS[item])
    assert [url for url in seen["requests"] if not url.startswith("data:")] == [page.as_uri()]
    assert seen["images"] == [data_uri(IMAGES[item])]
    assert any(HOSTILE in text for text in seen["texts"])
    assert seen["attacked"] is False


def test_thumbnails_are_small_and_keep_their_shape():
    large = Image.effect_noise((640, 320), 30)
    kind, _, data = data_uri(large, 48).partition(",")
    assert kind == "data:image/webp;base64"
    assert len(data) < 4000
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (48, 24)
    assert Image.open(io.BytesIO(base64.b64decode(data_uri(IMAGES[0]).partition(",")[2]))).size == (28, 28)


def test_the_number_of_thumbnails_is_bounded_and_stated(tmp_path):
    uris, count = thumbnails_of(IMAGES, 60, 64, 10, 0)
    assert count == 10 == sum(uri != "" for uri in uris)
    text = write_html(tmp_path / "a.html", POINTS, images=lambda i: IMAGES[i], max_thumbnails=10, caption="Some.").read_text()
    assert "10 of 60 items have a thumbnail" in text


def test_an_item_without_an_image_has_no_thumbnail():
    uris, count = thumbnails_of(lambda i: None if i == 1 else IMAGES[i], 3, 64, 10, 0)
    assert count == 2
    assert uris[1] == ""


@pytest.mark.parametrize(
    ("points", "settings", "error", "message"),
    [
        (POINTS[:, :1], {}, ValueError, r"points have shape \(60, 1\)"),
        (POINTS * np.nan, {}, ValueError, "finite"),
        (POINTS, {"images": IMAGES[:5]}, ValueError, "60 points and 5 images"),
        (POINTS, {"labels": LABELS[:5]}, ValueError, "60 points and 5 labels"),
        (POINTS, {"item_names": ["a"]}, ValueError, "60 points and 1 item_names"),
        (POINTS, {"images": IMAGES / 255}, TypeError, "dtype float64"),
        (POINTS, {"thumbnail_size": 1000}, ValueError, "thumbnail_size=1000"),
    ],
)
def test_wrong_input(tmp_path, points, settings, error, message):
    with pytest.raises(error, match=message):
        write_html(tmp_path / "a.html", points, **settings)
    assert not list(tmp_path.iterdir())
