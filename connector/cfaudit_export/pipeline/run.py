"""Conduct a run of one stream: settle what is left over, then plan -> extract -> map -> stage -> load -> commit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from cfaudit_export.errors import CfauditError, ExitCode, PluginError, SinkError, worst
from cfaudit_export.interfaces import CheckpointStore, Extract, Sink, Source
from cfaudit_export.intervals import intersect, subtract
from cfaudit_export.model import Batch, Connection, Gap, Intent, Lateness, Receipt, RunReport, Stream, Window
from cfaudit_export.pipeline.commit import (
    Loaded,
    cover,
    intend,
    lateness_of,
    observe,
    settle_horizon,
    use_tool,
    withdraw,
)
from cfaudit_export.pipeline.filled import carry_keys, keep_filled, known_gaps, without_shadows
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.load import Outlet
from cfaudit_export.pipeline.map import map_extract
from cfaudit_export.pipeline.plan import Plan, Step, Wish, plan_stream
from cfaudit_export.pipeline.quarantine import quarantine_of
from cfaudit_export.pipeline.seen import gap_windows, pack, pack_gaps, unseen, within
from cfaudit_export.pipeline.shadows import (
    held_shadows,
    keep_shadows,
    name_shadows,
    remaining_shadows,
    replace_shadows,
)
from cfaudit_export.pipeline.stage import Staging, batch_id_of

_LOG = logging.getLogger(__name__)

# Clocks are told to the second, and replies take their time.
_AHEAD_SECONDS = 5.0

Transform = Callable[[pa.Table], pa.Table]
Trace = Callable[[str], AbstractContextManager[dict[str, Any]]]
"""Told that a step begins; the step lasts as long as the context, and puts what is to be known of it into the dict."""


def no_trace(_step: str) -> AbstractContextManager[dict[str, Any]]:
    """Trace nothing."""
    return nullcontext({})


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
        staging: folder for staged batches, of all streams; what sinks refuse for good is set aside beside it.
        clock: the time, aware and UTC.
        since: oldest moment wanted, None to continue at the checkpoint.
        until: newest moment wanted, None for as new as is settled.
        settle_lag: how far behind now to stop.
        rescan: how far back to look again for latecomers.
        retry: how many gaps behind the horizon to try again.
        only_gaps: read nothing but gaps, those between `since` and `until`.
        latecomers: look for latecomers before `until`, too.
        transforms: applied to every table of events, in order.
        after_load: told of every receipt.
        progress: told of every piece.
        trace: told of every step.
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
    retry: int = 3
    only_gaps: bool = False
    latecomers: bool = False
    transforms: tuple[Transform, ...] = ()
    after_load: Callable[[Batch, Receipt], None] = lambda _batch, _receipt: None
    progress: Callable[[Progress], None] = field(default=lambda _progress: None)
    trace: Trace = no_trace


def run_stream(job: Job) -> RunReport:
    """Run once and report. What is finished stays finished, whatever stops the run.

    Raises:
        LockedError: another run holds the stream.
        CheckpointDamagedError: the checkpoint cannot be read.
        TryAgainError: the store of the checkpoint cannot be reached.
    """
    with job.store.hold(job.stream.id):
        return conduct(job)


def conduct(job: Job) -> RunReport:
    """Run once and report, as `run_stream`, while the stream is held."""
    return _Run(job).conduct()


@dataclass(frozen=True, slots=True)
class _Part:
    """What a piece is for one sink: a window of it, and the batch of what is new there, if anything is."""

    outlet: Outlet
    window: Window
    seen: dict[str, str]
    batch: Batch | None = None
    late: Lateness = field(default_factory=Lateness)
    known: tuple[Window, ...] = ()

    def lacks(self, gap: Gap) -> bool:
        """Say whether the gap holds something that the sink is to have and has not."""
        return subtract(intersect([gap.window], [self.window]), self.known) != ()

    def intent(self) -> Iterator[tuple[str, Intent]]:
        if batch := self.batch:
            intent = Intent(batch.batch_id, batch.window, batch.rows, batch.digest, self.seen, self.late.count)
            yield self.outlet.name, intent


class _Run:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._started_at = job.clock()
        self._ledger = Ledger(job.store, job.stream)
        self._staging = Staging(job.staging / job.stream.id)
        self._quarantine = quarantine_of(job.staging.parent, job.stream)
        self._outlets = {name: Outlet(name, sink) for name, sink in job.sinks.items()}
        self._windows = self._events = self._calls = self._trimmed = 0
        self._done = timedelta()
        self._error: CfauditError | None = None

    def conduct(self) -> RunReport:
        plan = None
        try:
            with self._job.trace("settle"):
                self._settle_leftovers()
            self._look_at_tool()
            with self._job.trace("plan") as facts:
                plan = self._plan()
                facts.update(wanted=str(plan.wanted), windows=len(plan.read))
            if plan.read or not plan.bounded:  # with nothing to read, the horizon moves all the same
                self._export(plan)
        except CfauditError as error:
            _LOG.error("run stopped", extra={"error": str(error)})
            self._error = error
        return self._report(plan)

    def _alive(self) -> list[Outlet]:
        return [outlet for outlet in self._outlets.values() if not outlet.error]

    # -- what an earlier run promised ---------------------------------------------------------------

    def _settle_leftovers(self) -> None:
        for outlet in self._outlets.values():
            for intent in self._ledger.progress(outlet.name).intents:
                if not outlet.error:
                    self._settle(outlet, intent)
        self._staging.sweep(set(self._ledger.promised()))

    def _settle(self, outlet: Outlet, intent: Intent) -> None:
        """Load a promised batch again, or ask the sink for it where the staged file is lost."""
        batch = self._staging.find(intent, self._ledger.earlier)
        receipt = outlet.load(batch, intent.late_rows) if batch else outlet.find(intent)
        if receipt is not None:
            self._accept(outlet, batch, receipt)
        if outlet.error:
            return
        if receipt is None:  # neither here nor there: it never arrived, and its window is read again
            _LOG.warning("batch lost, reading again", extra={"sink": outlet.name, "batch": intent.batch_id})
            self._ledger.write(withdraw(outlet.name, intent.batch_id), self._job.clock())
            return
        loaded = Loaded(outlet.name, intent.window, intent.seen, intent.batch_id, receipt)
        self._ledger.write(cover([loaded], self._horizon(intent.window.before)), self._job.clock())

    # -- the flow -----------------------------------------------------------------------------------

    def _look_at_tool(self) -> None:
        known, found = self._ledger.checkpoint.tool, self._job.connection.tool
        was, now = self._ledger.earlier.source, self._job.stream.source
        if was != now:
            _LOG.info("going on where another source stopped", extra={"was": was, "is": now})
        elif known and known != found:
            _LOG.warning("the source's tool has changed", extra={"was": known, "is": found})
        self._ledger.write(use_tool(found), self._job.clock())

    def _plan(self) -> Plan:
        job = self._job
        alive = [outlet.name for outlet in self._alive()]
        wish = Wish(self._now(), job.since, job.until, job.settle_lag, job.retry, job.only_gaps, job.latecomers)
        plan = plan_stream(self._ledger.checkpoint, alive, wish)
        _LOG.info("planned", extra={"wanted": str(plan.wanted), "windows": len(plan.read), "sinks": ",".join(alive)})
        return plan

    def _now(self) -> datetime:
        """Return when the run is, by the server's clock where ours is ahead of it.

        What the server has not got yet must not be taken for read.
        """
        ahead = self._job.connection.clock_ahead_seconds
        if ahead <= _AHEAD_SECONDS:
            return self._started_at
        _LOG.warning("this machine's clock is ahead of the server's", extra={"seconds": round(ahead)})
        return self._started_at - timedelta(seconds=ahead)

    def _export(self, plan: Plan) -> None:
        horizon = self._horizon(plan.before)
        for step in plan.steps(horizon):
            if step.windows and self._alive():
                self._read(step, plan, horizon)
            complete = [outlet.name for outlet in self._alive() if outlet.name in step.settles]
            self._ledger.write(settle_horizon(complete, horizon), self._job.clock())

    def _read(self, step: Step, plan: Plan, horizon: datetime) -> None:
        wanted = sum((window.duration for window in plan.read), timedelta())
        with closing(self._job.source.extract(step.windows)) as pieces:
            while (extract := self._next(pieces)) is not None:
                window, facts = extract.window, _facts(extract)
                with self._job.trace("deliver") as told:
                    told.update(window=facts["window"], events=facts["events"])
                    parts = self._promise(extract, plan, horizon)
                    del extract  # it is on the disk, and the sinks need memory of their own
                    self._load(parts, facts, horizon)
                self._done += window.duration
                rows = sum(outlet.rows for outlet in self._outlets.values())
                self._job.progress(Progress(self._done / wanted, self._windows, self._events, rows))
                if not self._alive():
                    return

    def _next(self, pieces: Iterator[Extract]) -> Extract | None:
        with self._job.trace("extract") as facts:
            extract = next(pieces, None)
            if extract is not None:
                facts.update(calls=extract.calls, gaps=len(extract.gaps))
        return extract

    def _promise(self, extract: Extract, plan: Plan, horizon: datetime) -> list[_Part]:
        """Map a piece, stage what is new in it for each sink, and promise it: it is loaded, whatever happens."""
        trace = self._job.trace
        with trace("map"):
            table = self._transformed(map_extract(extract, self._job.stream, self._job.connection))
        self._windows += 1
        self._events += extract.events.num_rows
        self._calls += extract.calls
        self._trimmed += extract.trimmed
        with trace("stage") as facts:
            parts = list(self._parts(table, extract, plan, horizon))
            facts.update(rows=sum(part.batch.rows for part in parts if part.batch))
        late = max((part.late for part in parts), key=_count, default=Lateness())
        # The gaps are written with the promise: whoever settles it after a crash covers the window.
        gaps = [gap for gap in extract.gaps if _lack(parts, gap)]
        observed = observe(extract.window, name_shadows(gaps, table), late)
        promised = intend([promise for part in parts for promise in part.intent()], horizon)
        with trace("promise"):
            self._ledger.write(lambda checkpoint: promised(observed(checkpoint)), self._job.clock())
        return parts

    def _parts(self, table: pa.Table, extract: Extract, plan: Plan, horizon: datetime) -> Iterator[_Part]:
        """Yield what the piece is for each sink: only what that sink is to have, less what it has."""
        staged: list[tuple[pa.Table, Batch]] = []
        for outlet in self._alive():
            progress = self._ledger.progress(outlet.name)
            for window in intersect([extract.window], plan.wants(outlet.name)):
                rows = within(table, [window])
                known = known_gaps(progress.seen, rows, extract.gaps, window)
                new, read = self._new(without_shadows(rows, known), progress.seen, extract, window, known)
                seen = pack(new, progress.seen_since or horizon) | read
                if not new.num_rows:
                    yield _Part(outlet, window, seen, known=known)
                    continue
                # What a gap held back is no latecomer.
                late = within(new, subtract(plan.rescan[outlet.name], gap_windows(progress.seen)))
                batch = self._stage(new, window, staged)
                yield _Part(outlet, window, seen, batch, lateness_of(late, extract.read_at), known)

    def _new(
        self, rows: pa.Table, seen: dict[str, str], extract: Extract, window: Window, known: tuple[Window, ...]
    ) -> tuple[pa.Table, dict[str, str]]:
        """Return the rows that a sink lacks, and what to remember of the odd places in the window."""
        gaps = [gap for gap in extract.gaps if not intersect([gap.window], known)]
        held = held_shadows(seen, self._job.stream.account_id, window)
        remaining = remaining_shadows(held, rows, gaps)
        new = replace_shadows(unseen(rows, seen), held, remaining)
        odd = intersect([gap.window for gap in gaps], [window])
        had = (name for names in held.values() for name in names)
        read = carry_keys(seen, keep_shadows(pack_gaps(rows, odd), remaining), had)
        return new, read | keep_filled(seen, rows, extract.filled, (*odd, *known), window)

    def _stage(self, rows: pa.Table, window: Window, staged: list[tuple[pa.Table, Batch]]) -> Batch:
        """Stage rows once, however many sinks lack them."""
        for others, batch in staged:
            if all(others[name].equals(rows[name]) for name in ("event_id", "replaces")):
                return replace(batch, window=window)
        promised = self._ledger.promised()
        # A sink that is down was promised these rows; to stage them anew would change the file it was promised.
        known = promised.get(batch_id_of(rows, self._job.stream)) if promised else None
        found = self._staging.find(known, self._job.stream) if known else None
        staged.append((rows, found or self._staging.stage(rows, self._job.stream, window)))
        return replace(staged[-1][1], window=window)

    def _load(self, parts: list[_Part], facts: dict[str, Any], horizon: datetime) -> None:
        """Load the parts one sink after the other, in this thread, and only then call the piece covered.

        One after the other, because a run that is told to stop can break off a load only in its own thread, and a
        sink that fails is left alone, so that it holds the others back once at most.
        """
        loaded = []
        for part in parts:
            outlet, batch = part.outlet, part.batch
            if outlet.error:
                continue
            if batch is None:
                loaded.append(Loaded(outlet.name, part.window, part.seen))
                continue
            with self._job.trace("load") as told:
                told.update(sink=outlet.name, batch=batch.batch_id, rows=batch.rows)
                receipt = outlet.load(batch, part.late.count)
                told.update(loaded=receipt is not None)
            if receipt is not None and self._accept(outlet, batch, receipt):
                loaded.append(Loaded(outlet.name, part.window, part.seen, batch.batch_id, receipt))
        with self._job.trace("commit"):
            self._ledger.write(cover(loaded, horizon), self._job.clock())
        _LOG.info("window done", extra={**facts, "new": sum(one.receipt.rows for one in loaded if one.receipt)})
        promised = self._ledger.promised()
        for batch_id in {part.batch.batch_id for part in parts if part.batch}:
            if batch_id not in promised:
                self._staging.remove(batch_id)

    def _accept(self, outlet: Outlet, batch: Batch | None, receipt: Receipt) -> bool:
        """Set aside what the sink refused, before its batch counts as delivered; False when the sink makes no sense."""
        if receipt.rejected:
            facts = {"sink": outlet.name, "batch": receipt.batch_id, "events": len(receipt.rejected)}
            if batch is None:
                _LOG.error("events refused by the sink are lost with their staged file", extra=facts)
                return True
            try:
                self._quarantine.set_aside(outlet.name, batch, receipt.rejected)
            except SinkError as error:
                outlet.fail(error)
                return False
            _LOG.warning("events refused by the sink are set aside", extra=facts)
        if batch is not None:
            self._job.after_load(batch, receipt)
        return True

    # -- details ------------------------------------------------------------------------------------

    def _transformed(self, table: pa.Table) -> pa.Table:
        for transform in self._job.transforms:
            changed = transform(table)
            if changed.schema != table.schema:
                raise PluginError("a transform changed the schema; it may only change, drop or add values")
            table = changed
        return table

    def _horizon(self, before: datetime) -> datetime:
        """Return the whole hour from which on delivered keys are remembered."""
        return (before - self._job.rescan).replace(minute=0, second=0, microsecond=0)

    def _is_refused(self, sink: str) -> bool:
        """Say whether events are set aside for a sink, by the count or, should a replay have died, by the folder."""
        return bool(self._ledger.progress(sink).quarantined) or sink in self._quarantine.sinks()

    def _report(self, plan: Plan | None) -> RunReport:
        sinks = tuple(outlet.report() for outlet in self._outlets.values())
        checkpoint = self._ledger.checkpoint
        codes = [sink.exit_code for sink in sinks]
        if self._error:
            codes.append(self._error.exit_code)
        if checkpoint.gaps or any(map(self._is_refused, self._outlets)):
            codes.append(ExitCode.INCOMPLETE)
        if gaps := checkpoint.gaps:
            first, last = gaps[0].window.since, max(gap.window.before for gap in gaps)
            extent = {"gaps": len(gaps), "rows": sum(gap.rows for gap in gaps), "within": str(Window(first, last))}
            _LOG.warning("gaps remain", extra=extent)
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
            retry_after_seconds=self._error.retry_after_seconds if self._error else None,
        )


def _lack(parts: Iterable[_Part], gap: Gap) -> bool:
    """Say whether a gap is one for any sink; for none, where all that are to have its window know its rows."""
    concerned = [part for part in parts if intersect([gap.window], [part.window])]
    return not concerned or any(part.lacks(gap) for part in concerned)


def _facts(extract: Extract) -> dict[str, Any]:
    """Return what is to be told of a piece once it is done, and gone."""
    return {
        "window": str(extract.window),
        "events": extract.events.num_rows,
        "gaps": len(extract.gaps),
        "calls": extract.calls,
    }


def _count(lateness: Lateness) -> int:
    return lateness.count
