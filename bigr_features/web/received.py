"""Pictures that were dropped on the page: kept in memory by what is in them, the oldest leave."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..data.pixels import THIN, thumbnail_of, without_ends
from ..data.received import received_picture
from ..plots.pictures import read_settings
from .answers import KEPT, Refused, picture, png_of
from .limits import Limits
from .shelf import THUMBNAIL

PATH = "/api/pictures"
SIDE = 1024  # pixels of the longer side that are kept


@dataclass(frozen=True)
class Received:
    """A picture, its small picture, and the settings inside if this library drew it."""

    image: Image.Image
    thumbnail: bytes
    settings: dict | None


class Pictures:
    """The pictures that were sent, by id."""

    def __init__(self, limits: Limits):
        self.limits, self._lock, self._decoding = limits, threading.Lock(), threading.Lock()
        self._kept: OrderedDict[str, Received] = OrderedDict()

    def routes(self) -> list[Route]:
        """Send a picture; see one."""
        return [
            Route(PATH, self.receive, methods=["POST"]),
            Route(PATH + "/{id}", self.show, methods=["GET"]),
        ]

    def __getitem__(self, item: str) -> Received:
        with self._lock:
            if item not in self._kept:
                raise Refused(404, "this picture is not here any more (the server was started anew, or many came after it); drop it again.")
            self._kept.move_to_end(item)
            return self._kept[item]

    def add(self, content: bytes) -> str:
        """Take a picture; ValueError if it is none."""
        with self._decoding:  # one at a time, which bounds memory
            image = without_ends(received_picture(content, "the picture", self.limits.pixels), THIN)
            image.thumbnail((SIDE, SIDE))
        settings = _settings_in(content)
        item = hashlib.sha256(content).hexdigest()[:24]
        with self._lock:
            self._kept[item] = Received(image, thumbnail_of(image, THUMBNAIL), settings)
            self._kept.move_to_end(item)
            while len(self._kept) > self.limits.pictures:
                self._kept.popitem(last=False)
        return item

    async def receive(self, request: Request) -> Response:
        """POST the bytes of a picture."""
        content = await request.body()
        item = await run_in_threadpool(self.add, content)
        kept = self[item]
        return JSONResponse({"id": item, "width": kept.image.width, "height": kept.image.height, "settings": kept.settings})

    async def show(self, request: Request) -> Response:
        """The picture, or with ?small the small one."""
        kept = self[request.path_params["id"]]
        small = "small" in request.query_params
        return picture(kept.thumbnail if small else await run_in_threadpool(png_of, kept.image), KEPT)


def _settings_in(content: bytes) -> dict | None:
    try:
        settings = read_settings(io.BytesIO(content))
    except Exception:  # whatever stands there was written by anybody
        return None
    return settings if isinstance(settings, dict) else None
