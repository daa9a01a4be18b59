"""Why a picture was found: the tokens of query and hit that are alike, as heat maps on both pictures.   H x W grid of tokens"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from ..features.similarity import TokenSimilarity, token_grid, token_similarity
from ..functional.pooling import HEAD, layer_and_pooling
from ..plots.pictures import heat
from .cards import Result
from .embedding import Embedder, default_layer, opened
from .hits import Hits
from .lifecycle import image_of

SIDE = 224  # pixels of a heat map's longer side, at least


@dataclass(frozen=True)
class Explanation:
    """A query and a hit.

    similarity : TokenSimilarity
        Cosines of tokens; `first` belongs to the query.
    query, hit : Pillow images
        What the model sees, with the heat map on it: bright where the other picture has something alike.
    """

    similarity: TokenSimilarity
    query: Image.Image
    hit: Image.Image

    @property
    def pair(self) -> Image.Image:
        """Both side by side."""
        canvas = Image.new("RGB", (self.query.width + self.hit.width + 4, max(self.query.height, self.hit.height)), (255, 255, 255))
        canvas.paste(self.query, (0, 0))
        canvas.paste(self.hit, (self.query.width + 4, 0))
        return canvas

    def _repr_png_(self) -> bytes:
        return self.pair._repr_png_()


def explain(embedder: Embedder, query: Image.Image, hit: Image.Image) -> Explanation:
    """Compare the tokens of two images, at the layer that the embedder reads; ValueError for a model that gives no grid of tokens."""
    layer, _ = layer_and_pooling(embedder.description["feature"])
    layer = default_layer(embedder.model, embedder.name) if layer is None else layer
    layer = -1 if layer == HEAD else layer  # the last tokens, of which the head is made
    inputs = torch.stack([embedder.transform(opened(image).convert(embedder.mode)) for image in (query, hit)])
    similarity = token_similarity(*token_grid(embedder.model, inputs, layer))
    low, high = similarity.matrix.min(), max(similarity.first.max(), similarity.second.max())
    pictures = [overlaid(pixels, grid, low, high) for pixels, grid in zip(inputs, (similarity.first, similarity.second), strict=True)]
    return Explanation(similarity, *pictures)


def overlaid(pixels: torch.Tensor, grid: np.ndarray, low: float, high: float) -> Image.Image:
    """A heat map over what the model sees, pixels (C, H, W) of any range."""
    seen = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-6)
    picture = Image.fromarray((255 * seen.mean(0)).round().byte().cpu().numpy()).convert("RGB")
    factor = -(-SIDE // max(picture.size))
    picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    colors = Image.fromarray(heat(grid, float(low), float(max(high, low + 1e-6)))).resize(picture.size, Image.Resampling.BILINEAR)
    return Image.blend(picture, colors, 0.55)


def item_image(gallery, item: str) -> Image.Image:
    """The image of an item from its source, or its thumbnail if that is gone."""
    about = gallery.item(item)
    try:
        return opened(image_of(about["source"], item=about["id"]))
    except Exception as error:  # decoders raise almost anything on damaged files
        picture = gallery.thumbnail(item)
        if picture is None:
            raise FileNotFoundError(f"item {about['id']} has no thumbnail, and its source cannot be read ({error}).") from error
        return opened(Image.open(io.BytesIO(picture)))


def explained(gallery, embedder: Embedder, results: Sequence[Result], hits: Hits, queries: Sequence[Image.Image]) -> list[Result]:
    """Results with heat maps of the query and the hit in place of each hit's picture."""
    shown = []
    for result, ids, query in zip(results, hits.ids, queries, strict=True):
        cards = []
        for card, item in zip(result.hits, ids, strict=True):
            buffer = io.BytesIO()
            explain(embedder, query, item_image(gallery, str(item))).pair.save(buffer, "PNG")
            cards.append(replace(card, picture=buffer.getvalue()))
        shown.append(Result(result.query, tuple(cards)))
    return shown
