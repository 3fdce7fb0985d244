"""A slice of a stream: time leased to a run of its own, so that many workers can export one account at once.

lease      the stream's checkpoint says that the time is leased; no other run exports it from then on
run        an ordinary run, with a checkpoint, a lock and a staging folder of its own
release    when every sink has all of it, the stream's checkpoint covers the time as if it had been exported there

The stream itself is held only for the moments of lending and taking back. A slice that is run again after a crash
goes on where it was; one that is run again after its release finds that nothing is missing.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import (
    Checkpoint,
    Lateness,
    Proof,
    RunReport,
    SinkProgress,
    Stream,
    Window,
    floor_ms,
    iso,
)
from cfaudit_export.errors import CfauditError, LockedError, TryAgainError, worst
from cfaudit_export.pipeline.agreement import require_key
from cfaudit_export.pipeline.begun import begin, require_identity, require_same_pseudonyms
from cfaudit_export.pipeline.commit import observe
from cfaudit_export.pipeline.dedup.seen import forget, merge
from cfaudit_export.pipeline.ledger import Change, Ledger
from cfaudit_export.pipeline.run import conduct
from cfaudit_export.pipeline.run_context import RunContext
from cfaudit_export.pipeline.sealing import seal_rest, with_end
from cfaudit_export.plugin.interfaces import CheckpointStore

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LockWait:
    """How long to wait for a stream that another run holds, and how; slices hold it for moments, runs for longer."""

    seconds: float = 60.0
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], float] = time.monotonic

    @classmethod
    def within(cls, max_wait: timedelta | None) -> LockWait:
        """Return how a run waits that may wait so long."""
        return cls() if max_wait is None else cls(max_wait.total_seconds())

    def delays(self) -> Iterator[float]:
        """Yield jittered delays until the time is spent."""
        end = self.now() + self.seconds
        while (left := end - self.now()) > 0:
            yield min(left, random.uniform(0.1, 1.0))  # noqa: S311  # jitter, not a secret


def run_slice(context: RunContext, waiting: LockWait) -> RunReport:
    """Run a slice once: `context.stream` has its time, and `since` and `until` of `context.request` are its ends.

    Raises:
        LockedError: this slice or the stream is held, or part of the time is leased to a slice that is running.
        SettingsError: the stream's manifests are signed, and no key is set.
        CheckpointDamagedError: a checkpoint cannot be read.
        TryAgainError: the store of the checkpoint cannot be reached.
    """
    settled, end = floor_ms(context.clock() - context.request.settle_lag), _time_of(context.stream).before
    if settled < end:
        raise TryAgainError(
            f"slice '{context.stream.slice}' ends after '{iso(settled)}', the end of the settle lag; try again later",
            retry_after_seconds=(end - settled).total_seconds(),
        )
    with context.store.hold(context.stream.id):
        _lease(context, waiting)
        report = conduct(context)
        own = Ledger(context.store, context.stream).checkpoint
        if not _is_complete(own, context):
            return report
        try:
            _release(context, own, waiting)
        except CfauditError as error:  # the events are delivered; that the stream does not know it yet is for a retry
            return replace(report, error=str(error), exit_code=worst([report.exit_code, error.exit_code]))
        return report


def _lease(context: RunContext, waiting: LockWait) -> None:
    """Write into the stream's checkpoint whose time this is, and into the slice's what the stream has of it."""
    window = _time_of(context.stream)
    with _held(context.store, context.stream, waiting) as stream:
        ledger = Ledger(context.store, stream)
        require_identity(ledger.checkpoint, context.identity)
        require_key(context, ledger)
        require_same_pseudonyms(ledger.checkpoint, context.transforms.all)
        for other in ledger.checkpoint.leased:
            if other != window and intersect([other], [window]):
                _reclaim(context, ledger, other)
        if any(subtract([window], ledger.progress(sink).covered) for sink in context.sinks):
            begun = begin(context.identity, context.transforms.all, context.clock())
            ledger.write(
                lambda checkpoint: begun(_with_leased(checkpoint, [*checkpoint.leased, window])), context.clock()
            )
        Ledger(context.store, context.stream).write(_begin(ledger.checkpoint, window, context.sinks), context.clock())


def _reclaim(context: RunContext, ledger: Ledger, window: Window) -> None:
    """Take back what another slice has done so far, because its time is cut anew."""
    stream = replace(context.stream, slice=window)
    blocked = f"part of slice '{context.stream.slice}' is leased to slice '{window}', which"
    with ExitStack() as stack:
        try:
            stack.enter_context(context.store.hold(stream.id))
        except LockedError as error:
            raise LockedError(f"{blocked} is running; try again when it has ended") from error
        other = Ledger(context.store, stream)
        if other.promised():
            raise LockedError(f"{blocked} has pending batches; run that slice first")
        seal_rest(replace(context, stream=stream), context.sinks, other)
        ledger.write(_released(other.checkpoint), context.clock())
        other.write(_uncounted, context.clock())
    _LOG.info("slice released unfinished", extra={"slice": str(window)})


def _release(context: RunContext, own: Checkpoint, waiting: LockWait) -> None:
    with _held(context.store, context.stream, waiting) as stream:
        Ledger(context.store, stream).write(_released(own), context.clock())
    _LOG.info("slice released", extra={"slice": str(context.stream.slice)})


def _is_complete(own: Checkpoint, context: RunContext) -> bool:
    sinks = {name: own.sinks.get(name, SinkProgress()) for name in context.sinks}
    if any(one.intents or subtract([_time_of(own.stream)], one.covered) for one in sinks.values()):
        return False
    # What no manifest names yet would be named by none: the slice is run again until one does.
    return not any(sinks[name].proof.unsealed for name in context.manifests)


def _begin(stream: Checkpoint, window: Window, sinks: Iterable[str]) -> Change:
    """Let the slice know what the stream has of its time, and from where on the stream remembers keys."""

    def change(own: Checkpoint) -> Checkpoint:
        changed = dict(own.sinks)
        for name in sinks:
            progress, mine = stream.sinks.get(name, SinkProgress()), own.sinks.get(name, SinkProgress())
            covered = union(*mine.covered, *intersect([window], progress.covered))
            since = mine.seen_since or progress.seen_since
            proof = _with_outside(mine, covered)
            changed[name] = _placed(replace(mine, covered=covered, seen_since=since, proof=proof), progress)
        return replace(own, sinks=changed)

    return change


def _released(own: Checkpoint) -> Change:
    """Cover in the stream what the slice covers. Doing so again changes nothing."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        sinks = dict(checkpoint.sinks)
        gained: tuple[Window, ...] = ()
        for name, progress in own.sinks.items():
            mine = sinks.get(name, SinkProgress())
            if new := subtract(progress.covered, mine.covered):
                gained = union(*gained, *new)
                mine = _added(mine, progress)
            sinks[name] = with_end(mine, own, name)
        for window in gained:
            inside = [gap for gap in own.gaps if intersect([gap.window], [window])]
            checkpoint = observe(window, inside, Lateness())(checkpoint)
        left = [window for window in checkpoint.leased if window != own.stream.slice]
        return _with_leased(replace(checkpoint, sinks=sinks, tool=checkpoint.tool or own.tool), left)

    return change


def _uncounted(own: Checkpoint) -> Checkpoint:
    """Let a slice that goes on later count its rows anew: those so far are counted in the stream."""
    sinks = {name: replace(one, rows=0, trimmed=(), trimmed_rows=0) for name, one in own.sinks.items()}
    return replace(own, sinks=sinks)


def _added(mine: SinkProgress, progress: SinkProgress) -> SinkProgress:
    """Return what a sink has with the slice; what it refused stays with the slice, where it is quarantined."""
    since = mine.seen_since
    if since and progress.seen_since and progress.covered[-1].before > since:
        since = max(since, progress.seen_since)  # of the slice, earlier keys are not known
    seen = merge(mine.seen, progress.seen)
    taken = replace(
        mine,
        covered=union(*mine.covered, *progress.covered),
        proof=_with_outside(mine, progress.covered),
        seen=forget(seen, since) if since else seen,
        seen_since=since,
        rows=mine.rows + progress.rows,
        trimmed=tuple(sorted((*mine.trimmed, *progress.trimmed), key=lambda one: one.window)),
        trimmed_rows=mine.trimmed_rows + progress.trimmed_rows,
    )
    return _placed(taken, progress)


def _with_outside(mine: SinkProgress, covered: Iterable[Window]) -> Proof:
    """Return what the chain says, where time counts as covered that another chain says so of."""
    return replace(mine.proof, outside=union(*mine.proof.outside, *subtract(covered, mine.covered)))


def _placed(mine: SinkProgress, other: SinkProgress) -> SinkProgress:
    """Return what a sink has with where it is: the stream and its slices deliver to one place."""
    known = mine if mine.destination else other
    return replace(mine, destination=known.destination, marker=known.marker)


def _with_leased(checkpoint: Checkpoint, windows: list[Window]) -> Checkpoint:
    return replace(checkpoint, leased=tuple(sorted(set(windows))))


@contextmanager
def _held(store: CheckpointStore, part: Stream, waiting: LockWait) -> Iterator[Stream]:
    """Hold the stream that a slice is a part of; wait for it as long as `waiting` says."""
    stream = replace(part, slice=None)
    with ExitStack() as stack:
        for delay in waiting.delays():
            try:
                stack.enter_context(store.hold(stream.id))
            except LockedError:
                waiting.sleep(delay)
            else:
                break
        else:
            stack.enter_context(store.hold(stream.id))
        yield stream


def _time_of(stream: Stream) -> Window:
    assert stream.slice is not None  # noqa: S101  # only slices come here
    return stream.slice
