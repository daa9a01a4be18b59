"""Model sizes by name, as the commands know them."""

from __future__ import annotations

from ..models.presets import PRESETS, preset_configs

TOKENIZERS = {name: preset_configs(name)[0] for name in PRESETS}
GENERATORS = {name: preset_configs(name)[1] for name in PRESETS}
