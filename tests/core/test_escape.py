from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.core.escape import escaped


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünïcode 漢字 😀", "plain Ünïcode 漢字 😀"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("one\ntwo\r\t", r"one\ntwo\r\t"),
        ("\u202eevil\u2069", r"\u202eevil\u2069"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("line\u2028end", r"line\u2028end"),
        ("lone\ud800", r"lone\ud800"),
        ("c1\x9b31m", r"c1\x9b31m"),
    ],
)
def test_what_could_act_on_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert escaped(text) == shown


@given(st.text())
def test_nothing_unprintable_is_left(text: str) -> None:
    line = escaped(text)
    assert line.isprintable()
    line.encode()


def test_a_limit_cuts_with_a_mark() -> None:
    assert escaped("abcdef", 4) == "abc…"
    assert escaped("abcd", 4) == "abcd"
