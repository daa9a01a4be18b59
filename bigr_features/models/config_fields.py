"""What every configuration shares: conversion to and from dictionaries, and the check of its whole numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from typing import Any

from ..storage.json_files import plain


class Config:
    """Conversion to and from plain dictionaries, strict about names."""

    def to_dict(self) -> dict[str, Any]:
        return plain(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]):
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; its fields are {', '.join(known)}.")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def replace(self, **changes):
        """A copy with other fields; numbers that follow from others are counted anew, unless they are given."""
        return dataclasses.replace(self.without_derived(), **changes)

    def without_derived(self):
        """The fields alone, from which another configuration can be made: numbers that follow from others are not filled in."""
        return self


def check_positive(config: Config, name: str) -> None:
    """Raise ValueError unless a field is a whole number, 1 or more."""
    value = getattr(config, name)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r}, but a positive integer is expected.")
