"""Galleries: image collections on disk, searched by features or by bits. Arrays in, ids out; `embedding` is where models come in."""

from .gallery import Added, Gallery, embedding_of
from .queries import Hits
from .settings import GallerySettings

__all__ = ["Added", "Gallery", "GallerySettings", "Hits", "embedding_of"]
