"""Options that do nothing beside another one are refused: who gives them expects an effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


def refuse_idle(config, rules: Sequence[tuple[str, str, bool]]) -> None:
    """Refuse options that differ from their default though what they belong to is not asked for.

    Parameters
    ----------
    config : dataclass of settings
    rules : sequence of (name, needs, given)
        A field, the option that it needs, and whether that is given.

    Raises
    ------
    ValueError
        Naming the option, its value and what it needs.
    """
    defaults = {field.name: _default(field) for field in dataclasses.fields(config)}
    for name, needs, given in rules:
        value = getattr(config, name)
        if not given and value != defaults[name]:
            raise ValueError(f"{_option(name, value)} has no effect without {needs}; leave it out, or give {needs}.")


def _default(field: dataclasses.Field):
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _option(name: str, value) -> str:
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{dashed}" if value else f"--no-{dashed}"
    shown = " ".join(map(str, value)) if isinstance(value, tuple | list) else value
    return f"--{dashed} {shown}"
