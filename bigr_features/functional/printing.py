"""Texts from outside, such as file names, for lines of terminals, tables and pages."""

from __future__ import annotations

import unicodedata

_STEERING = ("Cc", "Cs", "Zl", "Zp")
_DIRECTION = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def one_line(text) -> str:
    """A text, such as a file name, for a line of a message or a table: what breaks lines or steers a terminal is escaped.

    Escaped are control characters, line and paragraph separators, half surrogates (bytes of a name that is not UTF-8), and the marks that
    turn the direction of writing.
    """
    return "".join(_escaped(c) if unicodedata.category(c) in _STEERING or c in _DIRECTION else c for c in str(text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
