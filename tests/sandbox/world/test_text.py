from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_sandbox.world.text import NO_SECONDS, escaped, instant, js, js_pretty, stamp

AT = 1_795_478_393_520_123_456


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        (NO_SECONDS, "2026-11-23T23:59Z"),
        (0, "2026-11-23T23:59:53Z"),
        (3, "2026-11-23T23:59:53.520Z"),
        (6, "2026-11-23T23:59:53.520123Z"),
        (9, "2026-11-23T23:59:53.520123456Z"),
    ],
)
def test_a_time_is_written_with_as_many_digits_as_asked(digits: int, text: str) -> None:
    assert stamp(AT, digits) == text


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_a_time_written_in_full_is_read_back_exactly(time_ns: int) -> None:
    assert instant(stamp(time_ns, 9)) == time_ns


@pytest.mark.parametrize("text", ["2026-11-20", "2026-11-20T00:00Z", "2026-11-20 00:00:00.000+00:00"])
def test_a_date_and_other_spellings_of_midnight_are_the_same_instant(text: str) -> None:
    assert instant(text) == datetime(2026, 11, 20, tzinfo=UTC).timestamp() * 1e9


@pytest.mark.parametrize("text", ["2026-13-45", "2026-02-30", "2026-11-20T25:00:00.000Z", "yesterday", ""])
def test_a_time_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are the standard library's in part
        instant(text)


def test_json_is_written_as_javascript_does() -> None:
    assert js({"a": ["é\u2028", 1, None, "\ud83d!"]}) == '{"a":["é\u2028",1,null,"\\ud83d!"]}'
    assert js("\U0001f680\x07\x7f") == '"\U0001f680\\u0007\x7f"'
    assert js_pretty([{"path": []}]) == '[\n  {\n    "path": []\n  }\n]'


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_escaped_text_survives_as_json_inside_json(text: str) -> None:
    inner = js({"t": text})
    outer = f'"{escaped(inner)}"'
    outer.encode()
    assert json.loads(json.loads(outer)) == {
        "t": text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    }
