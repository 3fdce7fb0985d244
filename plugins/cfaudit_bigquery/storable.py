"""JSON text -> JSON that a JSON column of BigQuery keeps without loss.

The type JSON holds values, not texts: spaces and the order of members go, which no reader misses. But it also takes
the first of two members with one name, has no number beyond 64 bits or beyond what a double gives back digit by digit,
no half of a surrogate pair, and 500 levels at most. Whatever needs one of these is kept as a JSON string that holds
the text itself, so that nothing is lost, rounded or refused: `JSON_TYPE(event_raw) = 'string'` finds it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

_LEVELS = 500
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_OTHER_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_WIDE_INTEGER = b"0" * 19


def as_storable(texts: Sequence[str | None]) -> list[msgspec.Raw | None]:
    """Return what to send for each text; none of it holds a line end."""
    return [None if text is None else msgspec.Raw(text if _compact(text) else _storable(text)) for text in texts]


def _compact(text: str) -> bool:
    """Tell whether a text comes back the same when it is read and written, which proves most of what is asked.

    It is nearly always so, and this is the fast way to know.
    """
    encoded = text.encode()
    try:
        if msgspec.json.encode(msgspec.json.decode(encoded)) != encoded:
            return False
    except (msgspec.MsgspecError, RecursionError):
        return False
    # What it does not prove: integers may have any width here, and there may be more levels.
    return _WIDE_INTEGER not in encoded.translate(_OTHER_DIGITS) and not _many_levels(text)


def _many_levels(text: str) -> bool:
    return len(text) > 2 * _LEVELS and text.count("{") + text.count("[") > _LEVELS


def _storable(text: str) -> str:
    try:
        value = json.loads(
            text, object_pairs_hook=_members, parse_int=_integer, parse_float=_double, parse_constant=_no_number
        )
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8
        kept = _levels(text) <= _LEVELS
    except (ValueError, RecursionError):
        kept = False
    # Between values a line end means nothing, and inside a string there is none.
    return text.replace("\n", " ").replace("\r", " ") if kept else msgspec.json.encode(text).decode()


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("two members with one name")
    return members


def _integer(digits: str) -> int:
    number = int(digits)
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError("more than 64 bits")
    return number


def _double(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number) or Decimal(repr(number)) != Decimal(digits):
        raise ValueError("more than a double holds")
    return number


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _levels(text: str) -> int:
    level = deepest = 0
    for bracket in re.findall(r"[\[{\]}]", _STRING.sub("", text)):
        level += 1 if bracket in "[{" else -1
        deepest = max(deepest, level)
    return deepest
