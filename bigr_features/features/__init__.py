"""Features of images: how a model takes images, pooled features of its layers, and stores of them on disk."""

from importlib import import_module

# imported when first asked for: the command line reads the settings without torch
_HOMES = {
    "FeatureStore": "store",
    "extract_features": "extract",
    "image_transform": "inputs",
    "input_channels": "inputs",
    "model_inputs": "inputs",
    "preprocessing_of": "inputs",
}

__all__ = ["FeatureStore", "extract_features", "image_transform", "input_channels", "model_inputs", "preprocessing_of"]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
