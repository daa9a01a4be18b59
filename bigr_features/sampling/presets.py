"""Settings of sampling by name: the paper's, and faster ones chosen by Frechet distance to training images.

They were chosen on bigr_nano.fashion_mnist by `benchmarks/sampling_presets.py`; larger models may want more steps. Weaker guidance brings
them nearer to real images than exact is, and makes classes less plain: a CNN recognises fewer.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .settings import SamplingSettings

CUT = {
    "order": "halton",
    "num_denoise_steps": 16,
    "final_denoise_steps": 4,
    "guidance_scale": 2.0,
    "guidance_schedule": "interval",
    "guidance_interval": (0.5, 1.0),
}
PRESETS: dict[str, dict[str, Any]] = {
    "exact": {},
    "fast": {**CUT, "num_reveal_steps": 16},  # of 18 candidates the nearest
    "fastest": {**CUT, "num_reveal_steps": 6},  # the quickest within 5 % of that distance
}
SET = frozenset(name for preset in PRESETS.values() for name in preset) - {"guidance_scale"}  # what makes a preset


def preset_settings(preset: str, named: dict[str, Any]) -> dict[str, Any]:
    """Settings of a preset with those that are named beside it, which go before.

    Parameters
    ----------
    preset : "exact", "fast" or "fastest"
        exact has the default of every setting; all presets run in float32.
    named : dict
        Settings given beside it.

    Raises
    ------
    ValueError
        For an unknown preset; and for exact beside another order, other steps or another guidance schedule.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset={preset!r} is unknown; choose one of {', '.join(PRESETS)}.")
    own = dict(PRESETS[preset])
    if preset == "exact":
        defaults = {field.name: field.default for field in fields(SamplingSettings)}
        for name in sorted(SET & named.keys()):
            if named[name] != defaults[name]:
                raise ValueError(
                    f"preset='exact' and {name}={named[name]!r} contradict each other, as exact has {defaults[name]!r}; leave one out."
                )
    if named.get("guidance_schedule", "interval") != "interval":
        own.pop("guidance_interval", None)
    if "num_denoise_steps" in named and named["num_denoise_steps"] is not None and "final_denoise_steps" in own:
        own["final_denoise_steps"] = min(own["final_denoise_steps"], named["num_denoise_steps"])
    return {**own, **named}
