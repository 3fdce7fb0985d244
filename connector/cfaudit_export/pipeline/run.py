"""Conduct a run of one stream: settle what is left over, then plan -> extract -> map -> stage -> load -> commit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa

from cfaudit_export.errors import CfauditError, ExitCode, SinkError, worst
from cfaudit_export.interfaces import Extract
from cfaudit_export.model import Batch, Intent, Lateness, Receipt, RunReport, Window
from cfaudit_export.pipeline.commit import Loaded, cover, intend, observe, settle_horizon, use_tool, withdraw
from cfaudit_export.pipeline.job import Job, Progress
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.load import Outlet
from cfaudit_export.pipeline.map import map_extract, transformed
from cfaudit_export.pipeline.plan import Plan, Step, Wish, plan_stream, server_time
from cfaudit_export.pipeline.quarantine import quarantine_of
from cfaudit_export.pipeline.shadows import name_shadows
from cfaudit_export.pipeline.share import Share, Want, is_lacked, shares_of
from cfaudit_export.pipeline.stage import Staging

_LOG = logging.getLogger(__name__)


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
    """A sink's share of a piece, and the batch of what is new there, if anything is."""

    outlet: Outlet
    share: Share
    batch: Batch | None

    def intent(self) -> Iterator[tuple[str, Intent]]:
        if batch := self.batch:
            share = self.share
            intent = Intent(batch.batch_id, batch.window, batch.rows, batch.digest, share.seen, share.late.count)
            yield self.outlet.name, intent

    def loaded(self, receipt: Receipt | None) -> Loaded:
        batch_id = self.batch.batch_id if self.batch else None
        return Loaded(self.outlet.name, self.share.window, self.share.seen, batch_id, receipt)


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
        now = server_time(self._started_at, job.connection.clock_ahead_seconds)
        wish = Wish(now, job.since, job.until, job.settle_lag, job.retry, job.only_gaps, job.latecomers)
        plan = plan_stream(self._ledger.checkpoint, alive, wish)
        _LOG.info("planned", extra={"wanted": str(plan.wanted), "windows": len(plan.read), "sinks": ",".join(alive)})
        return plan

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
                window = extract.window
                facts = {"events": extract.events.num_rows, "gaps": len(extract.gaps), "calls": extract.calls}
                with self._job.trace("deliver") as told:
                    told.update(window=str(window), events=facts["events"])
                    parts = self._promise(extract, plan, horizon)
                    del extract  # it is on the disk, and the sinks need memory of their own
                    new = self._load(parts, horizon)
                _LOG.info("window done", extra={"window": str(window), **facts, "new": new})
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
            table = transformed(map_extract(extract, self._job.stream, self._job.connection), self._job.transforms)
        self._windows += 1
        self._events += extract.events.num_rows
        self._calls += extract.calls
        self._trimmed += extract.trimmed
        with trace("stage") as facts:
            parts = list(self._parts(table, extract, plan, horizon))
            facts.update(rows=sum(part.batch.rows for part in parts if part.batch))
        shares = [part.share for part in parts]
        late = max((share.late for share in shares), key=lambda late: late.count, default=Lateness())
        # The gaps are written with the promise: whoever settles it after a crash covers the window.
        gaps = [gap for gap in extract.gaps if is_lacked(shares, gap)]
        observed = observe(extract.window, name_shadows(gaps, table), late)
        promised = intend([promise for part in parts for promise in part.intent()], horizon)
        with trace("promise"):
            self._ledger.write(lambda checkpoint: promised(observed(checkpoint)), self._job.clock())
        return parts

    def _parts(self, table: pa.Table, extract: Extract, plan: Plan, horizon: datetime) -> Iterator[_Part]:
        staged: list[tuple[pa.Table, Batch]] = []
        for outlet in self._alive():
            progress, rescan = self._ledger.progress(outlet.name), plan.rescan[outlet.name]
            want = Want(self._job.stream.account_id, plan.wants(outlet.name), rescan, progress, horizon)
            for share, new in shares_of(table, extract, want):
                yield _Part(outlet, share, self._stage(new, share.window, staged) if new.num_rows else None)

    def _stage(self, rows: pa.Table, window: Window, staged: list[tuple[pa.Table, Batch]]) -> Batch:
        """Stage rows once, however many sinks lack them."""
        for others, known in staged:
            if all(others[name].equals(rows[name]) for name in ("event_id", "replaces")):
                return replace(known, window=window)
        batch = self._staging.stage(rows, self._job.stream, window, self._ledger.promised())
        staged.append((rows, batch))
        return batch

    def _load(self, parts: list[_Part], horizon: datetime) -> int:
        """Load the parts, only then call the piece covered, and return how many rows were taken by all sinks together.

        One sink after the other, in this thread, because a run that is told to stop can break off a load only in its
        own thread, and a sink that fails is left alone, so that it holds the others back once at most.
        """
        loaded = []
        for part in parts:
            outlet, batch = part.outlet, part.batch
            if outlet.error:
                continue
            if batch is None:
                loaded.append(part.loaded(None))
                continue
            with self._job.trace("load") as told:
                told.update(sink=outlet.name, batch=batch.batch_id, rows=batch.rows)
                receipt = outlet.load(batch, part.share.late.count)
                told.update(loaded=receipt is not None)
            if receipt is not None and self._accept(outlet, batch, receipt):
                loaded.append(part.loaded(receipt))
        with self._job.trace("commit"):
            self._ledger.write(cover(loaded, horizon), self._job.clock())
        promised = self._ledger.promised()
        for batch_id in {part.batch.batch_id for part in parts if part.batch}:
            if batch_id not in promised:
                self._staging.remove(batch_id)
        return sum(one.receipt.rows for one in loaded if one.receipt)

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
