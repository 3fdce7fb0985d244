"""Events that a sink refused, loaded again: to the same sink, now that it may take them, or to another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from cfaudit_export.core.intervals import intersect
from cfaudit_export.core.model import EPOCH, Batch, Checkpoint, Receipt, Seen, SinkProgress, Stream, Unsealed, Window
from cfaudit_export.errors import CfauditError, ExitCode, SinkRefusedError, UsageError, worst
from cfaudit_export.pipeline.answer import load_into
from cfaudit_export.pipeline.dedup.seen import merge, pack, pack_windows
from cfaudit_export.pipeline.destination import fault
from cfaudit_export.pipeline.ledger import Change, Ledger
from cfaudit_export.pipeline.proving import unsealed_of
from cfaudit_export.pipeline.quarantine import Quarantine
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.pipeline.run_context import ManifestPlace
from cfaudit_export.pipeline.sealing import seal_rest, with_end
from cfaudit_export.pipeline.transform import Transforms
from cfaudit_export.plugin.interfaces import CheckpointStore, Sink

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplayTarget:
    """The sink that events are loaded into again, and whose refusals these are.

    Attributes:
        name: the sink's name.
        sink: the sink.
        refused_by: the sink that refused them; the same, or another.
        destination: where the sink delivers to, as it names it; None where it names nothing.
        redact: returns a text without secrets.
        manifests: where its manifests are kept, the next of which is to name what is loaded; None for none.
        transforms: what was applied to the events, for its manifests to say.
    """

    name: str
    sink: Sink
    refused_by: str
    destination: str | None = None
    redact: Callable[[str], str] = str
    manifests: ManifestPlace | None = None
    transforms: Transforms = field(default_factory=Transforms)


@dataclass(frozen=True, slots=True)
class _ReplaySealing:
    """What sealing is to know of a replay. Fits `manifests.SealingContext`."""

    stream: Stream
    manifests: Mapping[str, ManifestPlace]
    clock: Callable[[], datetime]
    request: RunRequest
    transforms: Transforms


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay of one stream did.

    Attributes:
        stream: whose events.
        refused_by: the sink that refused them.
        to: the sink that they were loaded into.
        rows: events stored.
        refused: events refused again, and quarantined for that sink.
        left: events still quarantined for the sink that refused them first.
        error: what stopped the replay early; what was stored before stays stored.
        exit_code: what the process should end with.
    """

    stream: Stream
    refused_by: str
    to: str
    rows: int = 0
    refused: int = 0
    left: int = 0
    error: str | None = None
    exit_code: ExitCode = ExitCode.OK


def replay_stream(
    aside: Quarantine,
    target: ReplayTarget,
    *,
    store: CheckpointStore,
    clock: Callable[[], datetime],
    after_load: Callable[[Batch, Receipt], None] = lambda _batch, _receipt: None,
) -> ReplayReport:
    """Load what is quarantined for one sink of a stream, and empty what was taken.

    A batch keeps its id from one attempt to the next, so that an attempt that died is no harm. What the target
    refuses is quarantined for the target.

    Args:
        aside: what is quarantined.
        target: where to.
        store: holds the checkpoint and the lock.
        clock: the time, aware and UTC.
        after_load: told of every receipt.

    Raises:
        UsageError: the target has these events from exports of its own.
        SinkRefusedError: the target would go on in another destination than it has delivered to.
        SinkError: its destination cannot be looked at now.
        StagingError: the folder cannot be read or written.
        LockedError: a run holds the stream.
    """
    with store.hold(aside.stream.id):
        ledger = Ledger(store, aside.stream)
        parts = [Ledger(store, part) for part in {aside.stream, replace(aside.stream, slice=None)}]
        for part in parts:
            _require_place(part, target)
        batches = list(_settle(aside, target, ledger, clock))
        for part in parts:
            _require_lack(part, target, batches)
        # A run that died may not have counted yet what it had quarantined.
        ledger.write(_set(target.refused_by, _at_least(aside.rows(target.refused_by))), clock())
        report = ReplayReport(aside.stream, target.refused_by, target.name)
        is_same = target.name == target.refused_by
        for batch in batches:
            try:
                receipt = load_into(target.sink, replace(batch, refused_before=is_same), target.redact)
            except CfauditError as error:
                report = replace(report, error=str(error), exit_code=error.exit_code)
                break
            after_load(batch, receipt)
            if receipt.rejected:
                aside.add(target.name, batch, receipt.rejected)
            unsealed = _unsealed(target, batch, receipt, batch.window)
            ledger.write(_replayed(aside, target, batch, len(receipt.rejected), unsealed), clock())
            aside.release(batch)
            report = replace(report, rows=report.rows + receipt.rows, refused=report.refused + len(receipt.rejected))
            _LOG.info("batch replayed", extra={"sink": target.name, "batch": batch.batch_id, "rows": receipt.rows})
        aside.sweep()
        report = _with_proof(report, target, ledger, store, clock)
        # What was quarantined on another machine is counted, and not here.
        report = replace(report, left=ledger.progress(target.refused_by).quarantined)
        incomplete = (report.left or report.refused) and not report.error
        return replace(report, exit_code=ExitCode.INCOMPLETE) if incomplete else report


def _with_proof(
    report: ReplayReport,
    target: ReplayTarget,
    ledger: Ledger,
    store: CheckpointStore,
    clock: Callable[[], datetime],
) -> ReplayReport:
    """Seal what was loaded, as a slice may never run again; where that fails, the next run or replay does."""
    if target.manifests is None or not ledger.progress(target.name).proof.unsealed:
        return report
    stream = ledger.checkpoint.stream
    sealed = _ReplaySealing(stream, {target.name: target.manifests}, clock, RunRequest(), target.transforms)
    try:
        seal_rest(sealed, {target.name: target.sink}, ledger)
        if stream.slice is not None:
            _name_end(ledger.checkpoint, target.name, store, clock)
    except CfauditError as error:
        code = worst([report.exit_code, error.exit_code])
        return replace(report, error=report.error or f"{error}; the events are delivered", exit_code=code)
    return report


def _name_end(own: Checkpoint, sink: str, store: CheckpointStore, clock: Callable[[], datetime]) -> None:
    """Have the stream's next manifest name the new end of a slice's chain, if that was taken back before."""
    whole = replace(own.stream, slice=None)
    with store.hold(whole.id):
        ledger = Ledger(store, whole)
        if own.stream.slice in ledger.checkpoint.leased:
            return  # its end is named when it is taken back
        ledger.write(_set(sink, lambda one: with_end(one, own, sink)), clock())


def discard_stream(aside: Quarantine, sink: str, *, store: CheckpointStore, clock: Callable[[], datetime]) -> int:
    """Remove what is quarantined for a sink, and count it no longer; return how many events that were.

    Also forgets what was counted and is not there: quarantined on another machine, or lost with its disk.

    Raises:
        StagingError: it cannot be removed.
        LockedError: a run holds the stream.
    """
    with store.hold(aside.stream.id):
        ledger = Ledger(store, aside.stream)
        progress = ledger.progress(sink)
        aside.discard(sink)
        ledger.write(_set(sink, lambda one: replace(one, quarantined=0)), clock())
        return progress.quarantined


def _settle(aside: Quarantine, target: ReplayTarget, ledger: Ledger, clock: Callable[[], datetime]) -> Iterator[Batch]:
    """Yield what is to be loaded; count and release the batch that a replay had loaded already when it died.

    It died before it could count the batch, if a part of it is quarantined anew, or before it could release it.
    """
    for batch in aside.held(target.refused_by):
        refused = aside.refused_again(target.name, batch)
        is_counted = ledger.progress(target.name).replayed == batch.batch_id
        if refused and not is_counted:
            lost = Receipt(batch.batch_id, batch.rows - refused, already=True)
            ledger.write(_replayed(aside, target, batch, refused, _unsealed(target, None, lost, batch.window)), clock())
        if refused or is_counted:
            aside.release(batch)
        else:
            yield batch


def _require_place(ledger: Ledger, target: ReplayTarget) -> None:
    """Refuse a place that a run would refuse, too."""
    if why := fault(ledger.progress(target.name), target.sink, target.destination):
        raise SinkRefusedError(why)


def _require_lack(ledger: Ledger, target: ReplayTarget, batches: list[Batch]) -> None:
    """Refuse a second sink that exports of its own have brought there: it would have the events twice."""
    if target.name == target.refused_by:
        return
    covered = ledger.progress(target.name).covered
    if any(intersect(covered, [batch.window]) for batch in batches):
        raise UsageError(
            f"sink '{target.name}' has these events already, from exports of its own; "
            f"to delete them from the quarantine of '{target.refused_by}', use --discard"
        )


def _known(aside: Quarantine, target: ReplayTarget, batch: Batch) -> Seen:
    """Return what another sink than the one that refused is to remember, should it be exported to itself one day.

    Of the window of the batch it has these events and lacks the others, as where there was a gap.
    """
    if target.name == target.refused_by:
        return Seen()  # it has known them since they were first given to it
    events = aside.events(batch)
    return replace(pack(events, EPOCH), gaps=pack_windows(events, [batch.window]))


def _unsealed(target: ReplayTarget, batch: Batch | None, receipt: Receipt, window: Window) -> tuple[Unsealed, ...]:
    """Return what the next manifest is to say; of a batch whose receipt was lost, no more than its rows."""
    if target.manifests is None:
        return ()
    return unsealed_of(batch, receipt, window, with_rows=bool(target.manifests.keys))


def _replayed(
    aside: Quarantine, target: ReplayTarget, batch: Batch, refused: int, unsealed: tuple[Unsealed, ...]
) -> Change:
    """Count what was taken, and what was refused again."""
    known = _known(aside, target, batch)

    def taken(one: SinkProgress) -> SinkProgress:
        return replace(one, quarantined=one.quarantined - batch.rows)

    def brought(one: SinkProgress) -> SinkProgress:
        had = {gap.window: gap.keys for gap in one.seen.gaps}
        gaps = tuple(replace(gap, keys=had.get(gap.window, "") + gap.keys) for gap in known.gaps)
        rows, quarantined = one.rows + batch.rows - refused, one.quarantined + refused
        return replace(
            one,
            rows=rows,
            quarantined=quarantined,
            seen=merge(one.seen, replace(known, gaps=gaps)),
            replayed=batch.batch_id,
            proof=replace(one.proof, unsealed=(*one.proof.unsealed, *unsealed)),
            destination=one.destination or target.destination,
        )

    return lambda checkpoint: _set(target.name, brought)(_set(target.refused_by, taken)(checkpoint))


def _at_least(count: int) -> Callable[[SinkProgress], SinkProgress]:
    return lambda one: replace(one, quarantined=max(one.quarantined, count))


def _set(sink: str, change: Callable[[SinkProgress], SinkProgress]) -> Change:
    return lambda checkpoint: replace(
        checkpoint,
        sinks={**checkpoint.sinks, sink: change(checkpoint.sinks.get(sink, SinkProgress()))},
    )
