"""What people write for times and lengths of time -> aware UTC moments and timedeltas."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[wdhms])", re.ASCII)
_SHOWN = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def parse_duration(text: str) -> timedelta:
    """Return the length of time that a text such as `30s`, `12h`, `1h30m` or `7d` stands for.

    Raises:
        ValueError: it stands for none.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"expected a duration such as '30s', '12h' or '7d', not '{text}'")
    try:
        return sum((timedelta(**{_UNITS[unit]: float(number)}) for number, unit in parts), timedelta())
    except OverflowError:
        raise ValueError(f"'{text}' is too large a duration") from None


def parse_moment(given: str | date | datetime, now: datetime) -> datetime:
    """Return the UTC moment that is meant.

    Args:
        given: ISO 8601, a date (its first moment), or a duration before `now`, as in `7d` or `7d ago`. Without an
            offset it is UTC. TOML's own dates and times are taken as they are.
        now: aware; what `7d` is counted back from.

    Raises:
        ValueError: no moment is meant.
    """
    if isinstance(given, datetime):
        return _utc(given)
    if isinstance(given, date):
        return datetime.combine(given, time(), UTC)
    text = given.strip()
    try:
        if _PART.match(text):
            return now.astimezone(UTC) - parse_duration(text.removesuffix("ago").strip())
        return _utc(datetime.fromisoformat(text.upper()))
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected a time such as '2026-11-20', '2026-11-20T08:30:00Z' or '7d' (ago), not '{given}'"
        ) from None


def show_duration(length: timedelta) -> str:
    """Return a length in its two largest units, as people read it: `3d 4h`, `12m 5s`, `0s`."""
    left = max(int(length.total_seconds()), 0)
    parts = []
    for unit, seconds in _SHOWN:
        count, left = divmod(left, seconds)
        parts.append((count, unit))
    first = next((at for at, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = [f"{count}{unit}" for count, unit in parts[first : first + 2] if count]
    return " ".join(shown) or "0s"


def _utc(moment: datetime) -> datetime:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
