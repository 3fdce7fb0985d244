"""RFC 8785: our text is that of the library of others, and nothing but that text is read."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.proof.canonical import canonical, parse_canonical, parse_json

texts = st.text(st.characters(codec="utf-8") | st.sampled_from('\x00\x1f"\\/\x7f\u2028\ue000\uffff\U00010000'))
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.integers(-(10**9), 10**9).map(lambda n: n / 1000)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_a_value_has_the_text_that_the_library_of_others_gives_it(value: Any) -> None:
    document = canonical(value)
    assert document == rfc8785.dumps(value)
    assert parse_canonical(document) == value


@given(values)
def test_any_other_text_of_a_value_is_refused(value: Any) -> None:
    for other in (json.dumps(value, indent=1).encode(), canonical(value) + b" "):
        if other != canonical(value):
            with pytest.raises(ValueError, match="not in canonical form"):
                parse_canonical(other)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b'{"a":1,"a":1}', 'key "a" comes twice'),
        (b'{"b":{"a":1,"\\u0061":2}}', 'key "a" comes twice'),
        (b"[" * 100 + b"]" * 100, "nested too deep"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"a":' * 100_000, "nested too deep"),
        (b"NaN", "NaN is no JSON"),
        (b"1e400", "cannot be written exactly"),
        (b'"\xff"', "not UTF-8"),
        (b"9007199254740993", "too large a number"),
        (b'"\\ud800"', "surrogates not allowed"),
        (b"", "Expecting value"),
    ],
)
def test_what_two_readers_could_take_differently_is_refused(document: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_canonical(document)


def test_json_of_any_form_is_read_where_the_form_does_not_matter() -> None:
    assert parse_json(b' { "b" : 1.0, "a": [] } ') == {"b": 1.0, "a": []}


@pytest.mark.parametrize("value", [2**53, float("nan"), 1e-7, 1e22, {1: 2}, b"x", {"a": {1}}])
def test_what_has_no_exact_text_is_not_written(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical(value)
