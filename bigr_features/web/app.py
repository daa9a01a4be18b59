"""The application: routes of the views behind the guard, and the files of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..features.embedder import Embedder
from ..gallery import Gallery
from .answers import Refused, on_error
from .clusters import Clusters
from .guard import LOCAL, Guard
from .jobs import Worker
from .limits import Limits
from .painting import Painting
from .received import PATH, Pictures
from .search import Search, facts_of
from .shelf import GalleryOnShelf, Shelf

KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


class Page:
    """Everything behind one address.

    Parameters
    ----------
    folders : sequence of Path
        Galleries and feature stores.
    token : str
        See `Guard`.
    hosts : tuple of str
        Names under which the server may be called.
    embedder_of : callable, optional
        Makes the model that reads pictures for a gallery; by default as the gallery itself does.
    model, load : str and callable, optional
        The model that draws: its name, and what gives it and the names of its classes (or None).
    limits : Limits, optional

    Attributes
    ----------
    app : ASGI application
    worker : Worker

    Raises
    ------
    FileNotFoundError, ValueError
        For a folder that is neither a gallery nor a store, or one of another layout.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        token: str,
        *,
        hosts: tuple[str, ...] = LOCAL,
        embedder_of: Callable[[Gallery], Embedder] | None = None,
        model: str | None = None,
        load: Callable[[], tuple] | None = None,
        limits: Limits | None = None,
    ):
        limits = limits or Limits()
        self.shelf, self.worker, self.model = Shelf(folders, embedder_of), Worker(limits), model
        pictures = Pictures(limits)
        painting, clusters = Painting(self.shelf, pictures, limits, model, load), Clusters(self.shelf, limits)
        self.worker.makers = {"draw": painting.work, "clusters": clusters.work}
        views: list[Any] = [pictures, Search(self.shelf, pictures, limits), painting, clusters, self.worker]
        routes = [route for view in views for route in view.routes()]
        errors = {400: on_error, 404: on_error, 405: on_error, Refused: on_error, Exception: on_error}
        errors |= dict.fromkeys((ValueError, TypeError, OSError, ImportError, 408, 413), on_error)
        inner = Starlette(routes=[*routes, Route("/api/about", self.about), *page_routes()], exception_handlers=errors)
        self.app = Guard(inner, token, hosts, limits, PATH)

    def about(self, request: Request) -> Response:
        """What there is to see; of a gallery that cannot be read, why."""
        found = []
        for entry in self.shelf:
            facts: dict[str, Any] = {"name": entry.name, "kind": entry.kind}
            if isinstance(entry, GalleryOnShelf):
                try:
                    with entry.read() as gallery:
                        facts |= facts_of(gallery)
                except Refused as error:
                    facts |= {"error": error.message, "count": 0, "classes": [], "metrics": []}
            else:
                facts |= {"count": len(entry.table()[0]), "classes": [], "metrics": []}
            found.append(facts)
        return JSONResponse({"version": version("bigr-features"), "galleries": found, "model": self.model})


def page_routes() -> list[Route]:
    """The files of the page, read once: no path of a request ever reaches the disk."""
    routes = []
    for file in (files("bigr_features") / "web" / "page").iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            routes.append(Route("/" if file.name == "index.html" else f"/{file.name}", _answer(file.read_bytes(), kind)))
    return routes


def _answer(content: bytes, kind: str) -> Callable:
    kept = {"Cache-Control": "no-cache"}  # asked for again, as an update of the package may change it

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind, headers=kept)

    return answer
