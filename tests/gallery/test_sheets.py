"""Promises of result sheets: one file, every text escaped, nothing asked of the network; and of tables for other programs."""

from __future__ import annotations

import io
import json
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from bigr_features import Gallery
from bigr_features.gallery.sheets import results_of
from bigr_features.plots.cards import Card, Result
from bigr_features.plots.result_page import link_to
from bigr_features.plots.result_sheet import write_sheet

from ..plots.browser import CHROMIUM
from .test_gallery import names, packed, vectors

HOSTILE = "<script>document.title='attacked'</script><img src=x onerror=\"document.title='attacked'\">'\"&"


def encoded(number: int, kind: str = "PNG", size: tuple[int, int] = (28, 28)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def gallery(tmp_path):
    gallery = Gallery.create(tmp_path / "g", class_names=[HOSTILE, "b c"])
    pictures = [encoded(i, "JPEG" if i % 2 else "PNG", (60, 20 + 9 * i)) for i in range(6)]
    pictures[3], pictures[4] = b"", b"no picture"
    sources = [str(tmp_path / f"it's {i} & 100%.png") for i in range(5)] + [f"/nowhere/{HOSTILE}.png"]
    for source in sources[:5]:
        open(source, "wb").close()
    gallery.add(vectors(6), ids=[*names(5), HOSTILE], labels=[0, 1, 0, 1, 0, -1], sources=sources, thumbnails=pictures)
    return gallery


@pytest.fixture
def results(gallery):
    hits = gallery.search(vectors(2), k=6)
    return results_of(
        gallery, hits, [Card(encoded(9), (HOSTILE, "query"), "https://example.org/a?b=c&d='"), Card(None, ("mean",))], [0, None]
    )


def test_cards_say_score_class_and_source(gallery, results):
    card = results[0].hits[0]
    assert card.lines == ("1.  1.000", HOSTILE, "it's 0 & 100%.png")
    assert (card.same, results[1].hits[0].same) == (True, None)
    assert {hit.same for hit in results[0].hits} == {True, False, None}
    assert card.picture == gallery.thumbnail("item0000")


def test_the_page_is_one_escaped_file(results, tmp_path):
    path = write_sheet(tmp_path / "out" / "sheet.html", results, title=HOSTILE, note=HOSTILE)
    text = path.read_text()
    assert [found.name for found in path.parent.iterdir()] == ["sheet.html"]
    assert "<script" not in text
    assert 'onerror="' not in text
    assert text.count("&lt;script&gt;") >= 5
    assert len(re.findall(r'src="data:image/(png|jpeg);base64,', text)) == 9  # the query, and 4 of 6 hits twice
    assert "default-src 'none'" in text
    addresses = re.findall(r'(?:href|src)="([^"]+)"', text)
    assert {address.split(":")[0] for address in addresses if not address.startswith("../")} == {"data", "https"}
    assert "../it%27s%200%20%26%20100%25.png" in addresses


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_shows_the_page_and_runs_nothing_in_it(results, tmp_path):
    path = write_sheet(tmp_path / "sheet.html", results, title="A title")
    shot, profile = tmp_path / "shot.png", f"--user-data-dir={tmp_path / 'profile'}"
    browser = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", profile]
    shown = subprocess.run([*browser, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<title>A title</title>" in shown
    assert "<title>attacked" not in shown
    assert shown.count("<figure") == 14
    subprocess.run([*browser, f"--screenshot={shot}", path.as_uri()], capture_output=True, timeout=120, check=True)
    colors = {color for _, color in Image.open(shot).convert("RGB").getcolors(1 << 20)}
    assert {(0, 114, 178), (213, 94, 0)} <= colors  # frames of hits of the query's class and of another


def test_the_contact_sheet_shows_pictures_and_frames(results, tmp_path):
    path = write_sheet(tmp_path / "sheet.png", results, title="A title", note="how", side=60)
    sheet = Image.open(path)
    assert sheet.width >= 7 * 60
    colors = {color for _, color in sheet.getcolors(1 << 20)}
    assert {(0, 114, 178), (213, 94, 0)} <= colors
    assert len(colors) > 1000  # noise of the pictures


@pytest.mark.parametrize(("source", "target"), [
    (None, None), ("", None), ("https://example.org/x.png", "https://example.org/x.png"), ("javascript:alert(1)", None),
    ("/nowhere.png", None), ("data.parquet[train][3]", None), ("x" * 5000, None),
])  # fmt: skip
def test_links_lead_to_files_that_are_there_or_nowhere(tmp_path, source, target):
    assert link_to(source, tmp_path) == target


def test_other_sheets_are_refused(results, tmp_path):
    with pytest.raises(ValueError, match=r"neither \.png nor \.html"):
        write_sheet(tmp_path / "sheet.pdf", results)
    with pytest.raises(ValueError, match="no results"):
        write_sheet(tmp_path / "sheet.png", [])
    with pytest.raises(ValueError, match="give one card a query"):
        results_of(None, np.zeros(2), [Card(None, ())])
    write_sheet(tmp_path / "bare.png", [Result(Card(None, ()), (Card(None, ()),))])


# --------------------------------------------------------------------------------------------------------------------- tables


def test_parquet_holds_everything(gallery, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    gallery.update(["item0002"], metadata=[{"a": 1}])
    gallery.remove(["item0001"])
    gallery.to_parquet(tmp_path / "table.parquet")
    table = pq.read_table(tmp_path / "table.parquet").to_pydict()
    assert table["id"] == gallery.ids.tolist()
    assert table["label"] == [0, 1, 0, None, 0]
    assert table["class_name"][0] == HOSTILE
    assert json.loads(table["metadata"][table["id"].index("item0002")]) == {"a": 1}
    np.testing.assert_array_equal(np.array(table["features"], np.float32), gallery.features)


def test_parquet_holds_bits(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    gallery = Gallery.create(tmp_path / "g", metric="hamming")
    gallery.add(bits=packed(20, 5))
    gallery.to_parquet(tmp_path / "table.parquet")
    table = pq.read_table(tmp_path / "table.parquet").to_pydict()
    assert table["bits"] == [row.tobytes() for row in packed(20, 5)]
    assert "features" not in table


@pytest.mark.parametrize("metric", ["cosine", "hamming"])
def test_lance_finds_what_the_gallery_finds(tmp_path, metric):
    pytest.importorskip("lancedb")
    gallery = Gallery.create(tmp_path / "g", metric=metric)
    rows = {"features": vectors(50)} if metric == "cosine" else {"bits": packed(50)}
    gallery.add(**rows, ids=names(50), labels=np.arange(50) % 5)
    table = gallery.to_lance(tmp_path / "lance")
    ((column, queries),) = rows.items()
    expected = gallery.search(**{column: queries[7:8]}, k=3).ids[0].tolist()
    found = table.search(queries[7], vector_column_name=column).distance_type(metric).limit(3).to_list()
    assert [row["id"] for row in found] == expected
    among = table.search(queries[7], vector_column_name=column).distance_type(metric).where("label = 3", prefilter=True).limit(3).to_list()
    assert [row["id"] for row in among] == gallery.search(**{column: queries[7:8]}, k=3, label=3).ids[0].tolist()
    with pytest.raises(ValueError, match="has a table 'gallery' already"):
        gallery.to_lance(tmp_path / "lance")
