"""Conduct a run of one stream: settle what is left over, then plan -> extract -> map -> stage -> load -> commit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import RunReport, Window
from cfaudit_export.errors import CfauditError, ExitCode, worst
from cfaudit_export.pipeline.clocks import time_to_plan_by
from cfaudit_export.pipeline.commit import settle_horizon, use_tool
from cfaudit_export.pipeline.dedup.again import known_gaps, part_of, unseen_windows
from cfaudit_export.pipeline.dedup.seen import within
from cfaudit_export.pipeline.dedup.trimmed import to_read
from cfaudit_export.pipeline.deliver import Delivery, Part
from cfaudit_export.pipeline.job import Job, Progress
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.load import Outlet
from cfaudit_export.pipeline.map import map_extract, transformed
from cfaudit_export.pipeline.plan import Plan, Step, Wish, plan_stream
from cfaudit_export.pipeline.quarantine import quarantine_of
from cfaudit_export.plugin.interfaces import Completing, Extract, Rereading

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
class _Promised:
    """A window that is promised and not loaded yet."""

    window: Window
    facts: dict[str, int]
    parts: list[Part]


class _Run:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._started_at = job.clock()
        self._ledger = Ledger(job.store, job.stream)
        self._quarantine = quarantine_of(job.staging.parent, job.stream, job.store)
        self._outlets = {
            name: Outlet(name, sink, is_known=self._ledger.progress(name).rows > 0, redact=job.redact)
            for name, sink in job.sinks.items()
        }
        self._delivery = Delivery(job, self._ledger, self._outlets, self._quarantine)
        self._windows = self._events = self._calls = 0
        self._trimmed: Counter[str] = Counter()
        self._completed: Counter[str] = Counter()
        self._done = timedelta()
        self._error: CfauditError | None = None

    def conduct(self) -> RunReport:
        plan = None
        try:
            with self._job.trace("settle"):
                self._delivery.settle_leftovers()
            self._look_at_tool()
            with self._job.trace("plan") as facts:
                plan = self._plan()
                facts.update(wanted=str(plan.wanted), windows=len(plan.read))
            if plan.read or not plan.bounded:  # with nothing to read, the horizon still moves
                self._export(plan)
            self._delivery.conclude()
        except CfauditError as error:
            _LOG.error("run stopped", extra={"error": str(error)})
            self._error = error
        return self._report(plan)

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
        alive = [outlet.name for outlet in self._delivery.alive()]
        now = time_to_plan_by(self._started_at, job.connection.clock_ahead_seconds, job.source, job.settle_lag)
        wish = Wish(now, job.since, job.until, job.settle_lag, job.retry, job.only_gaps, job.latecomers)
        plan = plan_stream(self._ledger.checkpoint, alive, wish)
        _LOG.info("planned", extra={"wanted": str(plan.wanted), "windows": len(plan.read), "sinks": ",".join(alive)})
        return plan

    def _export(self, plan: Plan) -> None:
        horizon = self._job.horizon(plan.before)
        for step in plan.steps(horizon):
            if step.windows and self._delivery.alive():
                self._read(step, plan, horizon)
            complete = [name for name in step.settles if self._delivery.is_settled(self._outlets[name])]
            self._ledger.write(settle_horizon(complete, horizon), self._job.clock())

    def _read(self, step: Step, plan: Plan, horizon: datetime) -> None:
        """Read the windows of a step, and deliver each piece as it comes."""
        source, gaps = self._job.source, known_gaps(self._ledger.checkpoint)
        if step.how == "complete":
            waiting = [to_read(self._ledger.progress(outlet.name)) for outlet in self._delivery.alive()]
            windows = intersect(step.windows, (window for some in waiting for window in some))
            if windows and isinstance(source, Completing):
                self._deliver(source.complete(windows[::-1], gaps), plan, horizon)
            return
        if step.how == "extract" or not isinstance(source, Rereading):
            self._deliver(source.extract(step.windows), plan, horizon)
            return
        left = self._deliver(source.reread(step.windows, gaps, columns=False), plan, horizon, is_bare=True)
        if left and self._delivery.alive():
            self._deliver(source.reread(left, gaps, columns=True), plan, horizon)

    def _deliver(
        self, pieces: Generator[Extract, None, None], plan: Plan, horizon: datetime, *, is_bare: bool = False
    ) -> tuple[Window, ...]:
        """Deliver pieces; of bare ones not the intervals where something is new, which are returned.

        These are to be read with columns before they are delivered, as what is delivered once is not delivered again.
        """
        left: list[Window] = []
        with closing(pieces):
            while self._delivery.alive() and (extract := self._next(pieces)) is not None:
                with self._job.trace("deliver") as told:
                    told.update(window=str(extract.window), events=extract.events.num_rows)
                    table = self._mapped(extract)
                    wants = (want for _, want in self._delivery.wants(plan, horizon))
                    new = unseen_windows(table, extract.gaps, wants) if is_bare else ()
                    left += new
                    windows = subtract([extract.window], new)
                    promised = [self._promise(part_of(extract, one), within(table, [one]), plan) for one in windows]
                    del extract, table  # they are on the disk, and the sinks need memory of their own
                    for one in promised:
                        self._load(one, plan)
        return union(*left)

    def _next(self, pieces: Iterator[Extract]) -> Extract | None:
        with self._job.trace("extract") as facts:
            extract = next(pieces, None)
            if extract is not None:
                facts.update(calls=extract.calls, gaps=len(extract.gaps))
                self._calls += extract.calls
        return extract

    def _mapped(self, extract: Extract) -> pa.Table:
        with self._job.trace("map"):
            return transformed(map_extract(extract, self._job.stream, self._job.connection), self._job.transforms)

    def _promise(self, extract: Extract, table: pa.Table, plan: Plan) -> _Promised:
        facts = {"events": extract.events.num_rows, "gaps": len(extract.gaps), "calls": extract.calls}
        self._windows += 1
        self._events += extract.events.num_rows
        parts = self._delivery.promise(extract, table, plan, self._job.horizon(plan.before))
        for part in parts:
            change = part.share.trimming
            self._trimmed[part.outlet.name] += sum(one.rows for one in change.added)
            self._completed[part.outlet.name] += change.rows
        return _Promised(extract.window, facts, parts)

    def _load(self, promised: _Promised, plan: Plan) -> None:
        new = self._delivery.load(promised.parts, self._job.horizon(plan.before))
        _LOG.info("window done", extra={"window": str(promised.window), **promised.facts, "new": new})
        self._done += promised.window.duration
        wanted = sum((window.duration for window in plan.read), timedelta())
        rows = sum(outlet.rows for outlet in self._outlets.values())
        self._job.progress(Progress(min(self._done / max(wanted, self._done), 1.0), self._windows, self._events, rows))

    # -- details ------------------------------------------------------------------------------------

    def _is_refused(self, sink: str) -> bool:
        """Say whether events are quarantined for a sink, by the count or, should a replay have died, by the folder."""
        return bool(self._ledger.progress(sink).quarantined) or sink in self._quarantine.sinks()

    def _report(self, plan: Plan | None) -> RunReport:
        sinks = tuple(outlet.report() for outlet in self._outlets.values())
        checkpoint = self._ledger.checkpoint
        codes = [sink.exit_code for sink in sinks]
        if self._error:
            codes.append(self._error.exit_code)
        if checkpoint.gaps or any(map(self._is_refused, self._outlets)):
            codes.append(ExitCode.INCOMPLETE)
        left = [self._ledger.progress(name) for name in self._outlets]
        if overdue := max((one.overdue_rows(self._started_at) for one in left), default=0):
            _LOG.warning("columns are missing for more than a day", extra={"rows": overdue})
            codes += [ExitCode.INCOMPLETE] * self._job.fail_on_trimmed
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
            trimmed=max(self._trimmed.values(), default=0),
            completed=max(self._completed.values(), default=0),
            still_trimmed=max((one.trimmed_rows for one in left), default=0),
            sinks=sinks,
            gaps=checkpoint.gaps,
            error=str(self._error) if self._error else None,
            exit_code=worst(codes),
            retry_after_seconds=self._error.retry_after_seconds if self._error else None,
        )
