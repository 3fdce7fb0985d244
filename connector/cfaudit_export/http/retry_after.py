"""How long a server asks to be left alone (RFC 9110, 10.2.3), within reason."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_SECONDS = 3_600.0
_NUMBER = re.compile(r"[0-9]{1,400}(\.[0-9]{1,400})?", re.ASCII)
_EPOCH = 1e9  # as a number of seconds more than thirty years, so a moment


def retry_after_seconds(said: str | None, now: datetime) -> float | None:
    """Return how many seconds to wait by the header `Retry-After`, an hour at most; None where it says nothing.

    The standard has whole seconds and HTTP dates. Decimals and seconds since 1970 are seen too, and mean the same.

    Args:
        said: the header's value.
        now: the time, aware, that dates count from.
    """
    text = (said or "").strip()
    if _NUMBER.fullmatch(text):
        seconds = float(text)
        if _EPOCH <= seconds < 100 * _EPOCH:
            seconds -= now.timestamp()
    else:
        moment = http_date(text)
        if moment is None:
            return None
        seconds = (moment - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST_SECONDS)


def http_date(said: str) -> datetime | None:
    """Return the moment that an HTTP date names (RFC 9110, 5.6.7), aware; None where it is none."""
    try:
        moment = parsedate_to_datetime(said)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
