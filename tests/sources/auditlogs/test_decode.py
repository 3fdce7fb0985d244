"""Pages as columns: what survives, what is checked."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.auditlogs.decode import decode_page

TIME = "2026-11-20T23:59:53.520Z"


def page(*rows: object, info: str = '{"count":1}') -> str:
    texts = [
        row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows
    ]
    return '{"logs":[' + ",".join(texts) + '],"result_info":' + info + "}"


def decode(*rows: object) -> list[dict]:
    return decode_page(page(*rows)).rows.to_pylist()


def test_the_six_fields_land_in_their_columns() -> None:
    row = {
        "description": "Create zone",
        "time": TIME,
        "actor_email": "a@example.com",
        "actor_token_name": "terraform",
        "product": "dns",
        "type": "zones",
    }
    (event,) = decode(row)
    raw = event.pop("event_raw")
    assert json.loads(raw) == row
    assert event == {
        "action_description": "Create zone",
        "event_time": datetime(2026, 11, 20, 23, 59, 53, 520000, tzinfo=UTC),
        "actor_email": "a@example.com",
        "actor_token_name": "terraform",
        "resource_product": "dns",
        "resource_type": "zones",
    }


def test_an_empty_description_and_absent_fields_are_null() -> None:
    (event,) = decode({"description": "", "time": TIME})
    assert {name for name, value in event.items() if value is not None} == {"event_time", "event_raw"}


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5))
def test_any_text_survives_in_its_column_and_every_byte_in_the_raw_event(texts: list[str]) -> None:
    rows = [json.dumps({"description": text, "time": TIME}, ensure_ascii=False) for text in texts]
    events = decode(*rows)
    assert [event["action_description"] for event in events] == texts
    assert [event["event_raw"] for event in events] == rows


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\U0001f600", "\\u0000"])
def test_characters_that_break_line_parsers_do_not_break_a_page(separator: str) -> None:
    raw = f'{{"description":"a{separator}b","time":"{TIME}"}}'
    (event,) = decode(raw)
    assert event["event_raw"] == raw
    assert event["action_description"] == json.loads(raw)["description"]


def test_a_lone_surrogate_is_kept_in_the_raw_event_and_replaced_in_the_column() -> None:
    odd, plain = f'{{"description":"x \\ud83d y","time":"{TIME}"}}', {"description": "ok", "time": TIME}
    events = decode(odd, plain)
    assert events[0]["event_raw"] == odd
    assert events[0]["action_description"] == "x \ufffd y"
    assert events[1]["action_description"] == "ok"


def test_rows_with_a_lone_surrogate_are_kept_to_the_letter_in_a_page_that_is_not_compact() -> None:
    odd, plain = f'{{"description": "x \\ud83d y", "time": "{TIME}"}}', f'{{"description": "ok", "time": "{TIME}"}}'
    events = decode_page(f'{{ "logs" : [ {odd} ,\n {plain} ], "result_info": {{"count": 2}} }}').rows.to_pylist()
    assert [event["event_raw"] for event in events] == [odd, plain]
    assert [event["action_description"] for event in events] == ["x \ufffd y", "ok"]


def test_unknown_keys_survive_in_the_raw_event_and_are_named() -> None:
    raw = f'{{"description":"a","time":"{TIME}","new":{{"deep":[1,2.50,null]}}}}'
    read = decode_page(page(raw, {"description": "b", "time": TIME}))
    assert read.rows["event_raw"][0].as_py() == raw
    assert read.rows["action_description"].to_pylist() == ["a", "b"]
    assert read.further == {"new"}


def test_a_field_of_another_type_becomes_its_json_text() -> None:
    assert decode({"description": {"a": 1}, "time": TIME})[0]["action_description"] == '{"a":1}'


@pytest.mark.parametrize("fraction", ["", ".5", ".520", ".123456", ".123456789"])
def test_times_of_every_precision_are_read(fraction: str) -> None:
    rows = decode_page(page({"description": "a", "time": f"2026-11-20T23:59:53{fraction}Z"})).rows
    nanoseconds = int((fraction[1:] or "0").ljust(9, "0"))
    assert rows["event_time"][0].value % 1_000_000_000 == nanoseconds


@pytest.mark.parametrize(
    ("time", "nanoseconds"),
    [
        ("2026-11-20T23:59:53.1234567891Z", 53_123_456_789),
        ("2026-11-20T23:59:60Z", 60_000_000_000),
        ("2026-11-20T23:59:60.5Z", 60_500_000_000),
        ("2026-11-20t23:59:53.520z", 53_520_000_000),
        ("2026-11-20T23:59:53.520", 53_520_000_000),
        ("2026-11-20T23:59:53,520Z", 53_520_000_000),
        ("2026-11-21T01:59:53.520+02:00", 53_520_000_000),
        (1795219193, 53_000_000_000),
        (1795219193520, 53_520_000_000),
        ("1795219193", 53_000_000_000),
    ],
)
def test_times_that_are_written_oddly_are_read(time: object, nanoseconds: int) -> None:
    rows = decode_page(page({"description": "a", "time": time}, {"description": "b", "time": TIME})).rows
    minute = int(datetime(2026, 11, 20, 23, 59, tzinfo=UTC).timestamp()) * 1_000_000_000
    assert [value.value - minute for value in rows["event_time"]] == [nanoseconds, 53_520_000_000]


ODD = ['{"description":"a"}', '{"time":null}', '{"time":"yesterday"}', "null", "5", '"text"', "[]", "{}", "9" * 5_000]
ODD += ['{"time":"2026-13-45T00:00:00Z"}', '{"time":{}}', '{"time":1}']


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:20])
def test_a_row_without_a_time_lies_between_its_neighbours_and_they_are_read(odd: str) -> None:
    around = [{"description": "a", "time": TIME}, {"description": "b", "time": "2026-11-20T23:59:59.000Z"}]
    read = decode_page(page(around[0], odd, around[1], info='{"count":3}'))
    assert read.rows["action_description"].to_pylist() == ["a", "b"]
    [row] = read.unreadable
    first, last = (at.value // 1_000_000 for at in read.rows["event_time"])
    assert (row.since_ms, row.before_ms, row.rows) == (first, last + 1, 1)
    assert read.count == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"logs":1,"result_info":{}}', "<html>"])
def test_what_is_not_a_page_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_page(text)
    assert "html" not in str(caught.value)


@pytest.mark.parametrize(
    ("info", "cursor"),
    [
        ('{"count":1,"cursor":"abc"}', "abc"),
        ('{"count":1,"cursors":{"after":"abc"}}', "abc"),
        ('{"count":1,"cursor":""}', None),
        ('{"count":1}', None),
    ],
)
def test_the_cursor_is_found_in_either_place_and_an_empty_one_is_none(info: str, cursor: str | None) -> None:
    assert decode_page(page(info=info)).cursor == cursor
    assert decode_page(page({"description": "a", "time": TIME}, info=info)).cursor == cursor
