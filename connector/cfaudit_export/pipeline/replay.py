"""Events that a sink refused, loaded again: to the same sink, now that it may take them, or to another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cfaudit_export.errors import LoadUnknownError
from cfaudit_export.interfaces import CheckpointStore, Sink
from cfaudit_export.model import Batch, Checkpoint, Receipt, SinkProgress, Stream
from cfaudit_export.pipeline.ledger import Change, Ledger
from cfaudit_export.pipeline.quarantine import Quarantine

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """The sink that events are loaded into again, and whose refusals these are.

    Attributes:
        name: the sink's name.
        sink: the sink.
        refused_by: the sink that refused them; the same, or another.
    """

    name: str
    sink: Sink
    refused_by: str


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay of one stream did: events stored, refused again, and still set aside for that sink."""

    stream: Stream
    rows: int = 0
    refused: int = 0
    left: int = 0


def replay_stream(
    stream: Stream,
    target: Target,
    *,
    store: CheckpointStore,
    quarantine: Path,
    clock: Callable[[], datetime],
    after_load: Callable[[Batch, Receipt], None] = lambda _batch, _receipt: None,
) -> ReplayReport:
    """Load what is set aside for one sink of a stream, and empty what was taken.

    A batch keeps its id from one attempt to the next, so that an attempt that died is no harm. What the target
    refuses is set aside for the target.

    Args:
        stream: whose events.
        target: where to.
        store: holds the checkpoint and the lock.
        quarantine: the folder of all streams.
        clock: the time, aware and UTC.
        after_load: told of every receipt.

    Raises:
        SinkError: the target cannot take a batch; what was taken before stays taken.
        StagingError: the folder cannot be read or written.
        LockedError: a run holds the stream.
    """
    aside = Quarantine(quarantine / stream.id, stream)
    with store.hold(stream.id):
        ledger = Ledger(store, stream)
        report = ReplayReport(stream)
        for batch in list(aside.held(target.refused_by)):
            receipt = target.sink.load(batch)
            if receipt.rows + len(receipt.rejected) != batch.rows:
                raise LoadUnknownError(f"sink '{target.name}' does not answer for every event of '{batch.batch_id}'")
            after_load(batch, receipt)
            if receipt.rejected:
                aside.set_aside(target.name, batch, receipt.rejected)
            ledger.write(_replayed(target, receipt), clock())
            aside.release(batch)
            report = replace(report, rows=report.rows + receipt.rows, refused=report.refused + len(receipt.rejected))
            _LOG.info("batch replayed", extra={"sink": target.name, "batch": batch.batch_id, "rows": receipt.rows})
        return replace(report, left=aside.rows(target.refused_by))


def _replayed(target: Target, receipt: Receipt) -> Change:
    """Count what was taken, and what was refused again. A replay that died may be counted twice: never below zero."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        sinks = dict(checkpoint.sinks)
        refused = len(receipt.rejected)
        from_ = sinks.get(target.refused_by, SinkProgress())
        taken = receipt.rows + refused
        sinks[target.refused_by] = replace(from_, quarantined=max(0, from_.quarantined - taken))
        to = sinks.get(target.name, SinkProgress())
        sinks[target.name] = replace(to, rows=to.rows + receipt.rows, quarantined=to.quarantined + refused)
        return replace(checkpoint, sinks=sinks)

    return change
