"""Promises of printed texts: one line, and nothing that steers a terminal."""

from __future__ import annotations

import pytest

from bigr_features.functional.printing import one_line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat.png", "cat.png"),
        ("a b/naïve 猫 🐈.png", "a b/naïve 猫 🐈.png"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x07\x00\x7f\x9b", r"\x1b[31mred\x07\x00\x7f\x9b"),
        ("a\u2028b\u2029c\x85d\x0be", r"a\u2028b\u2029c\x85d\x0be"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("im\udcfe.png", r"im\udcfe.png"),
    ],
)
def test_what_breaks_lines_or_steers_a_terminal_is_escaped(text, expected):
    assert one_line(text) == expected
    assert len(one_line(text).splitlines()) == 1
    one_line(text).encode()
