"""Promise: what does not come from the page, is too large, too slow or nonsense is refused, in one sentence, and the server goes on."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from urllib.parse import quote

import pytest
from PIL import Image
from starlette.testclient import TestClient

from bigr_features.gallery import Gallery
from bigr_features.web.guard import HEADERS, Guard
from bigr_features.web.limits import Limits

from .pages import HOME, TOKEN, client_of, make_page, png


@pytest.fixture
def stranger(page):
    """Somebody without the token."""
    return TestClient(page.app, base_url=HOME, raise_server_exceptions=False)


def refused(answer, status: int, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("path", ["/", "/app.js", "/api/about", "/api/search?gallery=clothes", "/api/jobs", "/nothing"])
def test_nothing_without_the_token(stranger, path):
    refused(stranger.get(path), 403, "token")
    refused(stranger.get(path, headers={"X-Bigr-Token": "wrong"}), 403, "token")
    refused(stranger.get(path, headers={"Cookie": "bigr_00000000=wrong"}), 403, "token")


def test_the_address_gives_a_cookie_that_is_enough(page):
    browser = TestClient(page.app, base_url=HOME)
    first = browser.get(f"/?token={TOKEN}")
    assert first.status_code == 200
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert browser.get("/api/about").status_code == 200
    refused(TestClient(page.app, base_url=HOME).get(f"/api/about?token={TOKEN}"), 403, "token")  # it counts in the page's address only


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "[", "", "localhost.evil"])
def test_foreign_host(client, host):
    refused(client.get("/api/about", headers={"Host": host}), 421, "not called")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:99"])
def test_own_host(client, host):
    assert client.get("/api/about", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "file://", "https://127.0.0.1.evil"])
def test_foreign_origin(client, origin):
    for ask in (client.get, client.post):
        refused(ask("/api/jobs", headers={"Origin": origin}), 403, "another page")


def test_a_post_by_cookie_must_come_from_the_page(page):
    browser = TestClient(page.app, base_url=HOME)
    browser.get(f"/?token={TOKEN}")
    refused(browser.post("/api/jobs", json={}), 403, "Origin")
    refused(browser.post("/api/jobs", json={}, headers={"Sec-Fetch-Site": "cross-site"}), 403, "another page")
    refused(browser.get("/api/about", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}), 403, "another page")
    refused(browser.post("/api/jobs", json={}, headers={"Origin": HOME}), 400, "no kind of job")


def test_every_answer_has_the_policy(client, stranger):
    for answer in (client.get("/"), client.get("/api/about"), client.get("/nothing"), stranger.get("/")):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    assert "unsafe" not in HEADERS["content-security-policy"]
    assert client.get("/api/about").headers["cache-control"] == "no-store"


TRICKS = ["../../etc/passwd", "/etc/passwd", "..%2f..%2fetc%2fpasswd", "....//etc/passwd", "C:\\windows\\win.ini", "file:///etc/passwd",
          "\x00", "sample:fashion_mnist:0", "' OR 1=1 --", "%", "a" * 5000, "<script>alert(1)</script>", "\u202egnp.exe"]  # fmt: skip


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_in_ids_and_names(client, trick):
    for path in ("thumbnail", "image", "item", "why"):
        answer = client.get(f"/api/{path}", params={"gallery": "clothes", "id": trick, "like": trick, "hit": trick})
        assert answer.status_code in (400, 404), answer.text
        refused(answer, answer.status_code)
        refused(client.get(f"/api/{path}", params={"gallery": trick, "id": "x", "like": "x", "hit": "x"}), answer.status_code)
    for path in ("/api/pictures/{}", "/api/jobs/{}/events", "/{}"):
        assert client.get(path.format(quote(trick[:50], safe=""))).status_code in (404, 405)
    for ask in ({"like": trick}, {"sent": trick}, {"class": trick}, {"among": trick}, {"k": trick}, {"metric": trick, "like": "x"}):
        answer = client.get("/api/search", params={"gallery": "clothes", **ask})
        refused(answer, answer.status_code)
        assert answer.status_code in (400, 404)


def test_static_paths_do_not_reach_the_disk(client):
    for path in ("/app.py", "/../app.py", "/%2e%2e/app.py", "/page/app.js", "//etc/passwd", "/static/../../x"):
        assert client.get(path).status_code == 404


def send(app, headers: dict, messages: list, path: str = "/api/pictures", method: str = "POST") -> tuple[int, bytes, int]:
    """Talk to the application as a server does: status, body, and how many messages of the body it took."""
    taken, sent = 0, []

    async def receive():
        nonlocal taken
        if taken == len(messages):
            await asyncio.sleep(3600)
        taken += 1
        return messages[taken - 1]

    async def answer(message):
        sent.append(message)

    pairs = {"host": "127.0.0.1", "x-bigr-token": TOKEN, **headers}
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
             "headers": [(a.encode(), b.encode()) for a, b in pairs.items()], "http_version": "1.1", "scheme": "http"}  # fmt: skip
    asyncio.run(app(scope, receive, answer))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:]), taken


def test_a_gigabyte_is_refused_before_it_is_read(page):
    status, body, taken = send(page.app, {"content-length": str(1 << 30)}, [{"type": "http.request", "body": b"x", "more_body": True}])
    assert (status, taken) == (413, 0)
    assert "1073741824 bytes" in json.loads(body)["error"]


def test_a_body_without_a_length_is_cut(page):
    piece = {"type": "http.request", "body": b"x" * (1 << 20), "more_body": True}
    status, _body, taken = send(page.app, {}, [piece] * 1000)
    assert status == 413
    assert taken == 33
    for length in ("-5", "abc", "1e9", "9" * 400):
        assert send(page.app, {"content-length": length}, [])[0] == 413


def test_a_slow_client_is_given_up():
    page = make_page(model=None, limits=Limits(body_seconds=0.05))
    status, body, _taken = send(page.app, {}, [{"type": "http.request", "body": b"x", "more_body": True}])
    assert status == 408
    assert "0.05 s" in json.loads(body)["error"]


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bomb(100_000, 100_000), "more than"),
        (bomb(10_000, 9_000), "10000 x 9000 pixels"),
        (bomb(100, 100), "cannot be read"),
        (b"", "empty"),
        (b"GIF89a", "no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
        (b"\x00" * 100_000, "no picture"),
        (png(Image.new("RGB", (40, 40)))[:-40], "cannot be read"),
    ],
)
def test_bombs_and_files_that_are_no_pictures(client, content, words):
    refused(client.post("/api/pictures", content=content), 400, words)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 50_000, b"\xff\xfe", b'{"kind": ["draw"]}', b'{"kind": "eval"}']
)
def test_malformed_json(client, body):
    refused(client.post("/api/jobs", content=body), 400)
    refused(client.post("/api/export", content=body), 400)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"text": "a" * 10_000}, "10,000 characters"),
        ({"text": 5}, "expected a text"),
        ({"label": 10}, "0..9"),
        ({"label": "Bag"}, "0..9"),
        ({"label": True}, "0..9"),
        ({"label": 1e300}, "0..9"),
        ({"seed": -1}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"count": 1000}, "1..4"),
        ({"steps": 65}, "1..64"),
        ({"steps": 0}, "1..64"),
        ({"guidance": 0.5}, "guidance_scale"),
        ({"guidance": "1"}, "guidance"),
        ({"order": "x"}, "order"),
        ({"text": "a bag"}, "takes no text"),
        ({"sent": "nothing", "mask": [1]}, "drop it again"),
        ({"gallery": "clothes", "id": "../x", "mask": [1]}, "no item"),
    ],
)
def test_drawings_that_make_no_sense(client, asked, words):
    answer = client.post("/api/jobs", json={"kind": "draw", **asked})
    refused(answer, answer.status_code, words)
    assert answer.status_code in (400, 404)


@pytest.mark.parametrize("mask", [None, [], list(range(64)), [64], [-1], [1, 1], [True], ["1"], [1.0], "all", {"0": 1}, [[0] * 8] * 8])
def test_masks_of_wrong_size(client, gallery_folder, mask):
    with Gallery(gallery_folder) as gallery:
        item = str(gallery.ids[0])
    answer = client.post("/api/jobs", json={"kind": "draw", "gallery": "clothes", "id": item, "mask": mask, "steps": 1})
    refused(answer, 400, "paint" if mask == [] else "no token is known" if mask == list(range(64)) else "mask")


def test_fifty_streams_left_open():
    """Streams beyond the most are refused, and the places of those that were left are free again."""
    page = make_page(model=None, limits=Limits(streams=3))
    job = page.worker.submit("x", lambda job: job.stop.wait(60) or {})
    scope_of = f"/api/jobs/{job.id}/events"

    async def many():
        left, statuses = [], []
        for _ in range(50):
            gone, started = asyncio.Event(), asyncio.Event()

            async def receive(gone=gone):
                await gone.wait()
                return {"type": "http.disconnect"}

            async def answer(message, started=started):
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                elif message.get("body"):
                    started.set()

            scope = {"type": "http", "method": "GET", "path": scope_of, "raw_path": b"", "query_string": b"", "root_path": "",
                     "headers": [(b"host", b"localhost"), (b"x-bigr-token", TOKEN.encode())], "http_version": "1.1"}  # fmt: skip
            task = asyncio.create_task(page.app(scope, receive, answer))
            await started.wait()
            left.append((task, gone))
        for _, gone in left:
            gone.set()
        await asyncio.gather(*(task for task, _ in left), return_exceptions=True)
        return statuses

    statuses = asyncio.run(many())
    assert sorted(statuses) == [200] * 3 + [503] * 47
    assert page.worker.streams == 0
    assert page.worker.close() == 1


def test_names_with_script_and_control_characters(tmp_path):
    import numpy as np

    folder = tmp_path / "<img src=x onerror=alert(1)>"
    names = [
        "/x/<script>alert(1)</script>.png",
        "/x/a\nb\x1b[31m.png",
        "/x/=cmd|' '!A0",
        "/x/\u202egpj.exe",
        "/x/'\"&.png",
        "/x/\udcff.png",
    ]
    with Gallery.create(folder, class_names=["<b>bold</b>", "a\x00b"]) as gallery:
        gallery.add(np.eye(6, dtype=np.float32), ids=[f"<i>{i}" for i in range(6)], labels=np.array([0, 1] * 3), sources=names)
    client = client_of(make_page(folder, model=None))
    about = client.get("/api/about")
    assert about.headers["content-type"] == "application/json"
    assert [one["name"] for one in about.json()["galleries"][0]["classes"]] == ["<b>bold</b>", "a\\x00b"]
    hits = client.get("/api/search", params={"gallery": folder.name}).json()["hits"]
    assert [hit["file"] for hit in hits] == [
        "script>.png", "a\\nb\\x1b[31m.png", "=cmd|' '!A0", "\\u202egpj.exe", "'\"&.png", "\\udcff.png",
    ]  # fmt: skip
    table = client.post("/api/export", json={"gallery": folder.name, "as": "csv", "ids": [hit["id"] for hit in hits]})
    assert table.text.count("\r\n") == 7
    assert not any(cell.startswith(("=", "+", "@")) for cell in table.text.replace('"', "").replace("\r\n", ",").split(","))


def test_no_other_methods_and_no_sockets(client, page):
    for method in ("PUT", "PATCH", "TRACE", "OPTIONS", "CONNECT"):
        refused(client.request(method, "/api/about"), 405)
    assert client.post("/api/about").status_code == 405
    sent = []

    async def answer(message):
        sent.append(message)

    asyncio.run(page.app({"type": "websocket", "path": "/", "headers": []}, None, answer))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_guard_of_all_addresses_takes_numbers_but_no_foreign_names():
    guard = Guard(None, TOKEN, ("*",))
    assert [guard._is_own(name) for name in ("192.168.1.5", "::1", "localhost", "evil.example", "")] == [True, True, True, False, False]


def test_the_server_goes_on(client):
    """After all of that."""
    assert client.get("/api/search", params={"gallery": "clothes", "k": 3}).status_code == 200
