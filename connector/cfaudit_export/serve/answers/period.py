"""What callers say of a time -> a period, and what of it was exported: the head of every answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.core.escape import shown
from cfaudit_export.core.intervals import subtract
from cfaudit_export.core.model import Window
from cfaudit_export.core.spoken import Understood, around, understand
from cfaudit_export.errors import UsageError
from cfaudit_export.serve.answers.wording import told
from cfaudit_export.serve.archive import Archive
from cfaudit_export.settings.values import OLDEST

_SHOWN = 5
_STALE = timedelta(days=1)
_SAY = {
    "complete": "exported in full",
    "incomplete": "not all of this time was exported: 'missing' and 'gaps' say what is not there",
    "not exported": "not exported: an empty answer does not mean that nothing happened",
    "unknown": "it is unknown whether this time was exported in full",
}


@dataclass(frozen=True, slots=True)
class AskedPeriod:
    """What a call is about.

    Attributes:
        period: the time.
        accounts: the accounts; none for all.
        zone: the time zone of the answer.
        words: how the time was understood.
    """

    period: Window
    accounts: tuple[str, ...]
    zone: ZoneInfo
    words: str = ""


def asked(archive: Archive, arguments: Mapping[str, Any], usual: timedelta) -> AskedPeriod:
    """Return what the arguments of a call are about; without a start the period is as long as `usual`.

    Raises:
        UsageError: a time, a zone or an account is none.
    """
    zone, about = archive.zone(arguments.get("time_zone")), archive.accounts(arguments.get("account"))
    given = {name: arguments[name] for name in ("when", "since", "before") if name in arguments}
    if "when" in given:
        if len(given) > 1:
            raise UsageError("give the time either by when, or by since and before")
        period, found = _around(given["when"], archive.now, zone)
        return AskedPeriod(period, about, zone, found.words)
    until = usual_end(archive, about)
    end = _understood("before", given["before"], archive.now, zone) if "before" in given else None
    before = _end(end) if end else until
    start = _understood("since", given["since"], archive.now if end else before, zone) if "since" in given else None
    since = max(start.since, OLDEST) if start else before - usual
    if since >= before and end is None:
        before = archive.now
    if since >= before:
        raise UsageError(
            f"since must be earlier than before, but {since.isoformat()} is not before {before.isoformat()}"
        )
    words = [f"{name}: {one.words}" for name, one in (("since", start), ("before", end)) if one and one.is_spoken]
    return AskedPeriod(Window(since, before), about, zone, "; ".join(words))


def usual_end(archive: Archive, about: Collection[str]) -> datetime:
    """Return where the export ends, if that is less than a day ago, else now: what cannot be there is not missing."""
    until = archive.exported_until(about)
    return until if until and archive.now - _STALE < until <= archive.now else archive.now


def _end(found: Understood) -> datetime:
    """Return the end that is meant: of a day that was said in words its own end, of a date its first moment."""
    return max((found.is_spoken and found.before) or found.since, OLDEST)


def _understood(name: str, text: str, now: datetime, zone: ZoneInfo) -> Understood:
    try:
        return understand(text, now, zone)
    except ValueError as error:
        raise _no_time(name, error, now, zone) from None


def _around(text: str, now: datetime, zone: ZoneInfo) -> tuple[Window, Understood]:
    try:
        return around(text, now, zone, None)
    except (ValueError, OverflowError) as error:
        raise _no_time("when", error, now, zone) from None


def _no_time(name: str, error: Exception, now: datetime, zone: ZoneInfo) -> UsageError:
    """Return the error from which a caller can correct a time."""
    return UsageError(
        f"{name}: {shown(error)} (now is {now.astimezone(zone).isoformat(timespec='seconds')}, {zone.key})"
    )


def head(archive: Archive, what: AskedPeriod) -> dict[str, Any]:
    """Return the coverage of a question as every answer begins with it."""
    found = archive.coverage(what.period, what.accounts)
    return coverage_head(found, what, archive.exported_until(what.accounts))


def coverage_head(found: Coverage, what: AskedPeriod, until: datetime | None) -> dict[str, Any]:
    """Return what was exported of a period, as an object for callers."""
    state, missing = state_of(found), found.missing
    covered = subtract((what.period,), missing) if found.streams else ()
    body = {
        "asked": what.period,
        "understood_as": what.words or None,
        "state": state,
        "say": _SAY[state] + (f" ({found.reason})" if found.reason else ""),
        "exported_until": until,
        "covered": covered[:_SHOWN],
        "missing": missing[:_SHOWN],
        "gaps": [{"window": one.window, "rows": one.rows or None, "reason": one.reason} for one in found.gaps[:_SHOWN]],
        "more_covered": max(len(covered) - _SHOWN, 0) or None,
        "more_missing": max(len(missing) - _SHOWN, 0) or None,
        "more_gaps": max(len(found.gaps) - _SHOWN, 0) or None,
    }
    answer: dict[str, Any] = told(body, what.zone)
    return answer


def state_of(found: Coverage) -> str:
    """Return the one word for how much of a period was exported."""
    if found.is_complete is None:
        return "unknown"
    if found.is_complete:
        return "complete"
    return "incomplete" if subtract((found.period,), found.missing) else "not exported"


def at_zone(archive: Archive, name: str | None, period: Window, about: Collection[str] = ()) -> AskedPeriod:
    """Return a question about a period that the caller did not name."""
    return AskedPeriod(period, tuple(about) or archive.accounts(), archive.zone(name))
