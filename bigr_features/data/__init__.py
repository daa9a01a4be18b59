"""Data sets and transforms: small samples in memory, and one way to open any folder, file or Hub data set of images."""

from .images import ImageSet, open_images
from .items import Skipped
from .pixels import VIEWS, center_crop, read_pixels, side_for, views_of
from .samples import SAMPLES, Sample, load_sample

__all__ = [
    "SAMPLES",
    "VIEWS",
    "ImageSet",
    "Sample",
    "Skipped",
    "center_crop",
    "load_sample",
    "open_images",
    "read_pixels",
    "side_for",
    "views_of",
]
