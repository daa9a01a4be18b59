"""What one browser may ask of the server."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.received import MOST_PIXELS


@dataclass(frozen=True)
class Limits:
    """Bounds, each said in the error of what goes beyond it.

    upload_bytes : of a picture that is sent.
    json_bytes : of any other request.
    pixels : of a picture that is sent.
    pictures : sent pictures that are kept, the oldest leave.
    body_seconds : for a whole request to arrive.
    streams : open streams of progress.
    waiting : jobs that wait for their turn.
    jobs : finished jobs that are kept.
    characters : of a prompt, an id or a part of a name.
    hits : results of a search.
    queries : pictures in one query.
    points : items of a picture of clusters that t-SNE or UMAP arrange.
    """

    upload_bytes: int = 32 << 20
    json_bytes: int = 1 << 20
    pixels: int = MOST_PIXELS
    pictures: int = 24
    body_seconds: float = 20.0
    streams: int = 16
    waiting: int = 4
    jobs: int = 8
    characters: int = 1000
    hits: int = 500
    queries: int = 16
    points: int = 20_000
