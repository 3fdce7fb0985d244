"""Times as people say them, `yesterday lunch` or `monday 14:00-15:30`, in a time zone -> UTC, and what was understood.

A grammar of a few words, and nothing that is guessed: a day, a part of it, or both. ISO 8601 and durations such as `7d`
are understood, too. Where clocks are changed, a part of a day is as long as it can be meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from cfaudit_export.core.model import Window, floor_ms
from cfaudit_export.core.times import parse_moment

EXAMPLES = "'yesterday lunch', 'monday 14:00', '2026-11-20', '2026-11-20T08:30:00Z' or '7d' (ago)"
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# Not those of `calendar`, which are in the language of the machine.
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_PARTS = {
    "morning": (time(6), time(12)),
    "lunch": (time(11, 30), time(14)),
    "noon": (time(12), None),
    "afternoon": (time(12), time(18)),
    "evening": (time(18), time(22)),
    "night": (time(22), time(6)),
}
_ALSO = {"lunchtime": "lunch", "midday": "noon", "tonight": "night"}
_FILLERS = {"at", "on", "around", "about", "in", "the"}
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
# ISO 8601 has it, too, where a blank may stand for the T: as a time with an offset, which is hardly ever meant.
_DATE_AND_HOURS = re.compile(rf"{_DATE.pattern}\s+\d?\d:\d\d\s*-", re.ASCII)
_DAY = timedelta(days=1)
_ZONEINFO = "zoneinfo/"

_Part = tuple[time, time | None]


@dataclass(frozen=True, slots=True)
class Understood:
    """What a text means.

    Attributes:
        since: the moment, or where the period begins; UTC, on a whole millisecond.
        before: where the period ends, None for a moment.
        words: the same in words, with the time zone: `Sunday 29 November 2026, 11:30 to 14:00 (Europe/Berlin)`.
        is_spoken: whether it was said in words, so that people should be told what was understood.
    """

    since: datetime
    before: datetime | None
    words: str
    is_spoken: bool = True


def understand(text: str, now: datetime, zone: ZoneInfo) -> Understood:
    """Return what is meant by a text.

    A day without a part is the whole day, a part without a day the latest that has begun. A day of the week is the
    latest one, today included; `last` before it leaves today out. What has no offset is in the time zone. What ends
    before it begins, as `night` and `22:00-06:00`, ends on the day after.

    Args:
        text: what was typed.
        now: aware; what `today` and `7d` are counted from.
        zone: the time zone of days and of hours.

    Raises:
        ValueError: it means nothing; the text says what would.
    """
    words = text.strip().lower().replace("\N{EN DASH}", "-")
    try:
        return _written(words, now, zone) or _said(words, now, zone)
    except OverflowError:
        raise ValueError(f"'{text}' lies beyond the calendar") from None
    except _UnknownWordError as error:
        raise ValueError(f"expected a time such as {EXAMPLES}, not '{text}'{_hint(str(error))}") from None


def around(text: str, now: datetime, zone: ZoneInfo, half: timedelta | None) -> tuple[Window, Understood]:
    """Return the period around what is meant, and what was understood.

    A period is itself, unless `half` says how far to look from its middle; around a moment that is an hour.

    Raises:
        ValueError: nothing is meant.
    """
    found = understand(text, now, zone)
    middle = found.since
    if found.before is not None:
        if half is None:
            return Window(found.since, found.before), found
        middle += (found.before - found.since) / 2
    reach = timedelta(hours=1) if half is None else half
    return Window(floor_ms(middle - reach), floor_ms(middle + reach)), found


def local_zone(environ: Mapping[str, str], link: Path = Path("/etc/localtime")) -> str:
    """Return the name of the machine's time zone: that of `TZ`, else of the link that names it, else UTC."""
    for name in (environ.get("TZ", "").removeprefix(":"), _linked(link)):
        try:
            return ZoneInfo(name).key if name else _unnamed()
        except (LookupError, ValueError, OSError):
            continue
    return "UTC"


def _unnamed() -> str:
    raise LookupError


def _linked(link: Path) -> str:
    return str(link.resolve()).rpartition(_ZONEINFO)[2] if _ZONEINFO in str(link.resolve()) else ""


class _UnknownWordError(ValueError):
    """A word that means no time."""


def _hint(word: str) -> str:
    from cfaudit_export.core.suggest import nearest

    return nearest(word, ["yesterday", "today", "week", *_DAYS, *_PARTS, *_ALSO])


# -- ISO 8601 and durations --------------------------------------------------------------------------


def _written(text: str, now: datetime, zone: ZoneInfo) -> Understood | None:
    """Return what a text means that is no words: a moment, or a date, which is a day."""
    if _DATE.fullmatch(text):
        day = _date(text)
        return Understood(_first(day, zone), _first(day + _DAY, zone), _named(day, zone), is_spoken=False)
    if _DATE_AND_HOURS.match(text):
        return None
    try:
        found = parse_moment(text, now)
    except ValueError:
        return None
    if text[:4].isdecimal() and "-" in text and (naive := _naive(text)) is not None:
        found = _earliest(naive, zone)
    return _moment(found, zone, is_spoken=False)


def _naive(text: str) -> datetime | None:
    found = datetime.fromisoformat(text.upper())
    return None if found.tzinfo else found


# -- words -------------------------------------------------------------------------------------------


def _said(text: str, now: datetime, zone: ZoneInfo) -> Understood:
    words = [_ALSO.get(one, one) for one in re.sub(r"\s*(?:-|\bto\b)\s*(?=\d\d?:)", "-", text).split()]
    words = [one for one in words if one not in _FILLERS]
    today = now.astimezone(zone).date()
    if words == ["now"]:
        return _moment(floor_ms(now), zone)
    if words in (["last", "week"], ["this", "week"]):
        monday = today - today.weekday() * _DAY - (7 * _DAY if words[0] == "last" else timedelta())
        return _days(monday, monday + 6 * _DAY, zone)
    day, rest = _day(words, today)
    if not rest:
        if day is None:
            raise _UnknownWordError(text)
        return _days(day, day, zone)
    if len(rest) > 1:
        raise _UnknownWordError(rest[1])
    part = _part(rest[0])
    if day is not None:
        return _of(day, part, zone)
    found = _of(today, part, zone)
    return found if found.since <= now else _of(today - _DAY, part, zone)


def _day(words: list[str], today: date) -> tuple[date | None, list[str]]:
    """Return the day that is named first, and the words behind it."""
    if not words:
        return None, []
    is_last = words[0] == "last" and len(words) > 1
    word, *rest = words[1:] if is_last else words
    if is_last and word == "night":
        return today - _DAY, ["night", *rest]
    named = [one for one in _DAYS if word in (one, one[:3])]
    if named:
        back = (today.weekday() - _DAYS.index(named[0])) % 7
        return today - (back or 7 * is_last) * _DAY, rest
    if is_last:
        raise _UnknownWordError(word)
    if word in ("today", "yesterday"):
        return today - (word == "yesterday") * _DAY, rest
    return (_date(word), rest) if _DATE.fullmatch(word) else (None, words)


def _part(word: str) -> _Part:
    if word in _PARTS:
        return _PARTS[word]
    first, dash, last = word.partition("-")
    return _clock(first, word), _clock(last, word) if dash else None


def _clock(text: str, word: str) -> time:
    if not (found := _CLOCK.fullmatch(text)):
        raise _UnknownWordError(word)
    return time(int(found[1]), int(found[2]))


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _UnknownWordError(text) from None


# -- days and hours of a time zone -> moments --------------------------------------------------------


def _of(day: date, part: _Part, zone: ZoneInfo) -> Understood:
    first, last = part
    since = _edge(day, first, zone, min)
    if last is None:
        return _moment(_earliest(datetime.combine(day, first), zone), zone)
    before = _edge(day if last > first else day + _DAY, last, zone, max)
    words = f"{_plain(day)}, {first:%H:%M} to {last:%H:%M}{' the day after' if last <= first else ''} ({zone.key})"
    return Understood(since, before, words)


def _days(first: date, last: date, zone: ZoneInfo) -> Understood:
    words = _named(first, zone) if first == last else f"{_plain(first)} to {_plain(last)} ({zone.key})"
    return Understood(_first(first, zone), _first(last + _DAY, zone), words)


def _moment(at: datetime, zone: ZoneInfo, *, is_spoken: bool = True) -> Understood:
    local = at.astimezone(zone)
    seconds = "" if local.second == local.microsecond == 0 else f":{local:%S}"
    return Understood(floor_ms(at), None, f"{_plain(local.date())}, {local:%H:%M}{seconds} ({zone.key})", is_spoken)


def _first(day: date, zone: ZoneInfo) -> datetime:
    """Return the first moment of a day, so that days follow each other without a gap."""
    return _earliest(datetime.combine(day, time()), zone)


def _earliest(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment of a local time: the first of two, and what the clock jumps to where it is left out."""
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _edge(day: date, at: time, zone: ZoneInfo, choose: Callable[..., datetime]) -> datetime:
    """Return an end of a part of a day, chosen from two where clocks are changed."""
    local = datetime.combine(day, at)
    if at == time():
        return _earliest(local, zone)
    return choose(*(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)))


def _plain(day: date) -> str:
    return f"{_DAYS[day.weekday()].capitalize()} {day.day} {_MONTHS[day.month - 1]} {day.year}"


def _named(day: date, zone: ZoneInfo) -> str:
    return f"{_plain(day)} ({zone.key})"
