"""The time of an event, however it is written -> nanoseconds; and rows without any, between their neighbours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

from cfaudit_export.core.model import EPOCH
from cfaudit_export.sources.paging.query import Unreadable

UNKNOWN_BEFORE, UNKNOWN_AFTER = -1, 1 << 62  # milliseconds of an end that the page itself does not tell
_WRITTEN = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?\s*(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_NUMBER = re.compile(r"\d{9,19}(?:\.\d+)?", re.ASCII)
# Seconds, milli-, micro- or nanoseconds since 1970: what gives a year of this century.
_UNITS = (1_000_000_000, 1_000_000, 1_000, 1)
_PLAUSIBLE = range(946_684_800 * 10**9, 4_102_444_800 * 10**9)


def nanoseconds(text: str | None) -> int | None:
    """Read a time; a leap second is the one after it, and without a zone it is UTC. None for what is no time."""
    if text is None:
        return None
    if _NUMBER.fullmatch(text):
        whole, _, fraction = text.partition(".")
        found = (int(whole) * unit + int(fraction[:9].ljust(9, "0") or 0) * unit // 10**9 for unit in _UNITS)
        return next((value for value in found if value in _PLAUSIBLE), None)
    written = _WRITTEN.fullmatch(text.strip())
    if written is None:
        return None
    *date, second, fraction, sign, hours, minutes = written.groups()
    zone = timezone(timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)) if sign else UTC
    try:
        at = datetime(*map(int, date), tzinfo=zone) + timedelta(seconds=min(int(second or 0), 60))  # type: ignore[misc, arg-type]  # five numbers
    except (ValueError, OverflowError):
        return None
    return (at - EPOCH) // timedelta(microseconds=1) * 1_000 + int((fraction or "")[:9].ljust(9, "0"))


def untimed(times: Sequence[int | None], reason: str) -> tuple[Unreadable, ...]:
    """Return the stretches in which rows without a time lie: from the row before to the row behind.

    Args:
        times: nanoseconds of the rows of a page, in its order; None for those without.
        reason: why they have none.
    """
    found: list[Unreadable] = []
    for place, time in enumerate(times):
        if time is not None:
            continue
        before = next((one for one in reversed(times[:place]) if one is not None), None)
        behind = next((one for one in times[place + 1 :] if one is not None), None)
        ends = sorted(one // 1_000_000 for one in (before, behind) if one is not None)
        since = ends[0] if before is not None and ends else UNKNOWN_BEFORE
        until = ends[-1] + 1 if behind is not None and ends else UNKNOWN_AFTER
        found.append(Unreadable(since, until, 1, reason))
    return tuple(found)
