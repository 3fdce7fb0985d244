"""A piece -> every sink has its share of it: mapped, staged, promised, loaded, covered."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from cfaudit_export.core.intervals import subtract
from cfaudit_export.core.model import Batch, Intent, Lateness, Receipt, Unsealed, Window
from cfaudit_export.errors import SinkError
from cfaudit_export.pipeline.commit import LoadedWindow, cover, intend, observe, withdraw
from cfaudit_export.pipeline.dedup.missing import NewRows, SinkNeed, is_lacked, new_rows_of
from cfaudit_export.pipeline.dedup.shadows import name_shadows
from cfaudit_export.pipeline.destination import Destinations
from cfaudit_export.pipeline.doubt import Answered, Doubt
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.pipeline.load import SinkRun
from cfaudit_export.pipeline.plan import Plan
from cfaudit_export.pipeline.proving import unsealed_of
from cfaudit_export.pipeline.quarantine import Quarantine
from cfaudit_export.pipeline.run_context import RunContext
from cfaudit_export.pipeline.stage import Stagings
from cfaudit_export.pipeline.transform import transformed
from cfaudit_export.plugin.interfaces import Extract

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SinkPart:
    """A sink's share of a piece, and the batch of what is new there, if anything is."""

    sink_run: SinkRun
    new_rows: NewRows
    batch: Batch | None

    def intent(self) -> Iterator[tuple[str, Intent]]:
        """Yield the sink and what is promised to it, if anything is."""
        if batch := self.batch:
            new_rows = self.new_rows
            kept = new_rows.seen, new_rows.late.count, new_rows.trimming
            intent = Intent(batch.batch_id, batch.window, batch.rows, batch.digest, *kept)
            yield self.sink_run.name, intent

    def answered(self, receipt: Receipt) -> Answered:
        """Return what the sink said of the batch."""
        new_rows = self.new_rows
        return Answered(receipt, self.batch, new_rows.window, new_rows.seen, new_rows.late.count, new_rows.trimming)

    def covered(self, unsealed: tuple[Unsealed, ...] | None) -> LoadedWindow:
        """Return what the sink has without a batch, as nothing in the window is new."""
        new_rows = self.new_rows
        return LoadedWindow(
            self.sink_run.name, new_rows.window, new_rows.seen, trimming=new_rows.trimming, unsealed=unsealed
        )


class Delivery:
    """What a run does with a piece; it keeps the order in which things become durable."""

    def __init__(
        self, context: RunContext, ledger: Ledger, sink_runs: Mapping[str, SinkRun], quarantine: Quarantine
    ) -> None:
        """Build it.

        Args:
            context: what the run is given.
            ledger: the checkpoint, open for writing.
            sink_runs: the sinks by name; one that fails is left alone from then on.
            quarantine: takes what sinks refuse for good.
        """
        self._context = context
        self._ledger = ledger
        self._sink_runs = sink_runs
        self._quarantine = quarantine
        self._places = Destinations(context, ledger)
        self._stagings = Stagings(context.staging / context.stream.id, frozenset(context.transforms.of_sinks))
        self._doubts = {name: Doubt() for name in sink_runs}
        self._last_run_at = ledger.checkpoint.updated_at

    def alive(self) -> list[SinkRun]:
        """Return the sinks that have not failed."""
        return [sink_run for sink_run in self._sink_runs.values() if not sink_run.error]

    def needs(self, plan: Plan, horizon: datetime) -> Iterator[tuple[SinkRun, SinkNeed]]:
        """Yield the sinks that have not failed, and what each is to have."""
        for sink_run in self.alive():
            held = self._doubts[sink_run.name].windows()
            windows, rescan = subtract(plan.needs(sink_run.name), held), subtract(plan.rescan[sink_run.name], held)
            account, progress = self._context.stream.account_id, self._ledger.progress(sink_run.name)
            yield sink_run, SinkNeed(account, windows, rescan, progress, horizon, self._last_run_at)

    # -- what an earlier run promised ---------------------------------------------------------------

    def refuse_other_places(self) -> None:
        """Fail the sinks that would go on in another destination than they have delivered to."""
        for name, error in self._places.refused().items():
            self._sink_runs[name].fail(error)

    def settle_leftovers(self) -> None:
        """Load what an earlier run promised, and remove what it staged and did not promise."""
        for sink_run in self._sink_runs.values():
            for intent in self._ledger.progress(sink_run.name).intents:
                if not sink_run.error:
                    self._settle(sink_run, intent)
        self._stagings.sweep(set(self._ledger.promised()))

    def _settle(self, sink_run: SinkRun, intent: Intent) -> None:
        """Load a promised batch again, or ask the sink for it where the staged file is lost."""
        batch = self._stagings.of(sink_run.name).find(intent, self._ledger.earlier)
        receipt = sink_run.load(batch) if batch else sink_run.find(intent)
        if sink_run.error:
            return
        # Neither here nor there: it never arrived, or all of it was refused. Its window is read again.
        if receipt is None or not (batch or receipt.rows):
            _LOG.warning("batch lost, reading again", extra={"sink": sink_run.name, "batch": intent.batch_id})
            self._ledger.write(withdraw(sink_run.name, intent.batch_id), self._context.clock())
            return
        answered = Answered(receipt, batch, intent.window, intent.seen, intent.late_rows, intent.trimming)
        self._places.write(cover(self._accept(sink_run, answered), self._context.horizon(intent.window.before)))

    # -- a piece ------------------------------------------------------------------------------------

    def promise(self, extract: Extract, table: pa.Table, plan: Plan, horizon: datetime) -> list[SinkPart]:
        """Stage what is new in a piece for each sink, and promise it: it is loaded, whatever happens.

        Args:
            extract: the piece; its events are not looked at.
            table: its rows, mapped.
            plan: what the run is to do.
            horizon: from here on keys are remembered.
        """
        trace = self._context.trace
        with trace("stage") as facts:
            parts = list(self._parts(table, extract, plan, horizon))
            facts.update(rows=sum(part.batch.rows for part in parts if part.batch))
        shares = [part.new_rows for part in parts]
        late = max((new_rows.late for new_rows in shares), key=lambda late: late.count, default=Lateness())
        # The gaps are written with the promise: settling it after a crash then covers the window.
        gaps = [gap for gap in extract.gaps if is_lacked(shares, gap)]
        observed = observe(extract.window, name_shadows(gaps, table), late)
        promised = intend([promise for part in parts for promise in part.intent()], horizon)
        with trace("promise"):
            self._ledger.write(lambda checkpoint: promised(observed(checkpoint)), self._context.clock())
        return parts

    def _parts(self, table: pa.Table, extract: Extract, plan: Plan, horizon: datetime) -> Iterator[SinkPart]:
        staged: list[tuple[pa.Table, Batch]] = []
        for sink_run, need in self.needs(plan, horizon):
            for new_rows, new in new_rows_of(table, extract, need):
                own = self._context.transforms.of_sink(sink_run.name)
                rows = transformed(new, own) if new.num_rows else new
                batch = self._stage(sink_run.name, rows, new_rows.window, staged) if rows.num_rows else None
                yield SinkPart(sink_run, new_rows, batch)

    def _stage(self, sink: str, rows: pa.Table, window: Window, staged: list[tuple[pa.Table, Batch]]) -> Batch:
        """Stage rows once, however many sinks lack them; those of a sink with transforms of its own apart."""
        is_apart = sink in self._stagings.apart
        for others, known in () if is_apart else staged:
            if all(others[name].equals(rows[name]) for name in ("event_id", "replaces")):
                return replace(known, window=window)
        batch = self._stagings.of(sink).stage(rows, self._context.stream, window, self._promised(sink))
        if not is_apart:
            staged.append((rows, batch))
        return batch

    def load(self, parts: list[SinkPart], horizon: datetime) -> int:
        """Load the parts, only then call the piece covered, and return how many rows were taken by all sinks together.

        One sink after the other, in this thread, because a run that is told to stop can break off a load only in its
        own thread, and a sink that fails is left alone, so that it holds the others back once at most.
        """
        loaded = []
        for part in parts:
            sink_run, batch = part.sink_run, part.batch
            if sink_run.error:
                continue
            if batch is None:
                loaded.append(part.covered(() if sink_run.name in self._context.manifests else None))
                continue
            with self._context.trace("load") as told:
                told.update(sink=sink_run.name, batch=batch.batch_id, rows=batch.rows)
                receipt = sink_run.load(batch)
                told.update(loaded=receipt is not None)
            if receipt is not None:
                loaded += self._accept(sink_run, part.answered(receipt))
        with self._context.trace("commit"):
            self._places.write(cover(loaded, horizon))
        self._forget({one.batch_id for one in loaded if one.batch_id})
        return sum(one.receipt.rows for one in loaded if one.receipt)

    def conclude(self) -> None:
        """End what is still in doubt: batches that sinks took nothing of are quarantined if few, or else withdrawn."""
        for sink_run in self._sink_runs.values():
            doubt = self._doubts[sink_run.name]
            few = [] if sink_run.error else doubt.few()
            for one in few:
                self._places.write(cover(self._kept(sink_run, [one]), self._context.horizon(one.window.before)))
            withdrawn, error = doubt.close()
            if error and not sink_run.error:
                sink_run.fail(error)
            for one in withdrawn:
                self._ledger.write(withdraw(sink_run.name, one.receipt.batch_id), self._context.clock())
            self._forget({one.receipt.batch_id for one in [*few, *withdrawn]})

    def is_settled(self, sink_run: SinkRun) -> bool:
        """Tell whether a sink has all that it was given in this run."""
        return not (sink_run.error or self._doubts[sink_run.name].windows())

    def _forget(self, batch_ids: set[str]) -> None:
        """Remove staged batches that are promised to no sink any more."""
        for sink in ("", *self._stagings.apart):
            for batch_id in batch_ids - set(self._promised(sink)):
                self._stagings.of(sink).remove(batch_id)

    def _promised(self, sink: str) -> dict[str, Intent]:
        """Return what is promised to a sink that is apart, or to all that are not."""
        apart = self._stagings.apart
        return self._ledger.promised(but=self._ledger.checkpoint.sinks.keys() - {sink} if sink in apart else apart)

    def _accept(self, sink_run: SinkRun, answered: Answered) -> list[LoadedWindow]:
        """Return what counts as delivered with a sink's answer: its batch, and those that were in doubt until then."""
        doubt = self._doubts[sink_run.name]
        certain = doubt.judge(answered)
        if error := doubt.fault(self._ledger.progress(sink_run.name).covered):
            sink_run.fail(error)
        return self._kept(sink_run, certain)

    def _kept(self, sink_run: SinkRun, certain: list[Answered]) -> list[LoadedWindow]:
        return [self._counted(sink_run, one) for one in certain if self._keep_refused(sink_run, one)]

    def _counted(self, sink_run: SinkRun, one: Answered) -> LoadedWindow:
        """Return what counts as delivered with a batch, and what the next manifest is to say of it."""
        unsealed, receipt = None, one.receipt
        if place := self._context.manifests.get(sink_run.name):
            with self._context.trace("digest"):
                has_key, late = bool(place.keys), one.late_rows
                unsealed = unsealed_of(one.batch, receipt, one.window, late_rows=late, with_rows=has_key)
        return LoadedWindow(
            sink_run.name, one.window, one.seen, receipt.batch_id, receipt, one.trimming, unsealed=unsealed
        )

    def _keep_refused(self, sink_run: SinkRun, answered: Answered) -> bool:
        """Quarantine what the sink refused, before its batch counts as delivered; False if the sink makes no sense."""
        receipt, batch = answered.receipt, answered.batch
        if receipt.rejected:
            facts = {"sink": sink_run.name, "batch": receipt.batch_id, "events": len(receipt.rejected)}
            if batch is None:
                _LOG.error("events refused by the sink are lost with their staged file", extra=facts)
                sink_run.count(receipt, answered.late_rows)
                return True
            try:
                self._quarantine.add(sink_run.name, batch, receipt.rejected)
            except SinkError as error:
                sink_run.fail(error)
                return False
            _LOG.warning("events refused by the sink are quarantined", extra=facts)
        sink_run.count(receipt, answered.late_rows)
        if batch is not None:
            self._context.after_load(batch, receipt)
        return True
