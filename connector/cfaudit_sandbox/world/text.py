"""Values -> JSON text as a JavaScript server writes it, and instants -> time texts."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import lru_cache

SECOND_NS = 1_000_000_000
NO_SECONDS = 255
"""In place of a number of fractional digits: the time is written without seconds."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d))?", re.ASCII)


def js(value: object) -> str:
    """Write a value as `JSON.stringify` does: compact, raw Unicode, lone surrogates escaped."""
    return _well_formed(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def js_pretty(value: object) -> str:
    """Write a value as `JSON.stringify(value, null, 2)` does."""
    return _well_formed(json.dumps(value, ensure_ascii=False, indent=2))


def escaped(text: str) -> str:
    """Write a text as it stands between the quotes of a JSON string."""
    return js(text)[1:-1]


def _well_formed(text: str) -> str:
    """Escape what UTF-8 cannot carry; a Python string holds no surrogate pairs, so every surrogate is lone."""
    if text.isascii():
        return text
    return _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


@lru_cache(maxsize=65_536)
def _minute(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")


def stamp(time_ns: int, digits: int = 3) -> str:
    """Write an instant in UTC with so many fractional digits (0 to 9), or with `NO_SECONDS`."""
    seconds, fraction = divmod(time_ns, SECOND_NS)
    minute, second = divmod(seconds, 60)
    if digits == 3:
        return f"{_minute(minute)}{second:02d}.{fraction // 1_000_000:03d}Z"
    if digits == NO_SECONDS:
        return f"{_minute(minute)[:-1]}Z"
    if digits == 0:
        return f"{_minute(minute)}{second:02d}Z"
    return f"{_minute(minute)}{second:02d}.{fraction:09d}"[: 20 + digits] + "Z"


def instant(text: str) -> int:
    """Read a date or an ISO 8601 time into nanoseconds since 1970.

    Raises:
        ValueError: the text is neither, or names a day or time that does not exist.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"not a date or time: {text!r}")
    day, clock, second, fraction, zone = match.groups()
    if clock is None:
        whole = datetime.fromisoformat(day).replace(tzinfo=UTC)
    else:
        whole = datetime.fromisoformat(f"{day}T{clock}:{second or '00'}{zone.replace('Z', '+00:00')}")
    return int(whole.timestamp()) * SECOND_NS + int((fraction or "0").ljust(9, "0"))
