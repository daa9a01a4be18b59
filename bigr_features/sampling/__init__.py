"""Drawing new codes from a generator, and editing images with it."""

from importlib import import_module

# imported when first asked for: the command line reads the settings without torch
_HOMES = {
    "Edited": "editing",
    "edit": "editing",
    "enrich": "editing",
    "inpaint": "editing",
    "outpaint": "editing",
    "interpolate": "interpolation",
    "RevealStep": "masked",
    "sample_codes": "masked",
    "SamplingSettings": "settings",
}

__all__ = ["Edited", "RevealStep", "SamplingSettings", "edit", "enrich", "inpaint", "interpolate", "outpaint", "sample_codes"]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
