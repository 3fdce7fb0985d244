"""The checkpoint's changes, and the one place that writes them: nothing else moves state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.interfaces import CheckpointStore
from cfaudit_export.intervals import union
from cfaudit_export.model import Checkpoint, Gap, Intent, Lateness, Receipt, SinkProgress, Window
from cfaudit_export.pipeline.seen import forget, merge

_LATE_MINUTES = (1, 5, 15, 60, 360)


class Ledger:
    """A stream's checkpoint, open for writing. Each change is one compare-and-swap; who loses the race stops."""

    def __init__(self, store: CheckpointStore, checkpoint: Checkpoint, version: str | None) -> None:
        self._store = store
        self._version = version
        self.checkpoint = checkpoint

    def write(self, change: Callable[[Checkpoint], Checkpoint], at: datetime) -> None:
        """Apply a change and make it durable.

        Raises:
            CheckpointConflictError: another run changed the checkpoint; ours stays unwritten.
        """
        changed = replace(change(self.checkpoint), updated_at=at)
        self._version = self._store.save(changed, expected=self._version)
        self.checkpoint = changed

    def progress(self, sink: str) -> SinkProgress:
        """Return what a sink has; a new sink has nothing."""
        return self.checkpoint.sinks.get(sink, SinkProgress())


@dataclass(frozen=True, slots=True)
class Loaded:
    """A window that a sink has: with the receipt of its batch, or without one when nothing in it was new."""

    sink: str
    window: Window
    intent: Intent | None = None
    receipt: Receipt | None = None


def intend(intents: dict[str, Intent]) -> Callable[[Checkpoint], Checkpoint]:
    """Promise batches: one intent a sink."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        for sink, intent in intents.items():
            progress = checkpoint.sinks.get(sink, SinkProgress())
            checkpoint = _with(checkpoint, sink, replace(progress, intents=(*progress.intents, intent)))
        return checkpoint

    return change


def cover(loaded: Iterable[Loaded], seen_since: datetime) -> Callable[[Checkpoint], Checkpoint]:
    """Say that sinks have windows: covered, keys remembered, intents gone.

    `seen_since` is where a sink that has no memory of keys yet starts to remember.
    """

    def change(checkpoint: Checkpoint) -> Checkpoint:
        for one in loaded:
            progress = checkpoint.sinks.get(one.sink, SinkProgress())
            checkpoint = _with(checkpoint, one.sink, _covered(progress, one, seen_since))
        return checkpoint

    return change


def _covered(progress: SinkProgress, one: Loaded, seen_since: datetime) -> SinkProgress:
    progress = replace(
        progress,
        covered=union(*progress.covered, one.window),
        seen_since=progress.seen_since or seen_since,
    )
    if one.intent is None or one.receipt is None:
        return progress
    return replace(
        progress,
        seen=merge(progress.seen, one.intent.seen),
        intents=tuple(intent for intent in progress.intents if intent.batch_id != one.intent.batch_id),
        rows=progress.rows + one.receipt.rows,
        quarantined=progress.quarantined + len(one.receipt.rejected),
    )


def withdraw(sink: str, batch_id: str) -> Callable[[Checkpoint], Checkpoint]:
    """Take a promise back: the batch is certainly not in the sink and will be read again."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        progress = checkpoint.sinks[sink]
        left = tuple(intent for intent in progress.intents if intent.batch_id != batch_id)
        return _with(checkpoint, sink, replace(progress, intents=left))

    return change


def observe(window: Window, gaps: Iterable[Gap], late: Lateness) -> Callable[[Checkpoint], Checkpoint]:
    """Replace what was known of the gaps inside a window by what was found now, and add to the lateness."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        before = {gap.window: gap for gap in checkpoint.gaps}
        kept = [gap for gap in checkpoint.gaps if not _inside(gap.window, window)]
        found = [_again(before.get(gap.window), gap) for gap in gaps]
        ordered = tuple(sorted([*kept, *found], key=lambda gap: gap.window))
        return replace(checkpoint, gaps=ordered, lateness=_added(checkpoint.lateness, late))

    return change


def settle_horizon(sinks: Iterable[str], seen_since: datetime) -> Callable[[Checkpoint], Checkpoint]:
    """Move the rescan horizon forward after a run that read all of it, and forget older keys."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        for sink in sinks:
            progress = checkpoint.sinks.get(sink, SinkProgress())
            since = max(seen_since, progress.seen_since or seen_since)
            checkpoint = _with(checkpoint, sink, replace(progress, seen_since=since, seen=forget(progress.seen, since)))
        return checkpoint

    return change


def lateness_of(late: pa.Table, read_at: datetime) -> Lateness:
    """Measure how long after their own time these events were first seen."""
    if not late.num_rows:
        return Lateness()
    delays = pc.subtract(pa.scalar(read_at, late["event_time"].type), late["event_time"]).cast(pa.int64())
    seconds = pc.divide(delays.cast(pa.float64()), 1e6)
    by_minutes: dict[int, int] = {}
    for delay in seconds.to_pylist():
        minutes = next((limit for limit in _LATE_MINUTES if delay <= limit * 60), -1)
        by_minutes[minutes] = by_minutes.get(minutes, 0) + 1
    return Lateness(late.num_rows, round(pc.max(seconds).as_py(), 3), by_minutes)


def _added(one: Lateness, other: Lateness) -> Lateness:
    if not other.count:
        return one
    minutes = {
        key: one.by_minutes.get(key, 0) + other.by_minutes.get(key, 0)
        for key in sorted({*one.by_minutes, *other.by_minutes})
    }
    return Lateness(one.count + other.count, max(one.max_seconds, other.max_seconds), minutes)


def _with(checkpoint: Checkpoint, sink: str, progress: SinkProgress) -> Checkpoint:
    return replace(checkpoint, sinks={**checkpoint.sinks, sink: progress})


def _inside(inner: Window, outer: Window) -> bool:
    return outer.since <= inner.since and inner.before <= outer.before


def _again(known: Gap | None, found: Gap) -> Gap:
    if known is None:
        return found
    return replace(found, first_seen_at=known.first_seen_at, attempts=known.attempts + 1)
