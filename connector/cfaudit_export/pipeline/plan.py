"""Checkpoint and wishes -> the windows to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cfaudit_export.core.gaps import lacking
from cfaudit_export.core.intervals import contains, intersect, subtract, union
from cfaudit_export.core.model import EPOCH, MILLISECOND, Checkpoint, Gap, SinkProgress, Window, floor_ms
from cfaudit_export.pipeline.dedup.trimmed import to_read
from cfaudit_export.pipeline.request import RunRequest

FIRST_RUN = timedelta(days=30)
# How long a gap waits for its next try: for the first one, and so on; the last one comes again and again.
_TRIES = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=7))


How = Literal["extract", "reread", "complete"]


@dataclass(frozen=True, slots=True)
class PlanStep:
    """Windows that are read together.

    Attributes:
        windows: what is read.
        how: `extract` with columns rebuilt; `reread`, where it is likely that nothing is new, as cheaply as can be;
            `complete` what was delivered trimmed, if there are calls to spare.
        settles: the sinks whose rescan horizon may move once the windows are delivered.
    """

    windows: tuple[Window, ...]
    how: How = "extract"
    settles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read.

    Attributes:
        wanted: from the oldest to the newest moment that will be complete; None when there is nothing to do.
        read: the windows to read, for all sinks together.
        missing: per sink, what it lacks.
        rescan: per sink, what it has and is read again for latecomers.
        gaps: per sink, gaps behind the rescan horizon that are tried again, or healed while it was away.
        trimmed: per sink, what it has trimmed.
        shadowed: windows of those gaps whose rows were delivered as shadows already.
        first: the oldest millisecond of what lies before all that a sink has, ascending.
        before: where reading ends; the rescan horizon counts from here.
        bounded: whether the end or the gaps were asked for, so that the rescan horizon stays where it is.
    """

    wanted: Window | None
    read: tuple[Window, ...]
    missing: dict[str, tuple[Window, ...]]
    rescan: dict[str, tuple[Window, ...]]
    gaps: dict[str, tuple[Window, ...]]
    trimmed: dict[str, tuple[Window, ...]]
    shadowed: tuple[Window, ...]
    first: tuple[Window, ...]
    before: datetime
    bounded: bool

    def needs(self, sink: str) -> tuple[Window, ...]:
        """Return what is read for a sink."""
        return union(*self.missing[sink], *self.rescan[sink], *self.gaps[sink], *self.trimmed[sink])

    def steps(self, horizon: datetime) -> tuple[PlanStep, ...]:
        """Return the windows in the order in which calls are spent on them, and in which they must be committed.

        1. The oldest millisecond. Windows come back in any order and in pieces, and a checkpoint goes on from the
           oldest that it has: with this one, which has no pieces, a run that dies leaves holes that the next one sees.
        2. Where so much is missing that all remembered keys are older than the new horizon, what is read again:
           then the keys can go, instead of growing by all that is missing.
        3. What is new.
        4. The rest of what is read again.
        5. What was delivered trimmed, the newest first.
        6. Gaps: first those that cost a call each, then those that have no shadow yet, which may cost many.
        """
        stale = () if self.bounded else tuple(name for name in self.missing if contains(self.missing[name], horizon))
        before_horizon = Window(EPOCH, max(horizon, EPOCH + MILLISECOND))
        new = subtract(_all(self.missing), self.first)
        again = subtract(_all(self.rescan), [*self.first, *new])
        early = intersect((window for name in stale for window in self.rescan[name]), [before_horizon])
        gaps = subtract(_all(self.gaps), [*self.first, *new, *again])
        return (
            *(PlanStep((window,)) for window in self.first),
            PlanStep(intersect(new, early)),
            PlanStep(intersect(again, early), "reread", stale),
            PlanStep(subtract(new, early)),
            PlanStep(subtract(again, early), "reread", () if self.bounded else tuple(self.missing)),
            PlanStep(_all(self.trimmed), "complete"),
            PlanStep(intersect(gaps, self.shadowed), "reread"),
            PlanStep(subtract(gaps, self.shadowed)),
        )


def _all(windows: Mapping[str, Iterable[Window]]) -> tuple[Window, ...]:
    """Return the windows of all sinks together."""
    return union(*(window for some in windows.values() for window in some))


def plan_stream(checkpoint: Checkpoint | None, sinks: Iterable[str], request: RunRequest, now: datetime) -> Plan:
    """Plan a run of one stream into these sinks; `now` is the time of planning."""
    settled = floor_ms(now - request.settle_lag)
    before = min(settled, floor_ms(request.until)) if request.until else settled
    known = checkpoint.sinks if checkpoint else {}
    progress = {name: known.get(name, SinkProgress()) for name in sinks}
    if before <= EPOCH:
        return _nothing(progress)
    if request.only_gaps:
        return _only_gaps(checkpoint, progress, Window(floor_ms(request.since) if request.since else EPOCH, before))
    leased = checkpoint.leased if checkpoint else ()
    missing = {name: subtract(_missing(one, known, request, before), leased) for name, one in progress.items()}
    rescan = {name: () if request.bounded else _rescan(one, before) for name, one in progress.items()}
    gaps: dict[str, tuple[Window, ...]] = dict.fromkeys(progress, ())
    if checkpoint and not request.bounded:
        gaps = _gaps(checkpoint, progress, rescan, before, retry=request.retry, now=now)
    trimmed = {name: () if request.bounded else to_read(one) for name, one in progress.items()}
    read = union(*_all(missing), *_all(rescan), *_all(gaps))
    return Plan(
        wanted=Window(read[0].since, read[-1].before) if read else None,
        read=read,
        missing=missing,
        rescan=rescan,
        gaps=gaps,
        trimmed=trimmed,
        shadowed=_shadowed(checkpoint),
        first=tuple(sorted({at for name in progress for at in _first(missing[name], progress[name].covered)})),
        before=before,
        bounded=request.bounded,
    )


def _nothing(sinks: Iterable[str]) -> Plan:
    """Return the plan of a run to which no time at all is certain."""
    none: dict[str, tuple[Window, ...]] = dict.fromkeys(sinks, ())
    return Plan(None, (), none, none, none, none, (), (), EPOCH, bounded=True)


def _only_gaps(checkpoint: Checkpoint | None, progress: Mapping[str, SinkProgress], within: Window) -> Plan:
    gaps = {name: intersect(lacking(one), [within]) for name, one in progress.items()}
    read = _all(gaps)
    none: dict[str, tuple[Window, ...]] = dict.fromkeys(gaps, ())
    wanted = Window(read[0].since, read[-1].before) if read else None
    return Plan(wanted, read, none, none, gaps, none, _shadowed(checkpoint), (), within.before, bounded=True)


def _shadowed(checkpoint: Checkpoint | None) -> tuple[Window, ...]:
    return union(*(gap.window for gap in checkpoint.gaps if gap.shadows)) if checkpoint else ()


def _missing(
    progress: SinkProgress, known: Mapping[str, SinkProgress], request: RunRequest, before: datetime
) -> tuple[Window, ...]:
    """Return what a sink lacks; a new one beside others is to have all that they have."""
    others = (one.covered[0].since for one in known.values() if one.covered)
    if request.since:
        since = floor_ms(request.since)
    elif progress.covered:
        since = progress.covered[0].since
    else:
        since = min(others, default=before - FIRST_RUN)
    return subtract([Window(since, before)], progress.covered) if since < before else ()


def _first(missing: tuple[Window, ...], covered: tuple[Window, ...]) -> tuple[Window, ...]:
    if not missing or (covered and covered[0].since < missing[0].since):
        return ()
    return (Window(missing[0].since, missing[0].since + MILLISECOND),)


def _rescan(progress: SinkProgress, before: datetime) -> tuple[Window, ...]:
    if progress.seen_since is None or progress.seen_since >= before:
        return ()
    return intersect([Window(progress.seen_since, before)], progress.covered)


def _gaps(
    checkpoint: Checkpoint,
    sinks: Mapping[str, SinkProgress],
    rescan: Mapping[str, tuple[Window, ...]],
    before: datetime,
    *,
    retry: int,
    now: datetime,
) -> dict[str, tuple[Window, ...]]:
    """Return per sink the windows of gaps to read: some that are still open, and what healed while it was away."""
    near = _all(rescan)
    old = [gap for gap in checkpoint.gaps if not intersect([gap.window], near) and is_due(gap, now)]
    tried = [gap.window for gap in sorted(old, key=lambda gap: gap.last_tried_at)[:retry]]
    still_open = [gap.window for gap in checkpoint.gaps]
    lacked = {name: lacking(progress) for name, progress in sinks.items()}
    wanted = {
        name: union(*intersect(windows, tried), *subtract(windows, still_open)) for name, windows in lacked.items()
    }
    return {name: intersect(windows, [Window(EPOCH, before)]) for name, windows in wanted.items()}


def is_due(gap: Gap, now: datetime) -> bool:
    """Say whether it is time to try a gap again: the older it was when it was tried last, the longer that takes.

    One that was tried in the future, by a machine whose clock was ahead, is tried at once.
    """
    age = gap.last_tried_at - gap.first_seen_at
    wait = next((wait for wait in _TRIES if wait > age), _TRIES[-1])
    return not gap.attempts or gap.last_tried_at > now or now - gap.last_tried_at >= wait
