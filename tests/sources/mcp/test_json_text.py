"""Texts as received: lone surrogates are covered, and every text is found where it stood."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cfaudit_export.sources.mcp.json_text import column_of, cover_surrogates, originals

# Every escape, one after the other, is the plain way to find those that are half of a pair without its other half.
ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
PARTS = st.sampled_from(
    [r"\ud83d", r"\uDE00", r"\udbff", r"\u2028", "\\\\", r"\"", "ud83d", "é", "x", r"\n", r"\ufffd"]
)


@given(st.lists(PARTS).map("".join))
@example(r"\\ud83d")
@example(r"\\\ud83d\ude00")
@example(r"\\ud83d\ude00")
@example(r"\ud83d\ud83d\ude00\ude00")
def test_every_surrogate_is_covered_that_is_not_half_of_a_pair_and_nothing_else(text: str) -> None:
    body = f'{{"a":"{text}"}}'.encode()

    covered = cover_surrogates(body)

    assert covered == ESCAPES.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)
    assert len(covered) == len(body)
    json.loads(covered)["a"].encode()  # it has no lone surrogate any more


def test_a_body_without_lone_surrogates_is_not_copied() -> None:
    body = rb'{"a":"\ud83d\ude00 \u2028"}'

    assert cover_surrogates(body) is body


@given(st.lists(st.lists(PARTS, min_size=1).map(lambda parts: f'{{"a":"{"".join(parts)}"}}'.encode())))
def test_the_texts_as_received_stand_where_the_covered_ones_stand(rows: list[bytes]) -> None:
    body = b'{"logs":[' + b",".join(rows) + b"]}"

    found = originals(body, cover_surrogates(body), list(map(cover_surrogates, rows)), body.index(b"[") + 1)

    assert found is not None
    assert found.to_pylist() == column_of(rows).to_pylist() == [row.decode() for row in rows]


@pytest.mark.parametrize("between", [b", ", b",\n", b" ,"])
def test_texts_with_more_than_a_comma_between_them_are_not_guessed(between: bytes) -> None:
    rows = [rb'{"a":"\ud83d"}', b'{"a":","}']
    body = b"[" + between.join(rows) + b"]"

    assert originals(body, cover_surrogates(body), list(map(cover_surrogates, rows)), 1) is None
