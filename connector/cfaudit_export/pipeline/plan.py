"""Checkpoint and wishes -> the windows to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from cfaudit_export.intervals import intersect, subtract, union
from cfaudit_export.model import Checkpoint, SinkProgress, Window, floor_ms

FIRST_RUN = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a run is asked for.

    Attributes:
        now: the time of planning.
        since: oldest moment wanted; None continues at the checkpoint, 30 days back without one.
        until: newest moment wanted; None, or later than that, is `settle_lag` behind now.
        settle_lag: how far behind now a run stops, because events arrive late.
    """

    now: datetime
    since: datetime | None
    until: datetime | None
    settle_lag: timedelta


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read.

    Attributes:
        wanted: from the oldest to the newest moment that will be complete; None when there is nothing to do.
        read: the windows to read, for all sinks together.
        missing: per sink, what it lacks.
        rescan: per sink, what it has and is read again for latecomers.
    """

    wanted: Window | None
    read: tuple[Window, ...]
    missing: dict[str, tuple[Window, ...]]
    rescan: dict[str, tuple[Window, ...]]


def plan_stream(checkpoint: Checkpoint | None, sinks: Iterable[str], wish: Wish) -> Plan:
    """Plan a run of one stream into these sinks."""
    settled = floor_ms(wish.now - wish.settle_lag)
    before = min(settled, floor_ms(wish.until)) if wish.until else settled
    missing, rescan = {}, {}
    for name in sinks:
        progress = checkpoint.sinks.get(name, SinkProgress()) if checkpoint else SinkProgress()
        missing[name] = _missing(progress, wish, before)
        rescan[name] = () if wish.until else _rescan(progress, before)
    read = union(*(window for windows in (*missing.values(), *rescan.values()) for window in windows))
    wanted = Window(read[0].since, read[-1].before) if read else None
    return Plan(wanted, read, missing, rescan)


def _missing(progress: SinkProgress, wish: Wish, before: datetime) -> tuple[Window, ...]:
    if wish.since:
        since = floor_ms(wish.since)
    elif progress.covered:
        since = progress.covered[0].since
    else:
        since = before - FIRST_RUN
    return subtract([Window(since, before)], progress.covered) if since < before else ()


def _rescan(progress: SinkProgress, before: datetime) -> tuple[Window, ...]:
    if progress.seen_since is None or progress.seen_since >= before:
        return ()
    return intersect([Window(progress.seen_since, before)], progress.covered)
