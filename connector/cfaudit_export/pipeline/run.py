"""Conduct a run of one stream: settle what is left over, then plan -> extract -> map -> stage -> load -> commit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from cfaudit_export.core.gaps import open_gaps
from cfaudit_export.core.intervals import intersect, subtract, union
from cfaudit_export.core.model import RunReport, Window
from cfaudit_export.errors import CfauditError, ExitCode, worst
from cfaudit_export.pipeline.begun import begin, require_identity, require_same_pseudonyms, say_notes
from cfaudit_export.pipeline.clocks import time_to_plan_by
from cfaudit_export.pipeline.commit import settle_horizon, use_tool
from cfaudit_export.pipeline.dedup.again import known_gaps, part_of, unseen_windows
from cfaudit_export.pipeline.dedup.seen import within
from cfaudit_export.pipeline.dedup.trimmed import to_read
from cfaudit_export.pipeline.deliver import Delivery, SinkPart
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.load import SinkRun
from cfaudit_export.pipeline.map import map_extract
from cfaudit_export.pipeline.plan import Plan, PlanStep, plan_stream
from cfaudit_export.pipeline.quarantine import quarantine_of
from cfaudit_export.pipeline.run_context import RunContext, RunProgress
from cfaudit_export.pipeline.sealing import Sealing
from cfaudit_export.pipeline.transform import transformed
from cfaudit_export.plugin.interfaces import Completing, Extract, Rereading
from cfaudit_export.proof.manifest import ReadEntry

_LOG = logging.getLogger(__name__)


def run_stream(context: RunContext) -> RunReport:
    """Run once and report. What is finished stays finished, whatever stops the run.

    Raises:
        LockedError: another run holds the stream.
        CheckpointDamagedError: the checkpoint cannot be read.
        TryAgainError: the store of the checkpoint cannot be reached.
    """
    with context.store.hold(context.stream.id):
        return conduct(context)


def conduct(context: RunContext) -> RunReport:
    """Run once and report, as `run_stream`, while the stream is held."""
    return _Run(context).conduct()


@dataclass(frozen=True, slots=True)
class _Promised:
    """A window that is promised and not loaded yet."""

    window: Window
    facts: dict[str, int]
    parts: list[SinkPart]


class _Run:
    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._started_at = context.clock()
        self._ledger = Ledger(context.store, context.stream)
        self._quarantine = quarantine_of(context.staging.parent, context.stream, context.store)
        self._sink_runs = {
            name: SinkRun(name, sink, is_known=self._ledger.progress(name).rows > 0, redact=context.redact)
            for name, sink in context.sinks.items()
        }
        self._delivery = Delivery(context, self._ledger, self._sink_runs, self._quarantine)
        self._sealing = Sealing(context, self._ledger, self._sink_runs)
        self._windows = self._events = self._calls = 0
        self._trimmed: Counter[str] = Counter()
        self._completed: Counter[str] = Counter()
        self._done = timedelta()
        self._error: CfauditError | None = None

    def conduct(self) -> RunReport:
        plan = None
        try:
            require_identity(self._ledger.checkpoint, self._context.identity)
            require_same_pseudonyms(self._ledger.checkpoint, self._context.transforms.all)
            with self._context.trace("settle"):
                self._delivery.refuse_other_places()
                self._sealing.compare()
                self._delivery.settle_leftovers()
                self._sealing.finish(None)
            self._look_at_tool()
            with self._context.trace("plan") as facts:
                plan = self._plan()
                facts.update(wanted=str(plan.wanted), windows=len(plan.read))
            if plan.read or not plan.bounded:  # with nothing to read, the horizon still moves
                self._export(plan)
            self._delivery.conclude()
        except CfauditError as error:
            self._stop(error)
        try:
            with self._context.trace("seal"):
                self._sealing.finish(self._read_entry(plan) if plan and not self._error else None)
        except CfauditError as error:
            self._stop(error)
        return self._report(plan)

    # -- the flow -----------------------------------------------------------------------------------

    def _look_at_tool(self) -> None:
        known, found = self._ledger.checkpoint.tool, self._context.connection.tool
        was, now = self._ledger.earlier.source, self._context.stream.source
        if was != now:
            _LOG.info("continuing where another source stopped", extra={"was": was, "is": now})
        elif known and known != found:
            _LOG.warning("the source's tool has changed", extra={"was": known, "is": found})
        begun = begin(self._context.identity, self._context.transforms.all, self._started_at)
        self._ledger.write(lambda checkpoint: begun(use_tool(found)(checkpoint)), self._context.clock())

    def _plan(self) -> Plan:
        context = self._context
        alive = [sink_run.name for sink_run in self._delivery.alive()]
        now = time_to_plan_by(
            self._started_at, context.connection.clock_ahead_seconds, context.source, context.request.settle_lag
        )
        plan = plan_stream(self._ledger.checkpoint, alive, context.request, now)
        _LOG.info("planned", extra={"wanted": str(plan.wanted), "windows": len(plan.read), "sinks": ",".join(alive)})
        return plan

    def _export(self, plan: Plan) -> None:
        horizon = self._context.horizon(plan.before)
        for step in plan.steps(horizon):
            if step.windows and self._delivery.alive():
                self._read(step, plan, horizon)
            complete = [name for name in step.settles if self._delivery.is_settled(self._sink_runs[name])]
            self._ledger.write(settle_horizon(complete, horizon), self._context.clock())

    def _read(self, step: PlanStep, plan: Plan, horizon: datetime) -> None:
        """Read the windows of a step, and deliver each piece as it comes."""
        source, gaps = self._context.source, known_gaps(self._ledger.checkpoint)
        if step.how == "complete":
            waiting = [to_read(self._ledger.progress(sink_run.name)) for sink_run in self._delivery.alive()]
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
                with self._context.trace("deliver") as told:
                    told.update(window=str(extract.window), events=extract.events.num_rows)
                    table = self._mapped(extract)
                    needs = (need for _, need in self._delivery.needs(plan, horizon))
                    new = unseen_windows(table, extract.gaps, needs) if is_bare else ()
                    left += new
                    windows = subtract([extract.window], new)
                    promised = [self._promise(part_of(extract, one), within(table, [one]), plan) for one in windows]
                    del extract, table  # they are on the disk, and the sinks need memory of their own
                    for one in promised:
                        self._load(one, plan)
        return union(*left)

    def _next(self, pieces: Iterator[Extract]) -> Extract | None:
        with self._context.trace("extract") as facts:
            extract = next(pieces, None)
            if extract is not None:
                facts.update(calls=extract.calls, gaps=len(extract.gaps))
                self._calls += extract.calls
        return extract

    def _mapped(self, extract: Extract) -> pa.Table:
        with self._context.trace("map"):
            context = self._context
            mapped = map_extract(extract, context.stream, context.connection, context.identity)
            return transformed(mapped, context.transforms.of_run)

    def _promise(self, extract: Extract, table: pa.Table, plan: Plan) -> _Promised:
        facts = {"events": extract.events.num_rows, "gaps": len(extract.gaps), "calls": extract.calls}
        self._windows += 1
        self._events += extract.events.num_rows
        parts = self._delivery.promise(extract, table, plan, self._context.horizon(plan.before))
        for part in parts:
            change = part.new_rows.trimming
            self._trimmed[part.sink_run.name] += sum(one.rows for one in change.added)
            self._completed[part.sink_run.name] += change.rows
        return _Promised(extract.window, facts, parts)

    def _load(self, promised: _Promised, plan: Plan) -> None:
        new = self._delivery.load(promised.parts, self._context.horizon(plan.before))
        self._sealing.seal_due()
        _LOG.info("window done", extra={"window": str(promised.window), **promised.facts, "new": new})
        self._done += promised.window.duration
        wanted = sum((window.duration for window in plan.read), timedelta())
        rows = sum(sink_run.rows for sink_run in self._sink_runs.values())
        self._context.progress(
            RunProgress(min(self._done / max(wanted, self._done), 1.0), self._windows, self._events, rows)
        )

    def _stop(self, error: CfauditError) -> None:
        _LOG.error("run stopped", extra={"error": str(error)})
        self._error = self._error or error

    def _read_entry(self, plan: Plan) -> ReadEntry:
        """Return what the manifest says of what was read."""
        context, wanted = self._context, plan.wanted
        return ReadEntry(
            wanted.since if wanted else None,
            wanted.before if wanted else None,
            context.request.settle_lag,
            context.request.rescan,
            context.connection.clock_ahead_seconds,
        )

    # -- details ------------------------------------------------------------------------------------

    def _is_refused(self, sink: str) -> bool:
        """Say whether events are quarantined for a sink, by the count or, should a replay have died, by the folder."""
        return bool(self._ledger.progress(sink).quarantined) or sink in self._quarantine.sinks()

    def _report(self, plan: Plan | None) -> RunReport:
        sinks = tuple(sink_run.report() for sink_run in self._sink_runs.values())
        gaps = open_gaps(self._ledger.checkpoint, self._sink_runs)
        codes = [sink.exit_code for sink in sinks]
        say_notes(self._context.transforms.all)
        if self._error:
            codes.append(self._error.exit_code)
        if gaps or any(map(self._is_refused, self._sink_runs)):
            codes.append(ExitCode.INCOMPLETE)
        left = [self._ledger.progress(name) for name in self._sink_runs]
        if overdue := max((one.overdue_rows(self._started_at) for one in left), default=0):
            _LOG.warning("columns are missing for more than a day", extra={"rows": overdue})
            codes += [ExitCode.INCOMPLETE] * self._context.request.fail_on_trimmed
        if gaps:
            first, last = gaps[0].window.since, max(gap.window.before for gap in gaps)
            extent = {"gaps": len(gaps), "rows": sum(gap.rows for gap in gaps), "within": str(Window(first, last))}
            _LOG.warning("gaps remain", extra=extent)
        return RunReport(
            stream=self._context.stream,
            started_at=self._started_at,
            finished_at=self._context.clock(),
            wanted=plan.wanted if plan else None,
            windows=self._windows,
            events=self._events,
            calls=self._calls,
            trimmed=max(self._trimmed.values(), default=0),
            completed=max(self._completed.values(), default=0),
            still_trimmed=max((one.trimmed_rows for one in left), default=0),
            sinks=sinks,
            gaps=gaps,
            error=str(self._error) if self._error else None,
            exit_code=worst(codes),
            retry_after_seconds=self._error.retry_after_seconds if self._error else None,
        )
