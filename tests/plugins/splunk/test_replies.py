from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfaudit_splunk.replies import BadEvent, Busy, Refused, Stopped, Taken, TooLarge, read_acks, read_reply


def reply(status: int, code: int | None = None, headers: dict[str, str] | None = None, **members: Any) -> Any:
    answer = {"text": "Words", **({} if code is None else {"code": code}), **members}
    return read_reply(status, headers or {}, json.dumps(answer).encode())


@pytest.mark.parametrize("code", [0, 24, 25])
def test_codes_of_success_mean_taken(code: int) -> None:
    nearly_full = code > 0
    assert reply(200, code) == Taken(None, nearly_full)
    assert reply(200, code, ackId=7) == Taken(7, nearly_full)


@pytest.mark.parametrize(
    ("status", "code"), [(503, 9), (503, 18), (503, 19), (503, 20), (503, 23), (429, 26), (429, 27), (429, None)]
)
def test_what_was_not_taken_is_tried_again_without_harm(status: int, code: int | None) -> None:
    answer = reply(status, code)
    assert isinstance(answer, Busy)
    assert not answer.taken_perhaps


@pytest.mark.parametrize(("status", "code"), [(500, 8), (500, None), (502, None), (503, None), (504, None)])
def test_what_may_have_been_taken_is_tried_again_and_known_to_be_unclear(status: int, code: int | None) -> None:
    answer = reply(status, code)
    assert isinstance(answer, Busy)
    assert answer.taken_perhaps


def test_a_busy_server_that_stopped_half_way_says_what_it_has_taken() -> None:
    assert reply(503, 9, **{"invalid-event-number": 10}) == Stopped("'Words' (code 9)", 10)
    assert isinstance(reply(503, 9, **{"invalid-event-number": 0}), Busy)


@pytest.mark.parametrize("code", [6, 12, 13, 15])
def test_a_bad_event_is_named_by_its_number(code: int) -> None:
    assert reply(400, code, **{"invalid-event-number": 3}) == BadEvent(f"'Words' (code {code})", 3)
    assert reply(400, code) == BadEvent(f"'Words' (code {code})", None)


@pytest.mark.parametrize(
    ("status", "code"), [(403, 1), (401, 2), (401, 3), (403, 4), (400, 5), (400, 7), (400, 10), (400, 11), (400, 14)]
)
def test_what_somebody_must_change_is_refused_in_splunks_words(status: int, code: int) -> None:
    answer = reply(status, code)
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert answer.words.startswith(f"'Words' (code {code})")


@pytest.mark.parametrize(("status", "advice"), [(404, "the url"), (302, "the url"), (200, "the url"), (403, "token")])
def test_an_answer_that_is_not_splunks_is_no_success(status: int, advice: str) -> None:
    answer = read_reply(status, {}, b"<html>welcome</html>")
    assert isinstance(answer, Refused)
    assert f"HTTP {status}" in answer.words
    assert advice in answer.words


def test_too_large_is_not_a_bad_event() -> None:
    assert isinstance(read_reply(413, {}, b"too large"), TooLarge)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17.0),
        ({"retry-after": "Tue, 24 Nov 2026 10:00:30 GMT", "date": "Tue, 24 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 09:00:30 GMT", "date": "Tue, 24 Nov 2026 10:00:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_understood_as_seconds_and_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    answer = reply(503, 9, headers)
    assert isinstance(answer, Busy)
    assert answer.wait_seconds == seconds


def test_the_words_of_a_server_are_one_short_line() -> None:
    answer = reply(403, 4, text="a\n b\t" + "x" * 1_000)
    assert isinstance(answer, Refused)
    assert answer.words.startswith("'a b xxx")
    assert len(answer.words) < 250


@given(
    status=st.integers(100, 599),
    content=st.binary(max_size=40)
    | st.dictionaries(
        st.sampled_from(["code", "text", "ackId", "invalid-event-number", "acks"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        ),
    ).map(lambda answer: json.dumps(answer).encode()),
)
def test_no_reply_is_beyond_understanding(status: int, content: bytes) -> None:
    meaning = read_reply(status, {}, content)
    assert isinstance(meaning, (Taken, Busy, BadEvent, TooLarge, Refused))
    assert status == 200 or not isinstance(meaning, Taken)
    assert isinstance(read_acks(status, {}, content), (frozenset, Busy, Refused))


def test_only_true_is_an_acknowledgement() -> None:
    content = b'{"acks":{"0":true,"1":false,"2":1,"3":"true","x":true}}'
    assert read_acks(200, {}, content) == frozenset({0})


def test_acknowledgements_that_are_off_are_refused() -> None:
    answer = read_acks(400, {}, b'{"text":"ACK is disabled","code":14}')
    assert isinstance(answer, Refused)
    assert answer.code == 14
    assert "turn on indexer acknowledgement" in answer.words
