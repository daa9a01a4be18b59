"""Search in a gallery: by pictures, a class, a part of a name; why a hit was found; a list to take away."""

from __future__ import annotations

import base64
import csv
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..functional.printing import one_line
from ..gallery import Gallery, Hits
from ..gallery.mixed import comparisons_of, named_like, search_mixed
from .answers import KEPT, Refused, json_of, number_of, picture, png_of, text_of
from .limits import Limits
from .received import Pictures
from .shelf import Shelf

STEERS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would take for a formula


class Search:
    """Routes of the view."""

    def __init__(self, shelf: Shelf, pictures: Pictures, limits: Limits):
        self.shelf, self.pictures, self.limits = shelf, pictures, limits

    def routes(self) -> list[Route]:
        """The view's routes; those that compute run in a thread."""
        return [
            Route("/api/search", self.search),
            Route("/api/why", self.why),
            Route("/api/item", self.item),
            Route("/api/thumbnail", self.thumbnail),
            Route("/api/image", self.image),
            Route("/api/export", self.export, methods=["POST"]),
        ]

    def search(self, request: Request) -> Response:
        """Hits of a query, which stands in the address: like, unlike (ids), sent, unsent (pictures), class, name, among, metric, k."""
        asked, start = request.query_params, time.perf_counter()
        like, unlike = self._queries(request, "like", "sent"), self._queries(request, "unlike", "unsent")
        with self.shelf.gallery(text_of(asked, "gallery", 1000)).read() as gallery:
            among = [self._label(gallery, one) for one in asked.getlist("among")] or None
            k = min(number_of(asked, "k", 1, self.limits.hits, 60), len(gallery))
            if not len(gallery):
                return JSONResponse({"hits": [], "of": 0, "seconds": 0, "how": "the gallery is empty"})
            name = text_of(asked, "name", self.limits.characters)
            label: int | None = None
            scores: list[float] | None = None
            if like:
                hits, label = self._mixed(request, gallery, like, unlike, k, among)
                ids, scores = hits.ids[0].tolist(), hits.scores[0].tolist()
                how = f"{len(like)} like, {len(unlike)} unlike" if unlike else f"{len(like)} together" if len(like) > 1 else "like this"
            elif unlike:
                raise Refused(400, "there is only what the hits should be less like; add a picture that they should be like.")
            elif "class" in asked:
                label = self._label(gallery, asked["class"])
                hits = gallery.search_class(label, k=min(k, int((gallery.labels == label).sum())), among=label)
                ids, scores, how = hits.ids[0].tolist(), hits.scores[0].tolist(), "the class, most typical first"
            elif name:
                ids, how = named_like(gallery, name, k, among), "names that contain this"
            else:
                rows = np.arange(len(gallery)) if among is None else np.flatnonzero(np.isin(gallery.labels, among))
                ids, how = gallery.ids[rows[:k]].tolist(), "the first of the gallery"
            found, generation = [_about(gallery.item(item)) for item in ids], gallery.generation
        for i, hit in enumerate(found):
            hit["score"] = None if scores is None else round(scores[i], 4)
            hit["same"] = None if label is None else hit["label"] == label
        return JSONResponse(
            {
                "hits": found,
                "of": len(gallery),
                "generation": generation,
                "how": how,
                "precision": _precision(found, label),
                "seconds": round(time.perf_counter() - start, 4),
            }
        )

    def _mixed(self, request: Request, gallery: Gallery, like: list, unlike: list, k: int, among) -> tuple[Hits, int | None]:
        """Hits of pictures and ids, and the class of the queries if it is one."""
        entry = self.shelf.gallery(request.query_params["gallery"])
        metric = text_of(request.query_params, "metric", 40) or None
        given = [one for one in (*like, *unlike) if isinstance(one, str)]
        for item in given:
            if item not in gallery:
                raise Refused(404, f"there is no item {item[:80]!r} in the gallery {entry.name}.")
        if len(given) < len(like) + len(unlike):
            entry.with_embedder(gallery)
        left = len(gallery) if among is None else int(np.isin(gallery.labels, among).sum())
        labels = {gallery.item(item)["label"] for item in like if isinstance(item, str)}
        own = [item for item in set(given) if among is None or gallery.item(item)["label"] in among]
        k = min(k, left - len(own))
        if k < 1:
            raise Refused(400, "there is nothing else to find in what is searched; choose more classes, or another gallery.")
        hits = search_mixed(gallery, like, unlike, k=k, label=among, metric=metric)
        return hits, labels.pop() if len(labels) == 1 and len(given) == len(like) + len(unlike) else None

    def _queries(self, request: Request, ids: str, sent: str) -> list:
        """Ids of the gallery, and pictures that were sent."""
        asked = request.query_params
        if len(asked.multi_items()) > 4 * self.limits.queries:
            raise Refused(400, f"the query has {len(asked.multi_items())} parts; at most {4 * self.limits.queries} are taken.")
        found: list[str | Image.Image] = [item[: self.limits.characters] for item in asked.getlist(ids)]
        found += [self.pictures[item].image for item in asked.getlist(sent)]
        if len(found) > self.limits.queries:
            raise Refused(400, f"there are {len(found)} pictures in the query; at most {self.limits.queries} are taken.")
        return found

    def _label(self, gallery: Gallery, text: str) -> int:
        """A label that the gallery has."""
        if not text.isdecimal() or len(text) > 9:
            raise Refused(400, f"class {text[:40]!r}; expected the number of a class.")
        if not (gallery.labels == int(text)).any():
            raise Refused(404, f"no item of the gallery has the class {int(text)}.")
        return int(text)

    def why(self, request: Request) -> Response:
        """Heat maps on a query and a hit, as pictures and as numbers 0..1 on the token grid."""
        asked = request.query_params
        entry = self.shelf.gallery(text_of(asked, "gallery", 1000))
        with entry.read() as gallery:
            hit = text_of(asked, "hit", self.limits.characters)
            query = self.pictures[asked["sent"]].image if "sent" in asked else text_of(asked, "like", self.limits.characters)
            for item in (hit, query):
                if isinstance(item, str) and item not in gallery:
                    raise Refused(404, f"there is no item {item[:80]!r} in the gallery {entry.name}.")
            found = entry.with_embedder(gallery).explain(query, hit)
        sides = {"query": (found.query, found.similarity.first), "hit": (found.hit, found.similarity.second)}
        return JSONResponse(
            {
                name: {
                    "picture": "data:image/png;base64," + base64.b64encode(png_of(image)).decode(),
                    "width": image.width,
                    "height": image.height,
                    "grid": np.round(grid.astype(float), 4).tolist(),
                }
                for name, (image, grid) in sides.items()
            }
        )

    def item(self, request: Request) -> Response:
        """What the gallery knows of an item."""
        asked = request.query_params
        entry = self.shelf.gallery(text_of(asked, "gallery", 1000))
        with entry.read() as gallery:
            item = text_of(asked, "id", self.limits.characters)
            if item not in gallery:
                raise Refused(404, f"there is no item {item[:80]!r} in the gallery {entry.name}.")
            return JSONResponse(_about(gallery.item(item)))

    def thumbnail(self, request: Request) -> Response:
        """Small picture of an item."""
        asked = request.query_params
        return picture(self.shelf[text_of(asked, "gallery", 1000)].thumbnail(text_of(asked, "id", self.limits.characters)), KEPT)

    def image(self, request: Request) -> Response:
        """Picture of an item, made anew from its pixels: no file goes out as it is."""
        asked = request.query_params
        image = self.shelf[text_of(asked, "gallery", 1000)].image(text_of(asked, "id", self.limits.characters))
        image.thumbnail((1024, 1024))
        return picture(png_of(image), KEPT)

    async def export(self, request: Request) -> Response:
        """Chosen items as CSV or JSON, with id, label, class and source."""
        asked = await json_of(request)
        ids, form = asked.get("ids"), asked.get("as")
        if form not in ("csv", "json") or not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
            raise Refused(400, "give ids, a list of texts, and as, csv or json.")
        with self.shelf.gallery(text_of(asked, "gallery", 1000)).read() as gallery:
            unknown = [item for item in ids if item not in gallery]
            if unknown:
                raise Refused(404, f"there is no item {unknown[0][:80]!r} in the gallery.")
            rows = [{name: gallery.item(item)[name] for name in ("id", "label", "class_name", "source")} for item in ids]
        if form == "json":
            return JSONResponse(rows)
        buffer = io.StringIO()
        writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
        writer.writerow(("id", "label", "class_name", "source"))
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
        return Response(buffer.getvalue().encode("utf-8", "backslashreplace"), media_type="text/csv; charset=utf-8")


def facts_of(gallery: Gallery) -> dict:
    """What the page says of a gallery."""
    labels, names = gallery.labels, gallery.class_names or []
    counted, counts = np.unique(labels[labels >= 0], return_counts=True)
    classes = [
        {"label": label, "name": one_line(names[label]) if label < len(names) else f"class {label}", "count": count}
        for label, count in zip(counted.tolist(), counts.tolist(), strict=True)
    ]
    return {
        "count": len(gallery),
        "classes": classes,
        "metrics": list(comparisons_of(gallery)),
        "model": (gallery.embedding or {}).get("model"),
        "generation": gallery.generation,
    }


def _about(item: dict) -> dict:
    """An item for the page: of its source, the name of the file only is shown."""
    source = item["source"]
    named = item["class_name"] if item["class_name"] is not None else None if item["label"] is None else f"class {item['label']}"
    file = one_line(Path(source).name) if source else one_line(item["id"])
    return {"id": item["id"], "label": item["label"], "class_name": None if named is None else one_line(named), "file": file}


def _precision(found: list[dict], label: int | None) -> dict | None:
    """Share of the first hits that are of the query's class; None where that is not known."""
    if label is None or not found:
        return None
    same = [hit["label"] == label for hit in found]
    return {str(k): round(sum(same[:k]) / k, 4) for k in (1, 10, len(same)) if k <= len(same)}


def _cell(value) -> str:
    text = "" if value is None else one_line(value)
    return f"'{text}" if text.startswith(STEERS) else text
