"""Why a picture was found: the tokens of query and hit that are alike, as heat maps on both pictures.   H x W grid of tokens"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..data.reopened import opened
from ..functional.pooling import HEAD, layer_and_pooling
from ..plots.pictures import heat
from .embedder import Embedder, default_layer
from .similarity import TokenSimilarity, token_grid, token_similarity

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

    def _repr_png_(self) -> bytes | None:
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
