"""What every configuration shares: conversion to and from dictionaries, and the check of its whole numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ..storage.json_files import plain

C = TypeVar("C", bound="Config")


@dataclass(frozen=True)
class Config:
    """Conversion to and from plain dictionaries, strict about names."""

    def to_dict(self) -> dict[str, Any]:
        """Fields by name, as JSON holds them."""
        return plain(self)

    @classmethod
    def from_dict(cls: type[C], values: dict[str, Any]) -> C:
        """The configuration of a dictionary; ValueError for a name that is no field."""
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; its fields are {', '.join(known)}.")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def replace(self: C, **changes) -> C:
        """A copy with other fields; numbers that follow from others are counted anew, unless they are given."""
        return dataclasses.replace(self.without_derived(), **changes)

    def without_derived(self: C) -> C:
        """The fields alone, from which another configuration can be made: numbers that follow from others are not filled in."""
        return self


def check_positive(config: Config, name: str) -> None:
    """Raise ValueError unless a field is a whole number, 1 or more."""
    value = getattr(config, name)
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r}, but a positive integer is expected.")
