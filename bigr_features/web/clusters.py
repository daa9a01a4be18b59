"""Galleries and stores in the plane: projections through the layers, each turned to the one before, and kept beside the gallery.

n items drawn of a gallery or store, L layers
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..data.limits import drawn
from ..functional.printing import one_line
from ..plots.colors import GREY, class_styles
from ..plots.figures import turned_to_match
from ..plots.projection import METHODS, embed
from ..storage.atomic import write_atomically
from .answers import Refused, json_of, number_of, text_of
from .jobs import Job
from .limits import Limits
from .shelf import GalleryOnShelf, Shelf, StoreOnShelf

log = logging.getLogger(__name__)

PERPLEXITY = 30
STEPS = 65535  # of a coordinate as it is sent
IN_MEMORY = 64  # projections


@dataclass(frozen=True)
class Arrangement:
    """What is to be arranged, and how.

    entry : where the items are.
    rows : int64 (n,), the items drawn, rising.
    ids : str (n,); labels : int64 (n,), -1 for none; class_names : by label, or None.
    method : tsne, umap or pca.
    """

    entry: GalleryOnShelf | StoreOnShelf
    rows: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    class_names: list[str] | None
    method: str
    of: int

    def file(self, layer: str) -> Path:
        """Where the projection of a layer is kept: in a folder beside the gallery, which itself is not touched."""
        what = f"{self.entry.identity()}\n{layer}\n{self.method}\n{len(self.rows)}\n"
        digest = hashlib.sha256(what.encode() + "\n".join(self.ids.tolist()).encode()).hexdigest()
        folder = self.entry.folder.resolve()
        return folder.parent / f"{folder.name}.projections" / f"{digest[:32]}.npy"


class Clusters:
    """Routes of the view."""

    def __init__(self, shelf: Shelf, limits: Limits):
        self.shelf, self.limits = shelf, limits
        self._memory: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def routes(self) -> list[Route]:
        """What there is, the points, the items of some points, and all ids."""
        return [
            Route("/api/clusters", self.about),
            Route("/api/clusters/points", self.points),
            Route("/api/clusters/items", self.items, methods=["POST"]),
            Route("/api/clusters/ids", self.ids),
        ]

    def arrangement(self, asked) -> Arrangement:
        """What a request means."""
        entry = self.shelf[text_of(asked, "gallery", 1000)]
        method = text_of(asked, "method", 20, "tsne")
        if method not in METHODS:
            raise Refused(400, f"method={method!r}; choose one of {', '.join(METHODS)}.")
        ids, labels, class_names = entry.table()
        wanted = number_of(asked, "items", 3, 10_000_000, 2000)
        count = min(wanted, len(ids))
        if method != "pca" and count > self.limits.points:
            raise Refused(400, f"{method} of {count:,} items takes too long; take {self.limits.points:,} or fewer, or choose pca.")
        if len(ids) < 3:
            raise Refused(400, f"there is nothing to arrange with {len(ids)} pictures; it takes 3 or more.")
        rows = drawn(labels, len(ids), wanted)
        return Arrangement(entry, rows, ids[rows], labels[rows], class_names, method, len(ids))

    def about(self, request: Request) -> Response:
        """Layers, classes with their colours and markers, and whether the projections are there already."""
        found = self.arrangement(request.query_params)
        layers = found.entry.layers()
        ready = [self._kept(found.file(layer), len(found.rows)) is not None for layer in layers]
        return JSONResponse(
            {
                "layers": layers,
                "ready": all(ready),
                "items": len(found.rows),
                "of": found.of,
                "method": found.method,
                "classes": _classes(found),
            }
        )

    def work(self, asked: dict) -> Callable[[Job], dict]:
        """What a job of kind "clusters" does."""
        found = self.arrangement(asked)

        def work(job: Job) -> dict:
            layers = found.entry.layers()
            for number, layer in enumerate(layers):
                job.check()
                job.say("layer", layer=layer, number=number, layers=len(layers))
                if self._kept(found.file(layer), len(found.rows)) is None:
                    self._keep(found.file(layer), self._projection(found, layer))
            return {"layers": layers}

        return work

    def _projection(self, found: Arrangement, layer: str) -> np.ndarray:
        n = len(found.rows)
        settings: dict[str, Any] = {}
        if found.method == "tsne":
            settings = {"perplexity": float(min(PERPLEXITY, (n - 1) // 3))}
        elif found.method == "umap":
            settings = {"n_neighbors": min(15, n - 1)}
        return embed(found.entry.vectors(layer, found.rows), found.method, **settings).points

    def _kept(self, path: Path, n: int) -> np.ndarray | None:
        with self._lock:
            if path in self._memory:
                return self._memory[path]
        try:
            points = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        if points.shape != (n, 2) or points.dtype != np.float32 or not np.isfinite(points).all():
            return None
        self._remember(path, points)
        return points

    def _keep(self, path: Path, points: np.ndarray) -> None:
        self._remember(path, points)
        buffer = io.BytesIO()
        np.save(buffer, points, allow_pickle=False)
        try:
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            log.warning("the projection is not kept beside the gallery: %s", error)

    def _remember(self, path: Path, points: np.ndarray) -> None:
        with self._lock:
            self._memory[path] = points
            while len(self._memory) > IN_MEMORY:
                self._memory.popitem(last=False)

    def points(self, request: Request) -> Response:
        """uint16, little endian: (L, n, 2) coordinates of the unit square, then the labels (n,), 65535 for none."""
        found = self.arrangement(request.query_params)
        layers, last = [], None
        for layer in found.entry.layers():
            points = self._kept(found.file(layer), len(found.rows))
            if points is None:
                raise Refused(409, "the projection is not there yet; ask for it first.")
            points = points - points.mean(0)
            points = points / max(float(np.abs(points).max()), 1e-12)  # layers differ in scale
            last = points if last is None else turned_to_match(points, last)
            layers.append(last)
        stacked = np.stack(layers)
        stacked = stacked / max(float(np.abs(stacked).max()), 1e-12)
        coordinates = np.round((stacked + 1) / 2 * STEPS).astype("<u2")
        labels = np.where((found.labels < 0) | (found.labels >= STEPS), STEPS, found.labels).astype("<u2")
        return Response(coordinates.tobytes() + labels.tobytes(), media_type="application/octet-stream")

    async def items(self, request: Request) -> Response:
        """id, class and file of some of the points, by number."""
        asked = await json_of(request)
        numbers = asked.get("points")
        found = self.arrangement({key: value for key, value in asked.items() if key != "points"})
        n = len(found.rows)
        if not isinstance(numbers, list) or len(numbers) > self.limits.hits or not all(type(i) is int and 0 <= i < n for i in numbers):
            raise Refused(400, f"points: expected a list of at most {self.limits.hits} numbers of 0..{n - 1}.")
        names = found.class_names or []
        answer = []
        for i in numbers:
            item, label = str(found.ids[i]), int(found.labels[i])
            named = None if label < 0 else one_line(names[label]) if label < len(names) else f"class {label}"
            source = found.entry.label_of(item)
            answer.append({"point": i, "id": item, "class_name": named, "file": one_line(Path(source).name) if source else item})
        return JSONResponse(answer)

    def ids(self, request: Request) -> Response:
        """The id of every point, so that the same pictures are found in another projection."""
        return JSONResponse(self.arrangement(request.query_params).ids.tolist())


def _classes(found: Arrangement) -> list[dict]:
    """Label, name, colour, marker and number of each class; what has none is grey."""
    labelled = found.labels[found.labels >= 0]
    if not len(labelled):
        return []
    names = found.class_names or []
    most = int(labelled.max()) + 1
    styles = class_styles(labelled, [*names, *map(str, range(len(names), most))])
    labels, counts = np.unique(labelled, return_counts=True)
    return [
        {
            "label": label,
            "name": one_line(styles.class_names[label]),
            "color": styles.color(label) if label in styles.highlighted else GREY,
            "marker": styles.marker(label),
            "count": count,
        }
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
    ]
