"""JSON columns: what is sent is what the type JSON keeps, and says what was given."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_bigquery.storable import as_storable

DEEP = "[" * 500 + "]" * 500
TOO_DEEP = '{"a":' * 501 + "1" + "}" * 501

KEPT_AS_IT_IS = [
    "{}",
    "null",
    '"text"',
    "[1,2.5,-3]",
    '{"a":{"b":[true,null]}}',
    "18446744073709551615",
    "-9223372036854775808",
    '{"big":12345678901234567890}',
    '{"id":"99999999999999999999999"}',
    '"監査 🦊"',
    DEEP,
]
KEPT_BY_VALUE = [
    '{ "a" : 1 }',
    '{\n  "a": [\r\n 1 ]\n}',
    "1.10",
    "1E5",
    "-0",
    '"\\u0041\\ud83e\\udd8a"',
    '"a\\/b"',
    '{"brackets": "[[[[ {{{{ \\" ["}',
]
KEPT_AS_TEXT = [
    '{"a":1,"a":2}',
    '{"a":{"b":1,"b":1}}',
    "18446744073709551616",
    '{"n":-9223372036854775809}',
    "[0.1000000000000000055]",
    "1e400",
    '"cut in half \\ud83e"',
    '{"\\udd8a":1}',
    TOO_DEEP,
    "[" * 100_000,
    "{",
    "",
    "NaN",
    "1 2",
    '"line\nend"',
]


def sent(text: str) -> str:
    (raw,) = as_storable([text])
    assert raw is not None
    return bytes(raw).decode()


@pytest.mark.parametrize("text", KEPT_AS_IT_IS, ids=lambda text: text[:30])
def test_compact_json_is_sent_as_it_is(text: str) -> None:
    assert sent(text) == text


@pytest.mark.parametrize("text", KEPT_BY_VALUE, ids=lambda text: text[:30])
def test_other_spellings_are_sent_without_line_ends(text: str) -> None:
    assert json.loads(sent(text)) == json.loads(text)
    assert not {"\n", "\r"} & set(sent(text))


@pytest.mark.parametrize("text", KEPT_AS_TEXT, ids=lambda text: text[:30])
def test_what_the_type_cannot_hold_is_sent_as_a_string_of_the_text(text: str) -> None:
    assert json.loads(sent(text)) == text


def test_each_text_is_judged_by_itself() -> None:
    texts = ['{"a":1}', None, '{"a":1,"a":2}', "1, 2", '{ "b": 1 }', None]
    assert [None if raw is None else bytes(raw).decode() for raw in as_storable(texts)] == [
        '{"a":1}',
        None,
        '"{\\"a\\":1,\\"a\\":2}"',
        '"1, 2"',
        '{ "b": 1 }',
        None,
    ]
    assert as_storable([]) == []
    assert as_storable([None]) == [None]


CHARACTERS = st.characters(exclude_categories=[])
NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?\Z", fullmatch=True)
TEXTS = st.text(CHARACTERS, max_size=5).map(json.dumps)
JSON = st.recursive(
    NUMBERS | TEXTS | st.sampled_from(["null", "true", "false"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: "[" + ", ".join(items) + "]")
        | st.lists(st.tuples(TEXTS, inner), max_size=4).map(
            lambda pairs: "{" + ",\n".join(f"{name}:{value}" for name, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)


@given(texts=st.lists(st.none() | JSON | st.text(max_size=10), max_size=4))
def test_whatever_is_given_is_taken_and_means_the_same(json_type: Any, texts: list[str | None]) -> None:
    """The judge is the type as the stand-in has it, which was written from its reference."""
    for text, raw in zip(texts, as_storable(texts), strict=True):
        if text is None:
            assert raw is None
            continue
        line = msgspec.json.encode({"column": raw}).decode()
        assert "\n" not in line
        kept = json_type.parse(line)["column"]
        if kept != text:
            assert kept == json.loads(text)
            assert json_type.parse(f'{{"column":{text.replace(chr(10), " ")}}}')["column"] == kept
