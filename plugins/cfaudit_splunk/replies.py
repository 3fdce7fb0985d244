"""A collector's reply -> what it means for the events of the request.

The codes are those of "Troubleshoot HTTP Event Collector" in Splunk's manual. Where a reply has no code, it is not
the collector's but a proxy's, and the HTTP status has to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

_TAKEN = {0, 24, 25}
_NEARLY_FULL = {24, 25}
# Refused before anything was taken: the token's own limits, full queues, a shutdown.
_BUSY = {9, 18, 19, 20, 23, 26, 27}
_INTERNAL = 8
# One event is to blame: malformed, without `event`, with a blank one, or with fields that cannot be indexed.
_BAD_EVENT = {6, 12, 13, 15}
NO_DATA = 5
ACK_IS_OFF = 14

_ADVICE = {
    1: "enable the token in Splunk",
    2: "check the token",
    3: "check the token",
    4: "check the token",
    7: "let the token write to the index, or set another index",
    16: "check the token",
    ACK_IS_OFF: "turn on indexer acknowledgement for the token, or set ack = 'auto'",
    28: "send through an endpoint with sticky sessions",
}
_MOST_WORDS = 200


@dataclass(frozen=True, slots=True)
class Taken:
    """The events are taken.

    Attributes:
        ack_id: the number under which to ask whether they are indexed; None when the token does not acknowledge.
        nearly_full: whether the collector asks for patience.
    """

    ack_id: int | None = None
    nearly_full: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """The same request may be taken later, or elsewhere.

    Attributes:
        words: what the collector said, or what happened.
        taken_perhaps: whether some of the events may have been taken nevertheless.
        wait_seconds: how long it asks to be left alone.
    """

    words: str
    taken_perhaps: bool
    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class BadEvent:
    """One event will never be taken; those before it are taken, those after it are not.

    Attributes:
        words: what the collector said.
        at: the position of the event, None when the collector did not say.
    """

    words: str
    at: int | None


@dataclass(frozen=True, slots=True)
class Stopped:
    """The collector took events up to a place and then no more; the rest may be taken later, or elsewhere.

    Attributes:
        words: what the collector said.
        at: how many events are taken, at least one.
        wait_seconds: how long it asks to be left alone.
    """

    words: str
    at: int
    wait_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Nothing was taken, because it is too much at once."""

    words: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was taken, nor will be until a person changes something.

    Attributes:
        words: what the collector said, and what to do.
        code: its number for that, None when it gave none.
    """

    words: str
    code: int | None = None


CollectorReply = Taken | Busy | Stopped | BadEvent | TooLarge | Refused


def read_reply(status: int, headers: Mapping[str, str], content: bytes) -> CollectorReply:
    """Say what the reply to events means."""
    answer = _answer(content)
    code, words = _number(answer.get("code")), _words(answer, status)
    if status == 200 and code in _TAKEN:
        return Taken(_number(answer.get("ackId")), code in _NEARLY_FULL)
    if code in _BAD_EVENT:
        return BadEvent(words, _number(answer.get("invalid-event-number")))
    if status == 413:
        return TooLarge(words)
    if code in _BUSY and (at := _number(answer.get("invalid-event-number"))):
        return Stopped(words, at, _wait_seconds(headers))
    taken_perhaps = _passing(status, code)
    if taken_perhaps is not None:
        return Busy(words, taken_perhaps, _wait_seconds(headers))
    return Refused(_advised(words, code, status), code)


def read_acks(status: int, headers: Mapping[str, str], content: bytes) -> frozenset[int] | Busy | Refused:
    """Return which of the requests asked for are acknowledged. Each `true` is said only once."""
    answer = _answer(content)
    acks = answer.get("acks")
    if status == 200 and isinstance(acks, Mapping):
        return frozenset(int(number) for number, indexed in acks.items() if indexed is True and number.isdecimal())
    reply = read_reply(status, headers, content)
    if isinstance(reply, Refused) and "code" not in answer and status not in (401, 403):
        return Busy(reply.words, taken_perhaps=True)  # a proxy's page says nothing about what was sent
    if isinstance(reply, (Busy, Refused)):
        return reply
    return Refused(_words(answer, status))


def _passing(status: int, code: int | None) -> bool | None:
    """Return None for a fault that will not pass, else whether events may have been taken nevertheless."""
    if code in _BUSY or status == 429:
        return False
    return True if code == _INTERNAL or status in (408, 425) or status >= 500 else None


def _answer(content: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(content)
    except ValueError:  # also of bytes that are no text
        return {}
    return answer if isinstance(answer, dict) else {}


def _words(answer: Mapping[str, Any], status: int) -> str:
    text = " ".join(str(answer.get("text", "")).split())[:_MOST_WORDS]
    code = _number(answer.get("code"))
    return f"'{text}' ({f'HTTP {status}' if code is None else f'code {code}'})"


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _advised(words: str, code: int | None, status: int) -> str:
    if code is not None:
        advice = _ADVICE.get(code)
    elif status in (401, 403):
        advice = "check the token"
    else:
        advice = "check the url, this is not how an HTTP Event Collector answers"
    return f"{words}; {advice}" if advice else words


def _wait_seconds(headers: Mapping[str, str]) -> float | None:
    """Read Retry-After (RFC 9110, section 10.2.3); a date counts from the reply's own, so that no clock is needed."""
    after = headers.get("retry-after", "")
    if after.isdecimal():
        return float(after)
    try:
        wait = parsedate_to_datetime(after) - parsedate_to_datetime(headers.get("date", ""))
    except (TypeError, ValueError):  # the second of a text that is no date
        return None
    return max(0.0, wait.total_seconds())
