"""The changes that a run makes to its checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import (
    Checkpoint,
    Gap,
    Intent,
    Lateness,
    Proof,
    Receipt,
    Seen,
    SinkProgress,
    Trimming,
    Unsealed,
    Window,
)
from cfaudit_export.pipeline.dedup.seen import close_gaps, forget, merge
from cfaudit_export.pipeline.dedup.trimmed import trimmed_after
from cfaudit_export.pipeline.ledger import Change


@dataclass(frozen=True, slots=True)
class LoadedWindow:
    """A window that a sink has: with the receipt of its batch, or without one when nothing in it was new.

    Attributes:
        sink: which sink.
        window: what it has.
        seen: what is to be remembered of it.
        batch_id: whose intent is kept now.
        receipt: what the sink said.
        trimming: what is trimmed, and what no longer.
        unsealed: what the next manifest is to say of the batch; None for a sink without manifests.
    """

    sink: str
    window: Window
    seen: Seen = field(default_factory=Seen)
    batch_id: str | None = None
    receipt: Receipt | None = None
    trimming: Trimming = field(default_factory=Trimming)
    unsealed: tuple[Unsealed, ...] | None = None


def intend(intents: Iterable[tuple[str, Intent]], seen_since: datetime) -> Change:
    """Promise batches to sinks.

    `seen_since` is where a sink that has no memory of keys yet starts to remember. It is written with the first
    promise, because the keys in the promise are complete from there on and from nowhere earlier.
    """

    def change(checkpoint: Checkpoint) -> Checkpoint:
        for sink, intent in intents:
            progress = checkpoint.sinks.get(sink, SinkProgress())
            promised = replace(
                progress, intents=(*progress.intents, intent), seen_since=progress.seen_since or seen_since
            )
            checkpoint = _with(checkpoint, sink, promised)
        return checkpoint

    return change


def cover(loaded: Iterable[LoadedWindow], seen_since: datetime) -> Change:
    """Say that sinks have windows: covered, keys remembered, intents gone; `seen_since` as for `intend`."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        for one in loaded:
            progress = checkpoint.sinks.get(one.sink, SinkProgress())
            checkpoint = _with(checkpoint, one.sink, _covered(progress, one, seen_since))
        return checkpoint

    return change


def _covered(progress: SinkProgress, one: LoadedWindow, seen_since: datetime) -> SinkProgress:
    progress = replace(
        progress,
        proof=_waiting(progress, one),
        covered=union(*progress.covered, one.window),
        seen_since=progress.seen_since or seen_since,
        seen=merge(close_gaps(progress.seen, one.window), one.seen),
    )
    progress = trimmed_after(progress, one.trimming)
    if one.receipt is None:
        return progress
    return replace(
        progress,
        intents=tuple(intent for intent in progress.intents if intent.batch_id != one.batch_id),
        rows=progress.rows + one.receipt.rows,
        quarantined=progress.quarantined + len(one.receipt.rejected),
    )


def _waiting(progress: SinkProgress, one: LoadedWindow) -> Proof:
    """Return what waits for the next manifest, with a window that the sink has now.

    Of time that was covered before, nothing is added: what was delivered there without manifests is in none.
    """
    proof, new = progress.proof, subtract([one.window], progress.covered)
    if one.unsealed is None:
        return replace(proof, outside=union(*proof.outside, *new))
    covered, fresh = union(*proof.covered, *new), union(*proof.fresh, *new)
    return replace(proof, covered=covered, fresh=fresh, unsealed=(*proof.unsealed, *one.unsealed))


def withdraw(sink: str, batch_id: str) -> Change:
    """Take a promise back: the batch is certainly not in the sink and will be read again."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        progress = checkpoint.sinks[sink]
        left = tuple(intent for intent in progress.intents if intent.batch_id != batch_id)
        return _with(checkpoint, sink, replace(progress, intents=left))

    return change


def observe(window: Window, gaps: Iterable[Gap], late: Lateness) -> Change:
    """Replace what was known of the gaps inside a window by what was found now, and add to the lateness."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        touched: list[Gap] = []
        kept: list[Gap] = []
        for gap in checkpoint.gaps:
            (touched if intersect([gap.window], [window]) else kept).append(gap)
        # A gap that reaches beyond the window stays there; how many of its rows do is not known.
        kept += [replace(gap, window=rest, rows=0) for gap in touched for rest in subtract([gap.window], [window])]
        found = [_again([old for old in touched if intersect([old.window], [gap.window])], gap) for gap in gaps]
        ordered = tuple(sorted([*kept, *found], key=lambda gap: gap.window))
        return replace(checkpoint, gaps=ordered, lateness=_added(checkpoint.lateness, late))

    return change


def settle_horizon(sinks: Iterable[str], seen_since: datetime) -> Change:
    """Move the rescan horizon of sinks forward once all before it has been read again, and forget older keys."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        for sink in sinks:
            progress = checkpoint.sinks.get(sink, SinkProgress())
            since = max(seen_since, progress.seen_since or seen_since)
            checkpoint = _with(checkpoint, sink, replace(progress, seen_since=since, seen=forget(progress.seen, since)))
        return checkpoint

    return change


def use_tool(fingerprint: str) -> Change:
    """Remember what the source's tool looks like."""
    return lambda checkpoint: replace(checkpoint, tool=fingerprint)


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


def _again(known: list[Gap], found: Gap) -> Gap:
    """Return a gap that was found, with what is known of those that it was found as before."""
    if not known:
        return found
    first = min(gap.first_seen_at for gap in known)
    cast = tuple(name for gap in known for name in gap.shadows)[: found.rows]
    return replace(
        found, first_seen_at=first, attempts=max(gap.attempts for gap in known) + 1, shadows=found.shadows or cast
    )
