"""Galleries: image collections on disk, searched by features or by bits. Models come in by `features.embedder`."""

from ..features.embedder import Embedder, embedding_of
from ..nearest.settings import GallerySettings
from .changes import Added
from .gallery import Gallery
from .hits import Hits

__all__ = ["Added", "Embedder", "Gallery", "GallerySettings", "Hits", "embedding_of"]
