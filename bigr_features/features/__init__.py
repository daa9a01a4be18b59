"""Features of images: how a model takes images, pooled features of its layers, and stores of them on disk."""

from .extract import extract_features
from .inputs import image_transform, input_channels, model_inputs
from .store import FeatureStore

__all__ = ["FeatureStore", "extract_features", "image_transform", "input_channels", "model_inputs"]
