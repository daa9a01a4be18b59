"""Galleries: image collections on disk, searched by features or by bits. Arrays in, ids out; `embedding` is where models come in."""

from .changes import Added
from .embedding import embedding_of
from .gallery import Gallery
from .hits import Hits
from .settings import GallerySettings

__all__ = ["Added", "Gallery", "GallerySettings", "Hits", "embedding_of"]
