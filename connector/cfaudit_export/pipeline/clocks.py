"""Two clocks that differ -> the time that a run plans by, which no evidence contradicts.

A run takes the time up to its end for read. An end that lies in the future loses the events that come later, and an end
that lies far back looks like a finished export without being one. So where the clocks differ by much, neither is
believed: the run plans by the server's, or by the newest event of the log where that is later. So it does where the
server does not tell its time: then ours has no other, and only the newest event is certain. A clock of ours that is
behind delays events and loses none.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from cfaudit_export.core.model import EPOCH, MILLISECOND, Window, floor_ms
from cfaudit_export.errors import SourceUnavailableError
from cfaudit_export.plugin.interfaces import Dating, Source

_LOG = logging.getLogger(__name__)

# Clocks are told to the second, and replies take their time.
_AHEAD = timedelta(seconds=5)
# Clocks that differ by more are not both right.
_BROKEN = timedelta(hours=1)
# Beyond, a source that cannot date its newest event is not read at all: no wrong time zone explains it.
_MEANINGLESS = timedelta(days=1, minutes=1)
# Audit logs are kept for 18 months: before that, no event tells anything.
_KEPT = timedelta(days=550)


def time_to_plan_by(ours: datetime, ahead_seconds: float | None, source: Source, settle_lag: timedelta) -> datetime:
    """Return the latest time up to which a run may plan.

    Args:
        ours: the time by our clock.
        ahead_seconds: how far it is ahead of the server's; negative for behind, 0 where there is no other clock, None
            where the server does not tell its time.
        source: connected; asked for its newest event where that is None, or more than an hour.
        settle_lag: how far behind the result the run will stop.

    Raises:
        SourceUnavailableError: our clock is more than a day ahead, or may be, and the source cannot date its newest
            event.
        TryAgainError, AccessError, ProtocolError: the source does not answer.
    """
    if ahead_seconds is None:
        certain = _proven(ours, EPOCH, source, settle_lag)
        _LOG.warning(
            "the server does not tell its time, so events are read up to the newest one, and later time stays open; "
            "let the 'Date' header of its replies pass",
            extra={"certain": str(certain) if certain > EPOCH else None},
        )
        return certain
    ahead = timedelta(seconds=ahead_seconds)
    if ahead <= _AHEAD:
        return ours
    if ahead <= _BROKEN:
        _LOG.warning("this machine's clock is ahead of the server's", extra={"seconds": round(ahead_seconds)})
        return ours - ahead
    theirs = ours - min(ahead, ours - EPOCH)
    certain = max(theirs, _proven(ours, theirs, source, settle_lag))
    _LOG.warning(
        "this machine's clock is ahead of the server's, and one of them is wrong; events are read up to the time that "
        "is certain; correct the clock, or the 'Date' header that a proxy sends",
        extra={"seconds": round(ahead_seconds), "server": str(theirs), "certain": str(certain)},
    )
    return certain


def _proven(ours: datetime, theirs: datetime, source: Source, settle_lag: timedelta) -> datetime:
    """Return the time that the newest event between two clocks proves, with the settle lag that a run takes off."""
    if isinstance(source, Dating):
        end = floor_ms(ours)
        start = floor_ms(max(theirs, ours - _KEPT))
        newest = source.newest_time(Window(start, end))
        if newest is None and theirs == EPOCH < start:  # our clock may be years ahead
            newest = source.newest_time(Window(EPOCH, start))
        return theirs if newest is None else min(newest + MILLISECOND + settle_lag, ours)
    if ours - theirs <= _MEANINGLESS:
        return theirs
    how_far = f"is {(ours - theirs).days} days ahead of the server's" if theirs > EPOCH else "cannot be compared"
    raise SourceUnavailableError(
        f"this machine's clock {how_far}, and the source does not show which one is wrong; correct this machine's "
        "clock, or the 'Date' header that a proxy sends or removes, and run again"
    )
