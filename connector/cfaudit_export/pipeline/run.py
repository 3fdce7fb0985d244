"""Conduct a run of one stream: settle what is left over, then plan -> extract -> map -> stage -> load -> commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from cfaudit_export.errors import CfauditError, ExitCode, PluginError, worst
from cfaudit_export.interfaces import CheckpointStore, Extract, Sink, Source
from cfaudit_export.model import (
    Batch,
    Checkpoint,
    Connection,
    Intent,
    Lateness,
    Receipt,
    RunReport,
    Stream,
    Window,
)
from cfaudit_export.pipeline.commit import (
    Ledger,
    Loaded,
    cover,
    intend,
    lateness_of,
    observe,
    settle_horizon,
    withdraw,
)
from cfaudit_export.pipeline.load import Outlet
from cfaudit_export.pipeline.map import map_extract
from cfaudit_export.pipeline.plan import Plan, Wish, plan_stream
from cfaudit_export.pipeline.seen import pack, unseen
from cfaudit_export.pipeline.stage import Staging

_LOG = logging.getLogger(__name__)

Transform = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, for whoever shows it.

    Attributes:
        covered_share: share of the time wanted that is read, from 0 to 1.
        windows: pieces read.
        events: events read.
        rows: rows delivered, all sinks together.
    """

    covered_share: float
    windows: int
    events: int
    rows: int


@dataclass(frozen=True, slots=True)
class Job:
    """All that a run of one stream needs.

    Attributes:
        stream: what to export; its account is the one that the connection found.
        connection: what `source.connect()` returned.
        source: connected.
        sinks: by name; each has its own progress.
        store: holds the checkpoint and the lock.
        staging: folder for staged batches, of all streams.
        clock: the time, aware and UTC.
        since: oldest moment wanted, None to continue at the checkpoint.
        until: newest moment wanted, None for as new as is settled.
        settle_lag: how far behind now to stop.
        rescan: how far back to look again for latecomers.
        transforms: applied to every table of new events, in order.
        after_load: told of every receipt.
        progress: told of every piece.
    """

    stream: Stream
    connection: Connection
    source: Source
    sinks: Mapping[str, Sink]
    store: CheckpointStore
    staging: Path
    clock: Callable[[], datetime]
    since: datetime | None = None
    until: datetime | None = None
    settle_lag: timedelta = timedelta(minutes=5)
    rescan: timedelta = timedelta(hours=6)
    transforms: tuple[Transform, ...] = ()
    after_load: Callable[[Batch, Receipt], None] = lambda _batch, _receipt: None
    progress: Callable[[Progress], None] = field(default=lambda _progress: None)


def run_stream(job: Job) -> RunReport:
    """Run once and report. What is finished stays finished, whatever stops the run.

    Raises:
        LockedError: another run holds the stream.
        CheckpointDamagedError: the checkpoint cannot be read.
        CheckpointConflictError: another run wrote the checkpoint.
    """
    with job.store.hold(job.stream.id):
        return _Run(job).conduct()


class _Run:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._started_at = job.clock()
        found = job.store.load(job.stream.id)
        checkpoint = found.checkpoint if found else Checkpoint(job.stream)
        self._ledger = Ledger(job.store, checkpoint, found.version if found else None)
        self._staging = Staging(job.staging / job.stream.id)
        self._outlets = {name: Outlet(name, sink) for name, sink in job.sinks.items()}
        self._windows = self._events = self._calls = self._trimmed = 0
        self._error: CfauditError | None = None

    def conduct(self) -> RunReport:
        plan = None
        try:
            self._settle_leftovers()
            plan = self._plan()
            if plan.read:
                self._export(plan)
        except CfauditError as error:
            _LOG.error("run stopped", extra={"error": str(error)})
            self._error = error
        return self._report(plan)

    # -- what an earlier run promised ---------------------------------------------------------------

    def _settle_leftovers(self) -> None:
        for outlet in self._outlets.values():
            for intent in self._ledger.progress(outlet.name).intents:
                self._settle(outlet, intent)
        promised = {
            intent.batch_id for progress in self._ledger.checkpoint.sinks.values() for intent in progress.intents
        }
        self._staging.sweep(promised)

    def _settle(self, outlet: Outlet, intent: Intent) -> None:
        if outlet.error:
            return
        batch = self._staging.find(intent, self._job.stream)
        receipt = outlet.settle(intent, batch)
        if receipt is not None:
            loaded = Loaded(outlet.name, intent.window, intent, receipt)
            self._ledger.write(cover([loaded], self._horizon(intent.window.before)), self._job.clock())
            self._observe_load(batch, receipt)
        elif not outlet.error:  # neither here nor there: it never arrived, and its window is read again
            self._ledger.write(withdraw(outlet.name, intent.batch_id), self._job.clock())

    # -- the flow -----------------------------------------------------------------------------------

    def _plan(self) -> Plan:
        job = self._job
        alive = [name for name, outlet in self._outlets.items() if not outlet.error]
        wish = Wish(self._started_at, job.since, job.until, job.settle_lag)
        plan = plan_stream(self._ledger.checkpoint, alive, wish)
        _LOG.info("planned", extra={"wanted": str(plan.wanted), "windows": len(plan.read), "sinks": ",".join(alive)})
        return plan

    def _export(self, plan: Plan) -> None:
        wanted = sum((window.duration for window in plan.read), timedelta())
        done = timedelta()
        horizon = self._horizon(plan.read[-1].before)
        with closing(self._job.source.extract(plan.read)) as pieces:
            for extract in pieces:
                self._deliver(extract, plan, horizon)
                done += extract.window.duration
                rows = sum(outlet.rows for outlet in self._outlets.values())
                self._job.progress(Progress(done / wanted, self._windows, self._events, rows))
                if all(outlet.error for outlet in self._outlets.values()):
                    return
        complete = [name for name, outlet in self._outlets.items() if not outlet.error]
        if self._job.until is None:
            self._ledger.write(settle_horizon(complete, horizon), self._job.clock())

    def _deliver(self, extract: Extract, plan: Plan, horizon: datetime) -> None:
        """Map a piece, stage what is new in it for each sink, load it, and only then call it covered."""
        job = self._job
        table = self._transformed(map_extract(extract, job.stream, job.connection))
        self._windows += 1
        self._events += table.num_rows
        self._calls += extract.calls
        self._trimmed += extract.trimmed
        batches: dict[str, tuple[Batch, Intent]] = {}
        late = Lateness()
        alive = [outlet for outlet in self._outlets.values() if not outlet.error]
        for outlet in alive:
            new = self._new_rows(outlet.name, table, plan)
            late_rows = _within(new, plan.rescan[outlet.name])
            late = max(late, lateness_of(late_rows, extract.read_at), key=lambda measured: measured.count)
            if new.num_rows:
                batch = self._staging.stage(new, job.stream, extract.window)
                since = self._ledger.progress(outlet.name).seen_since or horizon
                intent = Intent(
                    batch.batch_id, batch.window, batch.rows, batch.digest, pack(new, since), late_rows.num_rows
                )
                batches[outlet.name] = (batch, intent)
        # The gaps are written with the promise: whoever settles it after a crash covers the window.
        observed = observe(extract.window, extract.gaps, late)
        promised = intend({name: intent for name, (_, intent) in batches.items()})
        if batches or extract.gaps:
            self._ledger.write(lambda checkpoint: promised(observed(checkpoint)), job.clock())
        self._load(alive, extract, batches, horizon)

    def _load(
        self,
        outlets: list[Outlet],
        extract: Extract,
        batches: dict[str, tuple[Batch, Intent]],
        horizon: datetime,
    ) -> None:
        loaded = []
        for outlet in outlets:
            if outlet.name not in batches:
                loaded.append(Loaded(outlet.name, extract.window))
                continue
            batch, intent = batches[outlet.name]
            receipt = outlet.load(batch, intent.late_rows)
            if receipt is not None:
                loaded.append(Loaded(outlet.name, extract.window, intent, receipt))
                self._observe_load(batch, receipt)
        self._ledger.write(cover(loaded, horizon), self._job.clock())
        self._log(loaded, extract)
        promised = {
            intent.batch_id for progress in self._ledger.checkpoint.sinks.values() for intent in progress.intents
        }
        for batch, _ in batches.values():
            if batch.batch_id not in promised:
                self._staging.remove(batch.batch_id)

    def _log(self, loaded: list[Loaded], extract: Extract) -> None:
        _LOG.info(
            "window done",
            extra={
                "window": str(extract.window),
                "events": extract.events.num_rows,
                "new": sum(one.receipt.rows for one in loaded if one.receipt),
                "gaps": len(extract.gaps),
                "calls": extract.calls,
            },
        )

    # -- details ------------------------------------------------------------------------------------

    def _transformed(self, table: pa.Table) -> pa.Table:
        for transform in self._job.transforms:
            changed = transform(table)
            if changed.schema != table.schema:
                raise PluginError("a transform changed the schema; it may only change, drop or add values")
            table = changed
        return table

    def _new_rows(self, sink: str, table: pa.Table, plan: Plan) -> pa.Table:
        """Leave out what the sink has: what it does not lack, and what it was given within the horizon."""
        wanted = _within(table, (*plan.missing[sink], *plan.rescan[sink]))
        return unseen(wanted, self._ledger.progress(sink).seen)

    def _horizon(self, before: datetime) -> datetime:
        """Return the whole hour from which on delivered keys are remembered."""
        return (before - self._job.rescan).replace(minute=0, second=0, microsecond=0)

    def _observe_load(self, batch: Batch | None, receipt: Receipt) -> None:
        if batch is not None:
            self._job.after_load(batch, receipt)

    def _report(self, plan: Plan | None) -> RunReport:
        sinks = tuple(outlet.report() for outlet in self._outlets.values())
        checkpoint = self._ledger.checkpoint
        quarantined = any(checkpoint.sinks[name].quarantined for name in self._outlets if name in checkpoint.sinks)
        codes = [sink.exit_code for sink in sinks]
        if self._error:
            codes.append(self._error.exit_code)
        if checkpoint.gaps or quarantined:
            codes.append(ExitCode.INCOMPLETE)
        return RunReport(
            stream=self._job.stream,
            started_at=self._started_at,
            finished_at=self._job.clock(),
            wanted=plan.wanted if plan else None,
            windows=self._windows,
            events=self._events,
            calls=self._calls,
            trimmed=self._trimmed,
            sinks=sinks,
            gaps=checkpoint.gaps,
            error=str(self._error) if self._error else None,
            exit_code=worst(codes),
        )


def _within(table: pa.Table, windows: tuple[Window, ...]) -> pa.Table:
    """Return the rows whose time lies in one of the windows."""
    times = table["event_time"]
    inside = pa.repeat(pa.scalar(value=False), table.num_rows)
    for window in windows:
        since, before = (pa.scalar(at, times.type) for at in (window.since, window.before))
        inside = pc.or_(inside, pc.and_(pc.greater_equal(times, since), pc.less(times, before)))
    return table.filter(inside)
